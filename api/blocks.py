"""Blocks as operators see them."""

from sluicegate.follower.entries import Verdict
from sluicegate_schemas.bounds import Record, Time, from_epoch_ms
from sluicegate_schemas.limits import LimitName
from sluicegate_schemas.wire_decision import WireDecision


class Block(Record):
    """A block in force. ``organization_id`` is null where the scope is a key that is not known here."""

    decision_id: str
    organization_id: str | None
    scope: str
    limit_name: LimitName
    limit: int
    observed: int
    decided_at: Time
    until: Time | None


def block_of(one: Verdict | WireDecision, organization_id: str | None) -> Block:
    """Of a verdict that stands, or as it comes."""
    return Block(
        decision_id=one.decision_id,
        organization_id=organization_id,
        scope=one.scope if isinstance(one.scope, str) else one.scope.text(),
        limit_name=one.limit_name,
        limit=one.limit,
        observed=one.observed,
        decided_at=from_epoch_ms(one.decided_at_ms),
        until=None if one.until_ms is None else from_epoch_ms(one.until_ms),
    )
