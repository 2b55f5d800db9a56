"""``make backtest``: forecasts of months that are over, held against what they were; written to docs/projection.md.

On the real ClickHouse engine, with the product's own forecast and its own learning of how far off forecasts are: only
what was known at a forecast's time goes into it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from clickhouse.connection import ClickHouse
from clickhouse.migrate import migrate
from clickhouse.projection import Learner, project
from clickhouse.queries import month_range
from stack.clickhouse import ClickHouse as Engine
from stack.trace import read_trace
from tests.backtest.page import page
from tests.backtest.score import Outcome, score
from tests.backtest.series import Series, seasonal
from tests.recorded_hour import TRACE

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/projection.md"
DAYS: Final = (5, 10, 20)
SEED: Final = 11
LEARNT_DAYS: Final = 100
HOUR: Final = timedelta(hours=1)


def months_before(now: datetime, count: int) -> list[tuple[datetime, datetime]]:
    """The last ``count`` whole months, oldest first."""
    found = []
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(count):
        start, end = month_range(f"{first - timedelta(days=1):%Y-%m}")
        found.append((start, end))
        first = start
    return found[::-1]


def write(client: Client, start: datetime, series: Sequence[Series]) -> None:
    """Puts the series into the table that forecasts are made from."""
    began = int(start.timestamp())
    for one in series:
        hours = [began + 3_600 * number for number, micro in enumerate(one.hours) if micro]
        columns = [[one.org_id] * len(hours), hours, [micro for micro in one.hours if micro]]
        names = ["org_id", "hour", "credits_micro"]
        client.insert("usage_organization_hour", columns, column_names=names, column_oriented=True)


def outcomes(
    client: Client, start: datetime, series: Sequence[Series], months: Sequence[tuple[datetime, datetime]]
) -> list[Outcome]:
    """The forecasts of each day of ``DAYS`` in each month, of all organizations."""
    by_name = {one.org_id: one for one in series}
    found = []
    for first, end in months:
        learner = Learner()
        while learner.step(client, first + timedelta(days=min(DAYS))):
            pass
        for day in DAYS:
            now = first + timedelta(days=day)
            for one in project(client, now):
                hours = by_name[one.org_id].hours
                actual = sum(hours[(first - start) // HOUR : (end - start) // HOUR])
                line = one.used_micro * ((end - first) / (now - first))
                made = (one.projected_micro, one.low_micro, one.high_micro)
                found.append(Outcome(day, *made, line, actual))
        print(f"{first:%Y-%m}: {len(found)} forecasts so far", flush=True)
    return found


def trace_errors() -> list[tuple[int, float]]:
    """(minute, error in percent) of the recorded hour's credits of its models, forecast from what was before."""
    costs = [
        (row.arrival_ms / 60_000, min(100, max(10, -(-(row.context_tokens + row.generated_tokens) // 1_000) * 10)))
        for row in read_trace(TRACE).rows
    ]
    total, length = sum(cost for _, cost in costs), costs[-1][0]
    return [
        (minute, 100 * abs(sum(cost for at, cost in costs if at < minute) * length / minute / total - 1))
        for minute in (10, 20, 40)
    ]


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m tests.backtest", description=__doc__.splitlines()[0])
    parser.add_argument("--organizations", type=int, default=100)
    parser.add_argument("--months", type=int, default=3)
    options = parser.parse_args()
    months = months_before(datetime.now(UTC), options.months)
    start = months[0][0] - timedelta(days=LEARNT_DAYS)
    series = list(seasonal(SEED, options.organizations, start, (months[-1][1] - start) // HOUR))
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        try:
            engine.start()
            address = ClickHouse(engine.url, engine.username, engine.password, "backtest")
            migrate(address)
            client = address.connect()
            write(client, start, series)
            known = outcomes(client, start, series, months)
            client.close()
        finally:
            engine.stop()
    by_day = {day: score(one for one in known if one.day == day) for day in DAYS}
    PAGE.write_text(page(options.organizations, months, by_day, score(known), trace_errors()), "utf-8")
    print(f"written to {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
