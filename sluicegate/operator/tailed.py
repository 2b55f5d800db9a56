"""The records of the workers' topics as operators see them: what cannot be read is shown by its place alone, never its
content."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final, Literal

from pydantic import ValidationError

from sluicegate_schemas import topics
from sluicegate_schemas.alerts import ALERT, AuditDrift, UsageAlert
from sluicegate_schemas.bounds import Record, from_epoch_ms
from sluicegate_schemas.outputs import Decision, Lease, Reject, TrailEntry
from sluicegate_schemas.topics import Topic

from .decisions import read_decision
from .log_page import Page, log_page
from .logs import LogRecord
from .system import System

Shown = Decision | Lease | AuditDrift | UsageAlert | Reject | TrailEntry
Tailed = Literal["decisions", "alerts", "rejects", "trail"]
"""What can be looked through."""


class TailedRecord(Record):
    """One record as ``tail`` shows it; ``record`` is the topic's own (schemas/json), null where it was forgotten or
    cannot be read."""

    topic: str
    partition: int
    offset: int
    logged_at: datetime
    readable: bool
    record: dict[str, object] | None


READERS: Final[dict[str, tuple[Topic, Callable[[bytes], Shown]]]] = {
    "decisions": (topics.DECISIONS, read_decision),
    "alerts": (topics.ALERTS, ALERT.validate_json),
    "rejects": (topics.REJECTS, Reject.model_validate_json),
    "trail": (topics.TRAIL, TrailEntry.model_validate_json),
}
"""The topic and how its records are read."""


def read_record(record: LogRecord, read: Callable[[bytes], Shown]) -> tuple[TailedRecord, Shown | None]:
    """A record as it is shown, and what it holds."""
    content: Shown | None = None
    readable = True
    if record.value is not None:
        try:
            content = read(record.value)
        except ValidationError:
            readable = False
    shown = TailedRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        logged_at=from_epoch_ms(record.timestamp),
        readable=readable,
        record=None if content is None else content.model_dump(mode="json"),
    )
    return shown, content


async def tail_page(
    system: System,
    what: Tailed,
    *,
    limit: int,
    about: Collection[str] | None = None,
    before: Mapping[int, int] | None = None,
) -> Page[TailedRecord]:
    """The newest ``limit`` records below ``before``; with ``about`` those on one of these organizations, accounts or
    keys. Raises TopicsMissingError and KafkaError."""
    topic, read = READERS[what]

    def wanted(record: LogRecord) -> TailedRecord | None:
        shown, content = read_record(record, read)
        if about is None:
            return shown
        return shown if content is not None and not about_whom(content).isdisjoint(about) else None

    return await log_page(system, topic, wanted, limit=limit, before=before)


def about_whom(content: Shown) -> set[str]:
    """The ids of the organizations, accounts and keys that a record says it is about."""
    found: set[str | None] = set()
    match content:
        case Decision() | Lease():
            found = {content.scope.id}
        case UsageAlert():
            found = {content.scope.id, content.organization_id or content.account_id}
        case TrailEntry():
            found = {content.account_id, content.organization_id}
        case AuditDrift() | Reject():
            found = {content.organization_id}
    return {one for one in found if one is not None}
