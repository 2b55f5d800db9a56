"""The audit trail, the newest first, a page at a time."""

from collections.abc import Mapping

from pydantic import ValidationError

from sluicegate_schemas.outputs import TrailEntry
from sluicegate_schemas.topics import TRAIL

from .log_page import Page, log_page
from .logs import LogRecord
from .system import System


async def trail_page(
    system: System, *, limit: int, account_id: str | None = None, before: Mapping[int, int] | None = None
) -> Page[TrailEntry]:
    """The newest ``limit`` entries, of one account if named, below ``before``; what cannot be read is left out. Raises
    TopicsMissingError and KafkaError."""

    def read(record: LogRecord) -> TrailEntry | None:
        try:
            entry = TrailEntry.model_validate_json(record.value or b"")
        except ValidationError:
            return None
        return entry if account_id in (None, entry.account_id) else None

    return await log_page(system, TRAIL, read, limit=limit, account_id=account_id, before=before)
