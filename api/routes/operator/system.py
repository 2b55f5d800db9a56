"""How the system itself does: who owns what, how far behind, how fresh, and whether its books agree."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from clickhouse import queries
from sluicegate.operator.groups import Topology
from sluicegate_schemas.alerts import AuditDrift
from sluicegate_schemas.bounds import Record, Time

from ...auth import OperatorReads
from .asking import PREFIX, as_problems, desk_of, now_of, parts_of, record_answer, shows

router = APIRouter(tags=["operator system"])


class DecisionLag(Record):
    """From the log's time of the event that caused a decision to its being in force in this process, of the last ten
    minutes' decisions; null where there was none."""

    decisions: int
    median_ms: int | None
    p99_ms: int | None
    worst_ms: int | None


class SinkFreshness(Record):
    """How long the usage in an insert had waited since the log held it; null without inserts."""

    inserts: int
    p50_ms: int | None
    p99_ms: int | None
    max_ms: int | None


class SystemFreshness(Record):
    """``balances_staleness_ms``: since the broker last answered for every partition of the balances; null: never."""

    as_of: Time
    decision_lag: DecisionLag
    balances_staleness_ms: int | None
    sink: SinkFreshness


class Drifts(Record):
    """What the audit found and has not cleared, the oldest first: none is well."""

    drifts: tuple[AuditDrift, ...]


@router.get(f"{PREFIX}/topology", **shows(Topology))
async def topology(request: Request, _: OperatorReads) -> Response:
    """The workers on usage and the sink on state: members, who has which partition, and how far each is behind."""
    with as_problems():
        return record_answer(await desk_of(request).topology())


@router.get(f"{PREFIX}/freshness", **shows(SystemFreshness))
async def freshness(
    request: Request, _: OperatorReads, minutes: Annotated[int, Query(ge=1, le=1_440)] = 10
) -> Response:
    """How fresh decisions, balances and ClickHouse are; the latter over the last ``minutes``."""
    parts = parts_of(request)
    now = now_of(parts)
    sink = await parts.history.ask(queries.freshness, now - timedelta(minutes=minutes))
    lags = parts.knowledge.lags.figures(parts.clock())
    return record_answer(
        SystemFreshness(
            as_of=now,
            decision_lag=DecisionLag(**lags._asdict()),
            balances_staleness_ms=parts.balances_from.staleness_ms,
            sink=SinkFreshness(**sink._asdict()),
        )
    )


@router.get(f"{PREFIX}/drifts", **shows(Drifts))
async def drifts(request: Request, _: OperatorReads) -> Response:
    """Where ledger, rollups and ClickHouse do not agree."""
    return record_answer(Drifts(drifts=parts_of(request).alerts.drifts.open()))
