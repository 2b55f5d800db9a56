"""``GET /v1/organizations/usage/labels``: what requests with a label used in a month (budgets are of labels, too)."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..answers import answer, in_credits, shown_as
from ..auth import ReadsUsage
from ..balances import Balance, month_of
from ..freshness import balances_reached
from ..models import LabelUsage, UsageByLabel
from ..parts import Parts
from ..problems import ProblemError, away
from .usage import MonthQuery

router = APIRouter(tags=["usage"])


@router.get("/v1/organizations/usage/labels", **shown_as(UsageByLabel))
async def labels(request: Request, caller: ReadsUsage, month: MonthQuery = None) -> Response:
    """The organization's labels of this month or the last, with what each used; by the hour and of older months
    ``/v1/organizations/usage/series`` tells it."""
    parts: Parts = request.app.state.parts
    now_ms = parts.clock()
    wanted = month or month_of(now_ms)
    if not parts.balances.keeps(wanted, now_ms):
        raise ProblemError(404, "Labels are kept of this month and the last.")
    if not parts.balances_from.ready:
        raise away("Balances are not known yet")
    if not parts.balances.is_complete(wanted):
        raise away("Not all balances can be told")
    found = sorted(
        parts.balances.labels(caller.organization_id, wanted),
        key=lambda held: (-held.balance.used_micro, held.balance.label),
    )
    newest = max(found, key=lambda held: held.balance.as_of, default=None)
    return answer(
        UsageByLabel.model_construct(
            **balances_reached(parts, newest),
            month=wanted,
            labels=[_shown(held.balance) for held in found],
        )
    )


def _shown(balance: Balance) -> LabelUsage:
    return LabelUsage.model_construct(
        label=balance.label or "",
        used=in_credits(balance.used_micro),
        breakdown={name: in_credits(micro) for name, micro in balance.breakdown_micro.items()},
        requests=balance.requests,
        as_of=balance.as_of,
    )
