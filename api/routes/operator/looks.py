"""What operators look up: the audit trail, blocks, decisions, balances, and who uses most."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from clickhouse import queries
from clickhouse.plan_fit import month_fits
from sluicegate.operator.decisions import Found, from_row
from sluicegate.operator.explain import Explanation
from sluicegate_schemas.accounts import BudgetPeriod
from sluicegate_schemas.bounds import EVENT_ID_PATTERN, Month, OrganizationId, Record, Time
from sluicegate_schemas.outputs import TrailEntry
from sluicegate_schemas.plan_fit import PlanFits
from sluicegate_schemas.wire_decision import to_record

from ...auth import OperatorReads
from ...balances import Held, month_of
from ...blocks import Block, block_of
from ...parts import Parts
from ...problems import away, not_found
from .asking import PREFIX, as_problems, desk_of, known_of, known_organization, now_of, parts_of, record_answer, shows
from .commands import ORGANIZATION
from .log_cursors import Cursor, log_cursor, log_place

router = APIRouter(tags=["operator looks"])
BLOCKS_MAX: Final = 1_000
CONSUMERS_MAX: Final = 1_000
DecisionId = Annotated[str, Path(pattern=EVENT_ID_PATTERN)]


class Trail(Record):
    """The newest first. ``next``: give it as ``cursor`` for older ones; null: there are none."""

    entries: tuple[TrailEntry, ...]
    next: str | None


class Blocks(Record):
    """The newest first; ``total`` counts those that found no place, too, and ``by_limit`` names what they are."""

    total: int
    by_limit: dict[str, int]
    blocks: tuple[Block, ...]
    as_of: Time


class ConsumerUsage(Record):
    """The usage of one organization in that time."""

    organization_id: str
    requests: int
    errors: int
    throttled: int
    credits_micro: int


class Consumers(Record):
    """The costliest first; as ClickHouse has it, which is behind by the sink's lag."""

    start: Time
    end: Time
    consumers: tuple[ConsumerUsage, ...]


class MonthBalance(Record):
    """A balance of the month, as of ``as_of``; amounts are micro-credits. ``label``: of what of the organization ``id``
    carries it."""

    kind: str
    id: str
    label: str | None
    month: str
    total_micro: int | None
    used_micro: int
    granted_micro: int
    overage_micro: int
    lent_micro: int
    breakdown_micro: dict[str, int]
    requests: int
    as_of: Time
    lag_ms: int
    final: bool


class MonthBalances(Record):
    """Of the account that pays, the organization, its keys and its labels, as far as anything was used."""

    balances: tuple[MonthBalance, ...]


@router.get(f"{PREFIX}/trail", **shows(Trail))
async def trail(
    request: Request,
    _: OperatorReads,
    account_id: OrganizationId | None = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Who changed what, when and why; of one account if named."""
    with as_problems():
        page = await desk_of(request).trail(limit=limit, account_id=account_id, before=log_place(cursor))
    return record_answer(Trail(entries=tuple(page.entries), next=log_cursor(page.before)))


@router.get(f"{PREFIX}/blocks", **shows(Blocks))
async def blocks(
    request: Request,
    _: OperatorReads,
    organization_id: OrganizationId | None = None,
    limit: Annotated[int, Query(ge=1, le=BLOCKS_MAX)] = 100,
) -> Response:
    """What is blocked now, as a gate knows it; of one organization if named."""
    parts = parts_of(request)
    if not parts.knowledge.ready:
        raise away("Decisions are not known yet")
    found = [(one, _organization(parts, one.scope)) for one in parts.knowledge.view.blocks_at(parts.clock())]
    found = [(one, about) for one, about in found if organization_id in (None, about)]
    newest = sorted(found, key=lambda pair: (pair[0].decided_at_ms, pair[0].decision_id), reverse=True)[:limit]
    shown = tuple(block_of(one, about) for one, about in newest)
    by_limit = Counter(str(one.limit_name) for one, _ in found)
    return record_answer(
        Blocks(total=len(found), by_limit=dict(by_limit.most_common()), blocks=shown, as_of=now_of(parts))
    )


@router.get(f"{PREFIX}/decisions/{{decision_id:path}}", **shows(Explanation))
async def decision(
    request: Request, _: OperatorReads, decision_id: DecisionId, last: Annotated[int, Query(ge=0, le=100)] = 10
) -> Response:
    """A decision explained: the limit, the numbers, the event that caused it and the ``last`` before it."""
    parts = parts_of(request)
    found = _seen(parts, decision_id) or await _in_history(parts, decision_id)
    with as_problems():
        return record_answer(await desk_of(request).explain(found, now=now_of(parts), last=last))


@router.get(f"{PREFIX}/top-consumers", **shows(Consumers))
async def top_consumers(
    request: Request,
    _: OperatorReads,
    period: BudgetPeriod = "month",
    limit: Annotated[int, Query(ge=1, le=CONSUMERS_MAX)] = 20,
) -> Response:
    """The organizations that used most this day or month (UTC)."""
    now = now_of(parts_of(request))
    start = now.replace(day=now.day if period == "day" else 1, hour=0, minute=0, second=0, microsecond=0)
    end = _whole_minute(now)
    found = await parts_of(request).history.ask(queries.top_consumers, start, end, limit)
    consumers = tuple(
        ConsumerUsage(
            organization_id=one.organization_id,
            requests=one.usage.requests,
            errors=one.usage.errors,
            throttled=one.usage.throttled,
            credits_micro=one.usage.credits_micro,
        )
        for one in found
    )
    return record_answer(Consumers(start=start, end=end, consumers=consumers))


@router.get(f"{ORGANIZATION}/plan-fit", **shows(PlanFits))
async def plan_fit(
    request: Request, _: OperatorReads, organization_id: OrganizationId, month: Month | None = None
) -> Response:
    """What a month's use (by default this month's) would have come to on each plan in force now: the credits beyond its
    total, and at least how many requests its limits per minute would have refused. As ClickHouse has it."""
    parts = parts_of(request)
    known_organization(known_of(parts), organization_id)
    catalogue = parts.knowledge.view.catalogue_at(parts.clock())
    if catalogue is None:
        raise away("The catalogue is not known yet")
    wanted = month or month_of(parts.clock())
    return record_answer(await parts.history.ask(month_fits, organization_id, catalogue, wanted))


@router.get(f"{ORGANIZATION}/balances", **shows(MonthBalances))
async def balances(
    request: Request, _: OperatorReads, organization_id: OrganizationId, month: Month | None = None
) -> Response:
    """The credits of this month or the last."""
    parts = parts_of(request)
    if not parts.balances_from.ready:
        raise away("Balances are not known yet")
    known = known_of(parts)
    wanted = month or month_of(parts.clock())
    names = [("account", known_organization(known, organization_id).account_id), ("organization", organization_id)]
    names += [("key", key.api_key_id) for key in known.keys_of(organization_id)]
    if not parts.balances.keeps(wanted, parts.clock()):
        raise not_found("month")
    found = (parts.balances.get(kind, name, wanted) for kind, name in names)
    held = [one for one in found if one is not None]
    held += sorted(parts.balances.labels(organization_id, wanted), key=lambda one: one.balance.label or "")
    return record_answer(MonthBalances(balances=tuple(_balance(one) for one in held)))


def _seen(parts: Parts, decision_id: str) -> Found | None:
    """One of the newest decisions, which this process followed."""
    decision = parts.directory.decision(decision_id)
    if decision is None:
        return None
    newest = (parts.knowledge.view.verdicts_on(decision.scope.text()) or {}).get(decision.limit_name)
    return Found(to_record(decision), "topic", newest is None or newest.decision_id != decision_id, [])


async def _in_history(parts: Parts, decision_id: str) -> Found:
    row = await parts.history.ask(queries.decision_row, decision_id, None)
    if row is None:
        raise not_found("decision")
    with as_problems():
        return Found(
            to_record(from_row(row)), "clickhouse", True, ["it is none of the newest, so ClickHouse was asked"]
        )


def _balance(held: Held) -> MonthBalance:
    one = held.balance
    return MonthBalance(
        kind=one.kind,
        id=one.id,
        label=one.label,
        month=one.month,
        total_micro=one.total_micro,
        used_micro=one.used_micro,
        granted_micro=one.granted_micro,
        overage_micro=one.overage_micro,
        lent_micro=one.lent_micro,
        breakdown_micro=one.breakdown_micro,
        requests=one.requests,
        as_of=one.as_of,
        lag_ms=held.lag_ms,
        final=one.final,
    )


def _organization(parts: Parts, scope: str) -> str | None:
    """Whose a scope is: its text begins with its kind and the id of a key or an organization."""
    kind, identifier = scope.split(":", 2)[:2]
    if kind != "key":
        return identifier
    key = known_of(parts).keys.get(identifier)
    return None if key is None else key.organization_id


def _whole_minute(now: datetime) -> datetime:
    """The end of the minute that runs: minutes are the finest that ClickHouse holds."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)
