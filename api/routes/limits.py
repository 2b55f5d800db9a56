"""``GET /v1/organizations/limits``: what limits the organization now, how much is used, and what is blocked."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.wire_decision import WireDecision

from ..answers import answer, shown_as
from ..auth import ReadsLimits
from ..models import LimitInForce, Limits
from ..parts import Parts
from ..verdicts import amount, decision_of, scope_of

router = APIRouter(tags=["limits"])


@router.get("/v1/organizations/limits", **shown_as(Limits))
async def limits(request: Request, caller: ReadsLimits) -> Response:
    """The limits that the workers speak of, how much of each was used when they last did, and the blocks that stand."""
    parts: Parts = request.app.state.parts
    now_ms, stale_ms = parts.clock(), parts.knowledge_stale_ms
    standing = [
        decision
        for decision in parts.directory.standing(caller.organization_id, caller.account_id)
        if decision.until_ms is None or decision.until_ms > now_ms
    ]
    return answer(
        Limits.model_construct(
            as_of=from_epoch_ms(now_ms - stale_ms),
            lag_ms=stale_ms,
            final=False,
            limits=[_in_force(decision) for decision in standing],
            decisions=[
                decision_of(decision, caller.organization_id) for decision in standing if decision.verdict == "block"
            ],
        )
    )


def _in_force(decision: WireDecision) -> LimitInForce:
    return LimitInForce.model_construct(
        limit_name=decision.limit_name,
        scope=scope_of(decision.scope),
        limit=amount(decision.limit_name, decision.limit),
        used=amount(decision.limit_name, decision.observed),
        utilization=round(decision.observed / decision.limit, 4) if decision.limit else None,
        told_at=from_epoch_ms(decision.decided_at_ms),
    )
