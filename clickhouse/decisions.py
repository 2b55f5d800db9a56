"""Decision records to rows of the decision table: pure, one object a partition of the decisions topic.

Leases, which the topic carries too, are the gateways' alone: they are passed over.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sluicegate_schemas.outputs import is_lease_key
from sluicegate_schemas.wire_checks import Malformed
from sluicegate_schemas.wire_decision import WireDecision, WirePosition, decode_decision

from .cursor import LogRecord

_NOWHERE: Final = ("", 0, 0, 0)


class DecisionFormatError(ValueError):
    """A record on the decisions topic that this release cannot read."""


class DecisionRow(NamedTuple):
    """A row of the decision table, in the order of its columns; times in milliseconds since the epoch."""

    decision_id: str
    scope_kind: str
    scope_id: str
    operation: str
    subject: str
    label: str
    category: str
    limit_name: str
    verdict: str
    limit_value: int
    observed: int
    until: int | None
    tier: str
    plan_version: int
    cause_topic: str
    cause_partition: int
    cause_offset: int
    cause_index: int
    cause_event_id: str
    cause_organization_id: str
    cause_ts: int | None
    cause_logged_at: int | None
    decided_at: int
    version: int


def decision_row(decision: WireDecision) -> DecisionRow:
    """The decision as a row; its version orders all decisions of a scope and limit."""
    scope, cause = decision.scope, decision.cause
    return DecisionRow(
        decision.decision_id,
        scope.kind,
        scope.id,
        scope.operation or "",
        scope.subject or "",
        scope.label or "",
        scope.category or "",
        decision.limit_name,
        decision.verdict,
        decision.limit,
        decision.observed,
        decision.until_ms,
        decision.tier,
        decision.plan_version,
        *(_place(cause.position) if cause else _NOWHERE),
        cause.event_id if cause else "",
        cause.organization_id if cause else "",
        cause.ts_ms if cause else None,
        cause.logged_at_ms if cause else None,
        decision.decided_at_ms,
        decision.sequence.epoch << 64 | decision.sequence.counter,
    )


def _place(position: WirePosition) -> tuple[str, int, int, int]:
    return position.topic, position.partition, position.offset, position.index


class DecisionRows:
    """Turns one partition's decisions, in log order, into rows. ``source`` is ``topic/partition``."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows: list[DecisionRow] = []

    def __len__(self) -> int:
        """How many rows wait to be taken."""
        return len(self._rows)

    def feed(self, records: Iterable[LogRecord]) -> None:
        """Takes in the next records. Raises DecisionFormatError, naming the offset, for one that is no decision."""
        for record in records:
            if record.value is None:
                continue  # the scope's last decision is forgotten by the topic, not by the history
            if is_lease_key(record.key):
                continue  # an answer to one node, of which no history is kept
            try:
                self._rows.append(decision_row(decode_decision(record.value)))
            except Malformed as error:
                raise DecisionFormatError(f"{self._source}, offset {record.offset}: {error}") from error

    def take(self) -> list[DecisionRow]:
        """What came since the last call."""
        rows, self._rows = self._rows, []
        return rows
