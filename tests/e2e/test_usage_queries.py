"""Usage from hours where they are rolled, from minutes where they are not: always the same as from minutes alone."""

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client

from clickhouse import plan_fit, queries
from clickhouse.plan_fit import SpanUse, month_fits, plan_fits
from clickhouse.roll import INSERT_MARGIN, roll
from clickhouse.usage_sql import rolled_until
from sluicegate_schemas.plan_fit import PlanFits
from stack.clickhouse import ClickHouse as Engine
from tests.domain_world import default_catalogue
from tests.recorded_hour import ROOT

pytestmark = pytest.mark.engine

HOUR = timedelta(hours=1)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
START, END = NOON - 12 * HOUR, NOON + 36 * HOUR
COLUMNS = (
    "org_id", "minute", "api_key_id", "operation", "source", "chunk", "category", "requests", "credits_micro", "events",
    "version", "ingested_at",
)  # fmt: skip
LONG_AGO = 2 * INSERT_MARGIN
"""So old that a roll of now holds it for sure."""
Row = tuple[str, int, str, str, str, int, str, int, int, int, int, int]


def row(at: datetime, credits_micro: int, *, chunk: int = 1, version: int = 1, age: timedelta = LONG_AGO) -> Row:
    written = int((datetime.now(UTC) - age).timestamp())
    key, operation = f"key_{chunk % 3}", ("search.knn", "inference.llm")[chunk % 2]
    minute = int(at.timestamp()) // 60 * 60
    return "org_a", minute, key, operation, "state/0", chunk, "search", 1, credits_micro, 1, version, written


def write(client: Client, *rows: Row) -> None:
    client.insert("usage_minute", rows, column_names=COLUMNS)


def used(client: Client, start: datetime = START, end: datetime = END) -> int:
    return queries.usage(client, "org_a", start, end).credits_micro


def test_what_was_written_after_the_roll_is_counted_at_once_and_once(client: Client) -> None:
    write(client, row(NOON, 100), row(NOON + HOUR, 10, chunk=2))
    roll(client)
    assert used(client) == 110
    write(client, row(NOON, 105, version=2, age=timedelta(0)), row(NOON + 2 * HOUR, 1, chunk=3, age=timedelta(0)))
    assert used(client) == 116
    roll(client)
    assert used(client) == 116


def test_what_is_rolled_comes_from_hours_and_not_from_minutes(client: Client) -> None:
    write(client, row(NOON, 100), row(NOON + HOUR, 10, chunk=2))
    roll(client)
    client.command("ALTER TABLE usage_minute DELETE WHERE true", settings={"mutations_sync": 2})
    assert used(client) == 110


def test_who_knows_of_an_older_roll_alone_counts_right_as_well(client: Client) -> None:
    write(client, row(NOON, 100), row(NOON + HOUR, 10, chunk=2))
    roll(client)
    assert used(client) == 110
    known = rolled_until(client)
    write(client, row(NOON, 105, version=2, age=timedelta(0)))
    client.command("INSERT INTO usage_rolled SELECT 'usage_hour', now('UTC') + INTERVAL 1 HOUR")
    roll(client)
    assert rolled_until(client) == known, "it is not asked anew within a minute"
    assert used(client) == 115


def test_before_the_first_roll_minutes_are_all_and_it_is_noticed_when_it_comes(client: Client) -> None:
    write(client, row(NOON, 100))
    assert used(client) == 100
    roll(client)
    client.command("ALTER TABLE usage_minute DELETE WHERE true", settings={"mutations_sync": 2})
    assert used(client) == 100


def test_an_hour_that_the_range_cuts_is_cut(client: Client) -> None:
    write(client, *(row(NOON + timedelta(minutes=minute), 1, chunk=minute) for minute in range(120)))
    roll(client)
    quarter = timedelta(minutes=15)
    assert used(client, NOON + quarter, NOON + HOUR + quarter) == 60
    assert used(client, NOON + quarter, NOON + 2 * quarter) == 15
    assert used(client, NOON, NOON + HOUR) == 60
    assert used(client, NOON, NOON + 2 * quarter) == 30


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_written_and_rolled_in_turn_the_sums_are_those_of_the_newest_rows(
    client: Client, seed: int
) -> None:
    draw = random.Random(seed)
    newest: dict[tuple[int, int], Row] = {}
    since = None
    for version in range(1, 6):
        written = []
        for _ in range(draw.randrange(1, 20)):
            at = START + timedelta(minutes=draw.randrange(48 * 60))
            age = draw.choice([timedelta(0), LONG_AGO]) if version == 1 else timedelta(0)
            one = row(at, draw.randrange(1_000), chunk=draw.randrange(4), version=version, age=age)
            written.append(one)
            newest[one[1], one[5]] = one
        write(client, *written)
        if draw.random() < 0.5:
            since = roll(client, since)
        rows = [one for one in newest.values() if START.timestamp() <= one[1] < END.timestamp()]
        assert used(client) == sum(one[8] for one in rows)
        found = queries.usage_by_each(client, "org_a", ("api_key_id", "operation"), START, END)
        for grouping, column in (("api_key_id", 2), ("operation", 3)):
            expected: dict[str, int] = {}
            for one in rows:
                expected[str(one[column])] = expected.get(str(one[column]), 0) + one[8]
            assert {each.name: each.usage.credits_micro for each in found[grouping]} == expected
            assert found[grouping] == queries.usage_by(client, "org_a", grouping, START, END)
        for interval in ("minute", "hour", "day"):
            times = queries.usage_over_time(client, "org_a", interval, START, END)
            assert sum(one.usage.credits_micro for one in times) == sum(one[8] for one in rows)


def test_use_is_held_against_every_plan(client: Client) -> None:
    write(client, *(row(NOON + timedelta(minutes=minute), 10**9, chunk=minute) for minute in range(120)))
    fits = {fit.tier: fit for fit in plan_fits(client, "org_a", default_catalogue(), START, END)}
    assert all((fit.used_micro, fit.requests, fit.throttled) == (120 * 10**9, 120, 0) for fit in fits.values())
    assert fits["free"].beyond_micro + fits["free"].total_micro * len({START.month, END.month}) >= 120 * 10**9
    assert fits["enterprise"].beyond_micro == 0
    if START.month == END.month:
        assert (fits["free"].beyond_micro, fits["free"].ran_out_at) == (119 * 10**9, NOON)
        assert (fits["pro"].beyond_micro, fits["pro"].ran_out_at) == (20 * 10**9, NOON + HOUR)
        assert fits["team"].ran_out_at is None


def test_where_there_are_too_many_minutes_they_are_looked_at_by_the_hour(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(client, *(row(NOON + timedelta(minutes=minute), 10**9, chunk=minute) for minute in range(120)))

    def minutes_of_spans() -> set[int]:
        seen: list[SpanUse] = []
        monkeypatch.setattr(plan_fit, "throttled", lambda spans, *_: seen.extend(spans) or 0)
        fits = plan_fits(client, "org_a", default_catalogue(), START, END)
        assert sum(one.requests for one in seen) == 120 * len(fits)
        starts = [one.start_s for one in seen[: len(seen) // len(fits)]]
        assert starts == sorted(starts)
        return {one.minutes for one in seen}

    assert minutes_of_spans() == {1}
    monkeypatch.setattr(plan_fit, "SPANS_MAX", 119)
    assert minutes_of_spans() == {60}
    monkeypatch.setattr(plan_fit, "SPANS_MAX", 1)
    assert minutes_of_spans() == {1_440}


def test_the_command_line_says_what_the_query_says(client: Client, clickhouse: Engine, fresh_prefix: str) -> None:
    write(client, *(row(NOON + timedelta(minutes=minute), 10**9, chunk=minute) for minute in range(3)))
    month = f"{NOON:%Y-%m}"
    said = subprocess.run(
        [*(sys.executable, "-m", "sluicegate.cli", "fit", "org_a", "--json", "--month", month),
         *("--plan", "catalogue/default.toml")],
        cwd=ROOT, capture_output=True, check=False, env=os.environ | {
            "SLUICEGATE_CLICKHOUSE_URL": clickhouse.url,
            "SLUICEGATE_CLICKHOUSE_USER": clickhouse.username,
            "SLUICEGATE_CLICKHOUSE_PASSWORD": clickhouse.password,
            "SLUICEGATE_CLICKHOUSE_DATABASE": fresh_prefix,
        },
    )  # fmt: skip
    assert said.returncode == 0, said.stderr.decode()
    found = PlanFits.model_validate_json(said.stdout)
    assert found == month_fits(client, "org_a", default_catalogue(), month)
    assert {fit.used_micro for fit in found.fits} == {3 * 10**9}


def test_hours_of_before_minutes_are_kept_are_no_minutes_in_a_plans_limits(client: Client) -> None:
    """Sixty requests a minute, all hour long, are within FREE; one more than its bucket holds besides is not."""
    start = (datetime.now(UTC) - timedelta(days=60)).replace(minute=0, second=0, microsecond=0)
    hours = [("org_a", int(start.timestamp()), "key_a", "collections.list", "metadata", count) for count in (3_600, 61)]
    columns = ("org_id", "hour", "api_key_id", "operation", "category", "requests")
    client.insert("usage_hour", hours[:1], column_names=columns)
    fits = plan_fits(client, "org_a", default_catalogue(), start, start + 2 * HOUR)
    assert {fit.tier: (fit.requests, fit.throttled) for fit in fits}["free"] == (3_600, 0)
    client.insert("usage_hour", [(*hours[1][:3], "documents.get", *hours[1][4:])], column_names=columns)
    fits = plan_fits(client, "org_a", default_catalogue(), start, start + 2 * HOUR)
    assert {fit.tier: (fit.requests, fit.throttled) for fit in fits}["free"] == (3_661, 1)
