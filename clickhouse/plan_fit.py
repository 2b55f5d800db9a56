"""What an organization's past use would have come to on each plan: ``python -m clickhouse.plan_fit org_… --plan FILE``.

From the rollups: credits, and requests beyond a key's limits by the minute; from before minutes are kept by the hour,
as if they had come evenly, and so where there are too many minutes to look at. What a plan refuses within such a span
is not seen, so ``throttled`` is a least; ``sluicegate replay --tier`` tells it exactly, as far back as the log goes.
The prices of operations are the same on every plan; what a plan costs in money is not Sluicegate's to know.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from sluicegate_schemas.catalogue import Catalogue, Tier
from sluicegate_schemas.files import FileError, load_catalogue
from sluicegate_schemas.limits import Category
from sluicegate_schemas.money import credits_text
from sluicegate_schemas.plan_fit import PlanFit, PlanFits

from .connection import ClickHouse
from .queries import month_range
from .usage_sql import SETTINGS, from_hours, from_minutes, range_parameters

DAYS_MAX: Final = 40
_WHERE: Final = "org_id = {org:String}"
STEPS_MINUTES: Final = (1, 60, 1_440)
"""How long the spans are that requests are counted in: the first of which there are few enough, else the last."""
SPANS_MAX: Final = 100_000
_UNBOUNDED: Final = 2**53
_SPANS: Final = (
    "SELECT api_key_id, category, intDiv(toUnixTimestamp(at), 60 * {step:UInt32}) * 60 * {step:UInt32} AS start_s, "  # noqa: S608 (made of constants)
    "sum(requests), greatest({step:UInt32}, if(at < {minutes_start:DateTime('UTC')}, 60, 1)) AS minutes "
    f"FROM {from_minutes(_WHERE + ' AND requests > 0')} GROUP BY api_key_id, category, start_s, minutes "
    "ORDER BY start_s LIMIT {rows_max:UInt64}"
)
_HOURS: Final = (
    "SELECT toUnixTimestamp(toStartOfHour(at)) AS hour, sum(credits_micro) "  # noqa: S608 (made of constants)
    f"FROM {from_hours(_WHERE)} GROUP BY hour ORDER BY hour"
)


class SpanUse(NamedTuple):
    """Requests of a key in a category, in so many ``minutes`` from ``start_s`` (seconds since the epoch) on."""

    api_key_id: str
    category: str
    start_s: int
    requests: int
    minutes: int = 1

    @property
    def end_s(self) -> int:
        """The first second behind it."""
        return self.start_s + 60 * self.minutes


def plan_fits(client: Client, org_id: str, catalogue: Catalogue, start: datetime, end: datetime) -> list[PlanFit]:
    """The organization's use from ``start`` to before ``end``, at most forty days, on each plan. Raises ValueError for
    a longer range or a time without zone, and clickhouse_connect's errors."""
    parameters = {"org": org_id, **range_parameters(client, start, end)}
    if end - start > timedelta(days=DAYS_MAX):
        raise ValueError(f"plans are compared over at most {DAYS_MAX} days")
    spans = _spans(client, parameters)
    hours = [
        (datetime.fromtimestamp(hour, UTC), int(micro))
        for hour, micro in client.query(_HOURS, parameters=parameters, settings=SETTINGS).result_rows
    ]
    return [_fit(tier, catalogue, spans, hours) for tier in get_args(Tier)]


def _spans(client: Client, parameters: dict[str, object]) -> list[SpanUse]:
    """The requests, in order of time. The coarser the spans, the less of what a plan refuses is seen."""
    rows: Sequence[Sequence[Any]] = ()
    for step in STEPS_MINUTES:
        rows_max = _UNBOUNDED if step == STEPS_MINUTES[-1] else SPANS_MAX + 1
        asked = {**parameters, "step": step, "rows_max": rows_max}
        rows = client.query(_SPANS, parameters=asked, settings=SETTINGS).result_rows
        if len(rows) <= SPANS_MAX:
            break
    return [SpanUse(*row) for row in rows]


def _fit(tier: Tier, catalogue: Catalogue, spans: Sequence[SpanUse], hours: Sequence[tuple[datetime, int]]) -> PlanFit:
    total = catalogue.plans[tier].credits_micro_per_month
    beyond, ran_out_at = 0, None
    month, used = "", 0
    for hour, micro in hours:
        if f"{hour:%Y-%m}" != month:
            month, used = f"{hour:%Y-%m}", 0
        if total is not None and used + micro > total:
            beyond += used + micro - max(used, total)
            ran_out_at = ran_out_at or hour
        used += micro
    return PlanFit(
        tier=tier,
        used_micro=sum(micro for _, micro in hours),
        total_micro=total,
        beyond_micro=beyond,
        ran_out_at=ran_out_at,
        requests=sum(one.requests for one in spans),
        throttled=throttled(spans, catalogue, tier),
    )


def month_fits(client: Client, org_id: str, catalogue: Catalogue, month: str) -> PlanFits:
    """A month (``2026-01``) on each plan of ``catalogue``; raises as ``plan_fits`` does."""
    fits = plan_fits(client, org_id, catalogue, *month_range(month))
    return PlanFits(organization_id=org_id, month=month, plan_version=catalogue.version, fits=tuple(fits))


def throttled(spans: Iterable[SpanUse], catalogue: Catalogue, tier: Tier) -> int:
    """How many of the requests, in order of time, the key's bucket of the minute and its category's would have refused
    at least: each holds a minute's requests at most, and refills by as many a minute."""
    plan = catalogue.plans[tier]
    if plan.rates is None:
        return 0
    per_minute = plan.rates.requests_per_minute
    limits = {name: max(1, per_minute * getattr(plan.shares, name) // 100) for name in get_args(Category)}
    buckets: dict[tuple[str, str], tuple[int, int]] = {}
    refused = 0
    for span in spans:
        key, category = span.api_key_id, span.category
        names = [("", per_minute), *([(category, limits[category])] if category in limits else [])]
        rooms = [_room(buckets.get((key, name)), limit, span) for name, limit in names]
        admitted = min(span.requests, *rooms)
        refused += span.requests - admitted
        for (name, _), room in zip(names, rooms, strict=True):
            buckets[key, name] = room - admitted, span.end_s
    return refused


def _room(bucket: tuple[int, int] | None, limit: int, span: SpanUse) -> int:
    """What a bucket that was left with so much at a time can admit in this span; what comes in meanwhile is in it."""
    if bucket is None:
        return limit + limit * span.minutes
    held, left_s = bucket
    if left_s == span.end_s:
        return held
    idle_minutes = (span.start_s - left_s) // 60
    return min(limit, held + limit * idle_minutes) + limit * span.minutes


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; exit status 1 with one sentence where it cannot be told."""
    parser = argparse.ArgumentParser(prog="python -m clickhouse.plan_fit", description="Use on each plan.")
    parser.add_argument("organization")
    parser.add_argument("--plan", type=Path, required=True, help="a catalogue file")
    parser.add_argument("--month", default=f"{datetime.now(UTC):%Y-%m}", help="YYYY-MM; default: this one")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    options = parser.parse_args(arguments)
    try:
        catalogue = load_catalogue(options.plan.read_text("utf-8"))
        client = ClickHouse.from_environment().connect()
        found = month_fits(client, options.organization, catalogue, options.month)
    except (ClickHouseError, FileError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in [found.model_dump_json()] if options.json else map(sentence, found.fits):
        print(line)
    return 0


def sentence(fit: PlanFit) -> str:
    """One plan's fit for people."""
    total = "no limit" if fit.total_micro is None else f"{credits_text(fit.total_micro)} a month"
    dry = "" if fit.ran_out_at is None else f", dry from {fit.ran_out_at:%Y-%m-%d %H:%M} UTC"
    beyond = f", {credits_text(fit.beyond_micro)} beyond{dry}" if fit.beyond_micro else ""
    return (
        f"on {fit.tier.upper()} ({total}): {credits_text(fit.used_micro)} credits used{beyond}; "
        f"{fit.throttled:,} of {fit.requests:,} requests throttled"
    )


if __name__ == "__main__":
    sys.exit(main())
