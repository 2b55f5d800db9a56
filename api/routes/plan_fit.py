"""``GET /v1/organizations/plan-fit``: what a month would have come to on each plan."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.plan_fit import PlanFit

from ..answers import answer, in_credits, shown_as, some_credits
from ..auth import ReadsUsage
from ..balances import month_of
from ..comparisons import Comparisons
from ..models import MonthOnPlan, MonthOnPlans
from ..parts import Parts
from ..problems import away
from .usage import MonthQuery

router = APIRouter(tags=["usage"])


@router.get("/v1/organizations/plan-fit", **shown_as(MonthOnPlans))
async def plan_fit(request: Request, caller: ReadsUsage, month: MonthQuery = None) -> Response:
    """What the organization's own use of a month would have come to on each plan that is in force now, with the plan's
    own limits, as if the organization stood alone: of a pool neither its other members' use nor its credits are in it,
    whoever pays. Made at most five minutes ago."""
    parts: Parts = request.app.state.parts
    comparisons: Comparisons = request.app.state.comparisons
    view = parts.knowledge.view
    organization, catalogue = view.organization(caller.organization_id), view.catalogue_at(parts.clock())
    if organization is None or catalogue is None:
        raise away("The plan is not known yet")
    wanted = month or month_of(parts.clock())
    found = await comparisons.of(caller, catalogue, wanted)
    return answer(
        MonthOnPlans.model_construct(
            as_of=from_epoch_ms(found.as_of_ms),
            lag_ms=found.lag_ms,
            final=False,
            month=wanted,
            tier=organization.tier,
            plan_version=found.fits.plan_version,
            plans=[_shown(fit, catalogue) for fit in found.fits.fits],
        )
    )


def _shown(fit: PlanFit, catalogue: Catalogue) -> MonthOnPlan:
    return MonthOnPlan.model_construct(
        tier=fit.tier,
        total=some_credits(fit.total_micro),
        paid=in_credits(fit.used_micro - fit.beyond_micro),
        beyond=in_credits(fit.beyond_micro),
        ran_out_at=fit.ran_out_at,
        requests=fit.requests,
        throttled=None if catalogue.plans[fit.tier].rates is None else fit.throttled,
    )
