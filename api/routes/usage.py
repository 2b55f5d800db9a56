"""``GET /v1/organizations/usage``: the credits of a month, of the organization or of one of its keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from sluicegate_schemas.bounds import API_KEY_ID_PATTERN, from_epoch_ms

from ..answers import answer, in_credits, shown_as, some_credits
from ..auth import Caller, Customer
from ..balances import BalanceTable, Held, month_end, month_of
from ..models import CreditsOfMonth, Usage
from ..parts import Parts
from ..problems import away, not_found

router = APIRouter(tags=["usage"])

MonthQuery = Annotated[
    str | None, Query(pattern=r"^20[2-9][0-9]-(0[1-9]|1[0-2])$", description="YYYY-MM; without it, the month that runs")
]


@router.get("/v1/organizations/usage", **shown_as(Usage))
async def organization_usage(request: Request, caller: Customer, month: MonthQuery = None) -> Response:
    """The organization's credits, used and left, and what they went into."""
    parts: Parts = request.app.state.parts
    wanted = month or month_of(parts.clock())
    held = _held(parts, "organization", caller.organization_id, wanted)
    return answer(_usage(parts, held, wanted, _plan_micro(parts, caller)))


@router.get("/v1/organizations/usage/api-keys/{key_id}", **shown_as(Usage))
async def key_usage(
    request: Request,
    caller: Customer,
    key_id: Annotated[str, Path(pattern=API_KEY_ID_PATTERN)],
    month: MonthQuery = None,
) -> Response:
    """The same of one key of the organization; a key has no credits of its own, so no total."""
    parts: Parts = request.app.state.parts
    wanted = month or month_of(parts.clock())
    held = _held(parts, "key", key_id, wanted)
    if held is None and key_id != caller.api_key_id:
        raise not_found("key")
    if held is not None and held.balance.organization_id != caller.organization_id:
        raise not_found("key")
    return answer(_usage(parts, held, wanted, None))


def _held(parts: Parts, kind: str, identifier: str, month: str) -> Held | None:
    table: BalanceTable = parts.balances
    if not parts.balances_from.ready:
        raise away("Balances are not known yet")
    held = table.get(kind, identifier, month)
    if held is None and not table.complete:
        raise away("This balance cannot be told")
    if held is None and not table.keeps(month, parts.clock()):
        raise not_found("month")
    return held


def _plan_micro(parts: Parts, caller: Caller) -> int | None:
    """The credits that a month has before anything is used in it."""
    view = parts.knowledge.view
    payer, catalogue = view.organization(caller.account_id), view.catalogue_at(parts.clock())
    if payer is None or catalogue is None:
        raise away("The plan is not known yet")
    return catalogue.credits_micro_per_month(payer.tier, payer.credits_micro_per_month)


def _usage(parts: Parts, held: Held | None, month: str, plan_micro: int | None) -> Usage:
    stale_ms = parts.balances_from.staleness_ms or 0
    reset_date = month_end(month)
    if held is None:
        nothing = in_credits(0)
        total = some_credits(plan_micro)
        return Usage.model_construct(
            as_of=from_epoch_ms(parts.clock() - stale_ms),
            lag_ms=stale_ms,
            final=False,
            month=month,
            credits=CreditsOfMonth.model_construct(
                total=total, used=nothing, remaining=total, reset_date=reset_date,
                granted=nothing, overage=nothing, lent=nothing,
            ),
            breakdown={},
            requests=0,
            corrections={},
        )  # fmt: skip
    balance = held.balance
    total_micro = balance.total_micro
    return Usage.model_construct(
        as_of=balance.as_of,
        lag_ms=held.lag_ms + stale_ms,
        final=balance.final,
        month=month,
        credits=CreditsOfMonth.model_construct(
            total=some_credits(total_micro),
            used=in_credits(balance.used_micro),
            remaining=None if total_micro is None else in_credits(max(0, total_micro - balance.used_micro)),
            reset_date=reset_date,
            granted=in_credits(balance.granted_micro),
            overage=in_credits(balance.overage_micro),
            lent=in_credits(balance.lent_micro),
        ),
        breakdown={name: in_credits(micro) for name, micro in balance.breakdown_micro.items()},
        requests=balance.requests,
        corrections={name: in_credits(micro) for name, micro in balance.corrections_micro.items()},
    )
