"""``GET /v1/organizations/projection``: where the month ends, and when the credits run dry."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from sluicegate_schemas.bounds import from_epoch_ms

from ..answers import answer, in_credits, shown_as
from ..auth import ReadsUsage
from ..freshness import history_reached
from ..models import Projection as Shown
from ..parts import Parts
from ..problems import ProblemError
from ..projections import Projections

router = APIRouter(tags=["usage"])


@router.get("/v1/organizations/projection", **shown_as(Shown))
async def projection(request: Request, caller: ReadsUsage) -> Response:
    """The month-end use and the time of exhaustion, each with the interval that holds four times of five; made at most
    a minute ago."""
    parts: Parts = request.app.state.parts
    projections: Projections = request.app.state.projections
    made_at, found = await projections.of(caller.organization_id)
    if found is None:
        raise ProblemError(404, "There is no usage yet to make a projection from.")
    as_of_ms, lag_ms = await history_reached(parts, caller.account_id)
    return answer(
        Shown.model_construct(
            as_of=from_epoch_ms(as_of_ms),
            lag_ms=lag_ms,
            final=False,
            made_at=made_at,
            used=in_credits(found.used_micro),
            projected=in_credits(found.projected_micro),
            low=in_credits(found.low_micro),
            high=in_credits(found.high_micro),
            exhausted_at=found.exhausted_at,
            exhausted_early=found.exhausted_early,
            exhausted_late=found.exhausted_late,
            last_hour=in_credits(found.last_hour_micro),
            last_day=in_credits(found.last_day_micro),
            history_hours=found.history_hours,
            level=found.level,
            interval_is_learnt=found.interval_is_learnt,
        )
    )
