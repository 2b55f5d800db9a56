"""Decisions and limits as they are answered: amounts in their units, and why in a sentence."""

from typing import Final

import msgspec
from msgspec.structs import asdict

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Scope as MadeScope
from sluicegate_schemas.wire_decision import WireDecision, WireScope

from .answers import in_count, in_credits
from .models import Cause, Decision, Place, Scope

MONEY: Final = frozenset({"credits", "budget_day", "budget_month"})
REASONS: Final = {
    "requests_per_second": "This key sent more requests than its second allows.",
    "requests_per_minute": "This key sent more requests than its minute allows.",
    "concurrency": "As many requests run at a time as the organization may have.",
    "credits": "The month's credits are used up; operations that cost nothing go on.",
    "budget_day": "The budget of the day is used up.",
    "budget_month": "The budget of the month is used up.",
    "operation_interval": "This was asked for a moment ago.",
    "operation_concurrency": "As many of these run at a time as may.",
    "operation_quantity": "The minute's amount of this operation is used up.",
    "objects_per_batch": "A batch holds more objects than it may.",
    "operation_results": "More results were asked for than one query gives.",
}
"""Why, in a sentence; see ``reason``."""


def reason(limit_name: str) -> str:
    """What it means that a limit fired."""
    if limit_name.startswith("quota_"):
        return f"The quota of {limit_name.removeprefix('quota_').replace('_', ' ')} is reached; deleting makes room."
    if limit_name.endswith("_per_minute") and limit_name not in REASONS:
        category = limit_name.removesuffix("_per_minute")
        return f"This key sent more {category} requests than its minute allows."
    return REASONS.get(limit_name, "A limit is reached.")


def amount(limit_name: str, value: int) -> msgspec.Raw:
    """Of a limit on money in credits, else a count."""
    return in_credits(value) if limit_name in MONEY else in_count(value)


def scope_of(scope: MadeScope | WireScope) -> Scope:
    """A scope as it is answered."""
    return Scope.model_construct(
        kind=scope.kind,
        id=scope.id,
        operation=scope.operation,
        subject=scope.subject,
        label=scope.label,
        category=scope.category,
    )


def decision_of(made: WireDecision, organization_id: str) -> Decision:
    """A decision as ``organization_id`` may see it: another member of its pool is not named."""
    cause = made.cause
    return Decision.model_construct(
        decision_id=made.decision_id,
        scope=scope_of(made.scope),
        verdict=made.verdict,
        limit_name=made.limit_name,
        limit=amount(made.limit_name, made.limit),
        observed=amount(made.limit_name, made.observed),
        reason=reason(made.limit_name) if made.verdict == "block" else None,
        until=None if made.until_ms is None else from_epoch_ms(made.until_ms),
        tier=made.tier,
        plan_version=made.plan_version,
        cause=None
        if cause is None or cause.organization_id != organization_id
        else Cause.model_construct(
            event_id=cause.event_id,
            ts=from_epoch_ms(cause.ts_ms),
            logged_at=from_epoch_ms(cause.logged_at_ms),
            position=Place.model_construct(**asdict(cause.position)),
        ),
        decided_at=from_epoch_ms(made.decided_at_ms),
    )
