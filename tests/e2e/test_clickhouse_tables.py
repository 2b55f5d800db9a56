"""Migrations, inserts, rolls and queries on the real ClickHouse engine."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from clickhouse import queries
from clickhouse.connection import ClickHouse
from clickhouse.decisions import decision_row
from clickhouse.migrate import FOLDER, MigrationError, migrate
from clickhouse.roll import roll
from clickhouse.rows import UsageRow
from clickhouse.tables import FreshnessRow, PositionRow, Tables
from sluicegate_schemas.outputs import Decision, Scope, Sequence
from sluicegate_schemas.wire_decision import WireDecision, decode_decision
from stack.clickhouse import ClickHouse as Engine

pytestmark = pytest.mark.engine

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
DAY = (NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))


@pytest.fixture
def warehouse(clickhouse: Engine, fresh_prefix: str) -> ClickHouse:
    return ClickHouse(clickhouse.url, clickhouse.username, clickhouse.password, fresh_prefix)


@pytest.fixture
def tables(warehouse: ClickHouse) -> Iterator[Tables]:
    migrate(warehouse)
    tables = Tables(warehouse)
    yield tables
    tables.client.command(f"DROP DATABASE `{warehouse.database}`")
    tables.client.close()


def row(**changes: object) -> UsageRow:
    plain = UsageRow(
        "org_a", int(NOON.timestamp()), "key_a", "search.knn", "state/0", 7, "search", 2, 1, 0, 2, 200_000, 2, 1, 5
    )
    return plain._replace(**changes)


def decision(number: int, verdict: str = "block", **changes: object) -> WireDecision:
    content = {
        "decision_id": f"d-{number}",
        "scope": Scope(kind="organization", id="org_a"),
        "verdict": verdict,
        "limit_name": "credits",
        "limit": 1000,
        "observed": 1001,
        "until": None,
        "tier": "free",
        "plan_version": 3,
        "cause": None,
        "decided_at": NOON,
        "sequence": Sequence(epoch=1 << 32, counter=number),
    }
    return decode_decision(Decision.model_validate({**content, **changes}).model_dump_json().encode())


def counts(client: Client, table: str) -> tuple[int, int, int]:
    sums = client.query(f"SELECT count(), sum(requests), sum(credits_micro) FROM {table} FINAL").result_rows[0]
    return int(sums[0]), int(sums[1]), int(sums[2])


def test_migrating_again_changes_nothing(warehouse: ClickHouse) -> None:
    applied = [migration.number for migration in migrate(warehouse)]
    assert applied == list(range(1, len(list(FOLDER.glob("*.sql"))) + 1))
    assert migrate(warehouse) == []


def test_two_that_migrate_at_once_leave_one_set_of_tables(warehouse: ClickHouse) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(migrate, warehouse) for _ in range(2)]:
            done.result()
    assert migrate(warehouse) == []


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(warehouse: ClickHouse, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER, folder)
    migrate(warehouse, folder=folder)
    changed = folder / "002_decision.sql"
    changed.write_text(changed.read_text() + "-- a thought that came later\n")
    with pytest.raises(MigrationError, match=r"002_decision\.sql was changed after it was applied"):
        migrate(warehouse, folder=folder)


def test_a_database_of_a_newer_release_is_refused(warehouse: ClickHouse, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER, folder)
    number = f"{len(list(FOLDER.glob('*.sql'))) + 1:03d}"
    (folder / f"{number}_later.sql").write_text("SELECT 1;\n")
    migrate(warehouse, folder=folder)
    with pytest.raises(MigrationError, match=number):
        migrate(warehouse)


def test_rows_inserted_twice_count_once(tables: Tables) -> None:
    for _ in range(2):
        tables.insert([row(), row(chunk=8)])
    assert counts(tables.client, "usage_minute") == (2, 4, 400_000)


def test_a_row_never_goes_back_to_an_older_version(tables: Tables) -> None:
    tables.insert([row(version=3 << 64 | 9, requests=9)])
    tables.insert([row(version=2 << 64 | 99, requests=1)])
    tables.client.command("OPTIMIZE TABLE usage_minute FINAL")
    assert counts(tables.client, "usage_minute")[1] == 9


def test_a_category_that_a_new_rate_card_changes_is_not_counted_twice(tables: Tables) -> None:
    tables.insert([row(category="unrated", version=1)])
    tables.insert([row(category="search", version=2)])
    assert queries.usage_by(tables.client, "org_a", "category", *DAY) == [
        queries.UsageOf("search", queries.Usage(2, 1, 0, 2, 200_000, 2))
    ]


def test_more_rows_than_one_block_arrive_whole(tables: Tables) -> None:
    tables.insert([row(chunk=chunk) for chunk in range(50_000)])
    assert counts(tables.client, "usage_minute") == (50_000, 100_000, 10_000_000_000)


def test_hours_and_days_are_the_sums_of_minutes_however_often_they_are_rolled(tables: Tables) -> None:
    minutes = [
        row(minute=int((NOON + timedelta(minutes=17 * number)).timestamp()), chunk=number) for number in range(90)
    ]
    tables.insert(minutes)
    began = roll(tables.client)
    roll(tables.client, began)
    tables.insert([minutes[0]._replace(requests=100, version=6)])
    roll(tables.client, began)
    wanted = (178 + 100, 90 * 200_000)
    assert counts(tables.client, "usage_minute")[1:] == wanted
    assert counts(tables.client, "usage_hour")[1:] == wanted
    assert counts(tables.client, "usage_day")[1:] == wanted


def test_an_hour_keeps_its_sum_when_its_minutes_have_expired(tables: Tables) -> None:
    tables.insert([row(), row(chunk=8, minute=int(NOON.timestamp()) + 60)])
    roll(tables.client)
    tables.client.command("DELETE FROM usage_minute WHERE chunk = 8")
    roll(tables.client)
    assert counts(tables.client, "usage_hour")[1] == 4


def test_usage_of_an_organization_is_its_own_alone(tables: Tables) -> None:
    tables.insert([row(), row(org_id="org_b", requests=50), row(api_key_id="key_b", operation="documents.create")])
    once = queries.Usage(2, 1, 0, 2, 200_000, 2)
    twice = queries.Usage(4, 2, 0, 4, 400_000, 4)
    assert queries.usage(tables.client, "org_a", *DAY) == twice
    assert queries.usage(tables.client, "org_c' OR 1=1 --", *DAY) == queries.Usage()
    assert queries.usage_by(tables.client, "org_a", "api_key_id", *DAY) == [
        queries.UsageOf("key_a", once),
        queries.UsageOf("key_b", once),
    ]
    assert [part.name for part in queries.usage_by(tables.client, "org_a", "operation", *DAY)] == [
        "documents.create",
        "search.knn",
    ]
    assert queries.total_usage(tables.client, *DAY).requests == 54


def test_usage_over_time_names_the_beginning_of_each_interval(tables: Tables) -> None:
    later = NOON + timedelta(minutes=61)
    tables.insert([row(), row(minute=int(later.timestamp()))])
    once = queries.Usage(2, 1, 0, 2, 200_000, 2)
    assert queries.usage_over_time(tables.client, "org_a", "minute", *DAY) == [
        queries.UsageAt(NOON, once),
        queries.UsageAt(later, once),
    ]
    assert [part.at for part in queries.usage_over_time(tables.client, "org_a", "hour", *DAY)] == [
        NOON,
        NOON + timedelta(hours=1),
    ]
    [day] = queries.usage_over_time(tables.client, "org_a", "day", *DAY)
    assert day == queries.UsageAt(DAY[0], queries.Usage(4, 2, 0, 4, 400_000, 4))


def test_usage_across_forty_days_counts_each_hour_once(tables: Tables) -> None:
    """Young usage is read from minutes, old usage from hours; both tables hold both for some days."""
    days = [1, 37, 38, 39, 41]
    tables.insert(
        [
            row(minute=int((NOON - timedelta(days=day)).timestamp()), chunk=day, requests=10**day % 97 + 1)
            for day in days
        ]
    )
    roll(tables.client)
    tables.client.command("DELETE FROM usage_minute WHERE minute < toStartOfDay(now('UTC')) - INTERVAL 40 DAY")
    whole = (NOON - timedelta(days=60), NOON + timedelta(days=1))
    assert queries.usage(tables.client, "org_a", *whole).requests == sum(10**day % 97 + 1 for day in days)


def test_the_newest_decision_of_a_scope_and_limit_stands(tables: Tables) -> None:
    other = Scope(kind="key", id="key_a")
    soon = NOON + timedelta(minutes=1)
    tables.insert(
        [
            decision_row(each)
            for each in (
                decision(2),
                decision(1, "allow"),
                decision(3, scope=other, limit_name="requests_per_second", until=soon),
                decision(4, scope=other, limit_name="requests_per_minute"),
                decision(5, "allow", scope=other, limit_name="requests_per_minute"),
                decision(6, scope=Scope(kind="label", id="org_a", label="pipeline=a"), limit_name="budget_day"),
                decision(
                    7, "allow", scope=Scope(kind="label", id="org_a", label="pipeline=b"), limit_name="budget_day"
                ),
                decision(8, scope=Scope(kind="category", id="org_a", category="search")),
            )
        ]
    )
    tables.insert([decision_row(decision(2))])
    scopes = ["org_a", "key_a"]
    standing = queries.standing_decisions(tables.client, scopes, NOON)
    assert {each.decision_id for each in standing} == {"d-2", "d-3", "d-6", "d-8"}
    assert {each.until for each in standing} == {None, soon}
    assert {each.decision_id for each in queries.standing_decisions(tables.client, scopes, soon)} == {
        "d-2",
        "d-6",
        "d-8",
    }
    assert queries.standing_decisions(tables.client, ["org_b"], NOON) == []


def test_the_furthest_position_is_read_back_with_its_epoch(tables: Tables) -> None:
    now_ms = int(time.time() * 1000)
    tables.insert([PositionRow("state", 1, 50, 2**63 + 7, now_ms), PositionRow("state", 2, 9, 1, now_ms)])
    tables.insert([PositionRow("state", 1, 40, 3, now_ms)])
    assert tables.positions()["state", 1] == PositionRow("state", 1, 50, 2**63 + 7, now_ms)


def test_freshness_is_the_wait_of_the_oldest_flush_of_each_insert(tables: Tables) -> None:
    now = datetime.now(UTC)
    now_ms = int(now.timestamp() * 1000)
    assert queries.freshness(tables.client, now - timedelta(hours=1)) == queries.Freshness(0, None, None, None)
    tables.insert([FreshnessRow("state", 0, at, now_ms - 100 * at, now_ms - 5, now_ms) for at in (1, 2, 3)])
    assert queries.freshness(tables.client, now - timedelta(hours=1)) == queries.Freshness(3, 200, 300, 300)
