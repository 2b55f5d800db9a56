"""``GET /v1/organizations/usage``: the credits of a month, of the organization or of one of its keys."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from clickhouse.queries import month_range, usage_by
from sluicegate_schemas.bounds import API_KEY_ID_PATTERN, from_epoch_ms

from ..answers import Credits, answer, in_credits, shown_as, some_credits
from ..auth import Caller, ReadsUsage
from ..balances import Held, month_end, month_of
from ..freshness import balances_reached, history_reached
from ..models import GROUPS, CreditsOfMonth, Usage
from ..months import month_over
from ..parts import Parts
from ..problems import away, not_found

router = APIRouter(tags=["usage"])

MonthQuery = Annotated[
    str | None, Query(pattern=r"^20[2-9][0-9]-(0[1-9]|1[0-2])$", description="YYYY-MM; without it, the month that runs")
]


@router.get("/v1/organizations/usage", **shown_as(Usage))
async def organization_usage(request: Request, caller: ReadsUsage, month: MonthQuery = None) -> Response:
    """The organization's credits, used and left, and what they went into. A month of which the
    end was not seen has no total, is told by time of use, and is not final."""
    parts: Parts = request.app.state.parts
    wanted = month or month_of(parts.clock())
    if not parts.balances.keeps(wanted, parts.clock()):
        with parts.shares.taken(caller.organization_id):
            return answer(await _past(parts, caller, wanted))
    return answer(usage_of_month(parts, caller, wanted))


@router.get("/v1/organizations/usage/api-keys/{key_id}", **shown_as(Usage))
async def key_usage(
    request: Request,
    caller: ReadsUsage,
    key_id: Annotated[str, Path(pattern=API_KEY_ID_PATTERN)],
    month: MonthQuery = None,
) -> Response:
    """The same of one key of the organization; a key has no credits of its own, so no total."""
    parts: Parts = request.app.state.parts
    if not parts.directory.has_key(caller.organization_id, key_id):
        raise not_found("key")
    wanted = month or month_of(parts.clock())
    if not parts.balances.keeps(wanted, parts.clock()):
        with parts.shares.taken(caller.organization_id):
            return answer(await _past(parts, caller, wanted, key_id))
    held = held_balance(parts, "key", key_id, wanted)
    if held is not None and held.balance.organization_id != caller.organization_id:
        raise not_found("key")  # an operator gave two organizations a key of one id
    return answer(usage_of(parts, held, wanted, None))


def held_balance(parts: Parts, kind: str, identifier: str, month: str) -> Held | None:
    if not parts.balances_from.ready:
        raise away("Balances are not known yet")
    held = parts.balances.get(kind, identifier, month)
    if held is None and not parts.balances.is_complete(month):
        raise away("This balance cannot be told")
    return held


async def _past(parts: Parts, caller: Caller, month: str, api_key_id: str = "") -> Usage:
    """A month before the last: what its final balance said, if its end was seen."""
    kind, identifier = ("key", api_key_id) if api_key_id else ("organization", caller.organization_id)
    held = await month_over(parts, caller.organization_id, kind, identifier, month)
    if held is not None:
        return usage_of(parts, held, month, None)
    return await _by_time_of_use(parts, caller, month, api_key_id)


async def _by_time_of_use(parts: Parts, caller: Caller, month: str, api_key_id: str) -> Usage:
    """What was used in a month, by the groups of today's rate card. It is not final: what came late is in it, while
    balances hold it in the month in which it came."""
    catalogue = parts.knowledge.view.catalogue_at(parts.clock())
    if catalogue is None:
        raise away("The plan is not known yet")
    start, end = month_range(month)
    as_of_ms, lag_ms = await history_reached(parts, caller.account_id)  # before the figures, which may be newer
    found = await parts.history.ask(usage_by, caller.organization_id, "operation", start, end, api_key_id=api_key_id)
    groups: Counter[str] = Counter()
    for operation, usage in found:
        entry = catalogue.operations.get(operation)
        groups[(entry and entry.breakdown) or "other"] += usage.credits_micro
    nothing = in_credits(0)
    return Usage.model_construct(
        as_of=from_epoch_ms(as_of_ms),
        lag_ms=lag_ms,
        final=False,
        month=month,
        credits=CreditsOfMonth.model_construct(
            total=None, used=in_credits(groups.total()), remaining=None, reset_date=end,
            granted=nothing, overage=nothing, lent=nothing,
        ),
        breakdown=breakdown_of(groups),
        requests=sum(usage.requests for _, usage in found),
        corrections={},
    )  # fmt: skip


def usage_of_month(parts: Parts, caller: Caller, month: str) -> Usage:
    """What the caller's organization has and has used of a month that balances are held of. Raises ProblemError."""
    held = held_balance(parts, "organization", caller.organization_id, month)
    total_micro = _total_before_use(parts, caller, month) if held is None else None
    return usage_of(parts, held, month, total_micro)


def _total_before_use(parts: Parts, caller: Caller, month: str) -> int | None:
    """The credits that a month has before anything is used in it: the plan's, unless its account is shared. A member's
    share of the month that runs is told by the workers, what it was of another is not known any more."""
    if caller.account_id != caller.organization_id:
        if month == month_of(parts.clock()):
            raise away("The organization's share of its account's credits is not known yet")
        return None
    view = parts.knowledge.view
    payer, catalogue = view.organization(caller.account_id), view.catalogue_at(parts.clock())
    if payer is None or catalogue is None:
        raise away("The plan is not known yet")
    return catalogue.credits_micro_per_month(payer.tier, payer.credits_micro_per_month)


def usage_of(parts: Parts, held: Held | None, month: str, plan_micro: int | None) -> Usage:
    reached = balances_reached(parts, held)
    reset_date = month_end(month)
    if held is None:
        nothing = in_credits(0)
        total = some_credits(plan_micro)
        return Usage.model_construct(
            **reached,
            month=month,
            credits=CreditsOfMonth.model_construct(
                total=total, used=nothing, remaining=total, reset_date=reset_date,
                granted=nothing, overage=nothing, lent=nothing,
            ),
            breakdown=breakdown_of({}),
            requests=0,
            corrections={},
        )  # fmt: skip
    balance = held.balance
    total_micro = balance.total_micro
    return Usage.model_construct(
        **reached,
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
        breakdown=breakdown_of(balance.breakdown_micro),
        requests=balance.requests,
        corrections={name: in_credits(micro) for name, micro in balance.corrections_micro.items()},
    )


def breakdown_of(groups_micro: Mapping[str, int]) -> dict[str, Credits]:
    """The contract's groups, at 0 where nothing went into them, and after them what else was used."""
    used = {name: in_credits(micro) for name, micro in groups_micro.items() if micro}
    return dict.fromkeys(GROUPS, in_credits(0)) | used
