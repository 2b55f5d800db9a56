"""``GET /v1/organizations/sla``: availability and latency of a month, as the workers measured them."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..answers import answer, shown_as
from ..auth import ReadsUsage
from ..balances import month_of
from ..freshness import balances_reached
from ..models import ServiceLevel
from ..months import month_over
from ..parts import Parts
from ..problems import ProblemError
from .usage import MonthQuery, held_balance

router = APIRouter(tags=["organization"])


@router.get("/v1/organizations/sla", **shown_as(ServiceLevel))
async def sla(request: Request, caller: ReadsUsage, month: MonthQuery = None) -> Response:
    """How the organization's requests of a month were served. Of a month before the last, 404 where its end was not
    seen, or nothing was used."""
    parts: Parts = request.app.state.parts
    wanted = month or month_of(parts.clock())
    if parts.balances.keeps(wanted, parts.clock()):
        held = held_balance(parts, "organization", caller.organization_id, wanted)
    else:
        held = await month_over(parts, caller.organization_id, "organization", caller.organization_id, wanted)
        if held is None:
            raise ProblemError(404, "No service levels are kept of this month.")
    served = None if held is None else held.balance.served
    return answer(
        ServiceLevel.model_construct(
            **balances_reached(parts, held),
            month=wanted,
            requests=0 if served is None else served.requests,
            failures=0 if served is None else served.failures,
            availability=None if served is None else _availability(served.requests, served.failures),
            latency_p50_ms=None if served is None else served.p50_ms,
            latency_p99_ms=None if served is None else served.p99_ms,
        )
    )


def _availability(requests: int, failures: int) -> float:
    """The share of requests that did not fail, rounded down to six places: a single failure shows."""
    return (requests - failures) * 1_000_000 // requests / 1_000_000
