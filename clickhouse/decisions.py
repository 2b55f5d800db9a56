"""Decision records to rows of the decision table: pure, one object a partition of the decisions topic.

Leases, which the topic carries too, are the gateways' alone: they are passed over.
"""

from typing import Final, NamedTuple

from sluicegate_schemas.outputs import is_lease_key
from sluicegate_schemas.wire_decision import WireDecision, WirePosition, decode_decision

from .cursor import LogRecord
from .record_rows import RecordRows

_NOWHERE: Final = ("", 0, 0, 0)


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
    organization_id: str


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
        decision.organization_id or _owner(decision),
    )


def _owner(decision: WireDecision) -> str:
    """Whose the scope is, as far as a record says that does not name it; as the column's default does."""
    if decision.scope.kind != "key":
        return decision.scope.id
    return decision.cause.organization_id if decision.cause else ""


def _place(position: WirePosition) -> tuple[str, int, int, int]:
    return position.topic, position.partition, position.offset, position.index


class DecisionRows(RecordRows[DecisionRow]):
    """The rows of one partition's decisions."""

    def row_of(self, record: LogRecord) -> DecisionRow | None:
        """None for what the topic forgets, since the history does not, and for a lease, which is for one node."""
        if record.value is None or is_lease_key(record.key):
            return None
        return decision_row(decode_decision(record.value))
