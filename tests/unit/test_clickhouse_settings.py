"""How ClickHouse is reached and how decisions are written down."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from clickhouse.connection import ClickHouse
from clickhouse.decisions import DecisionRows
from clickhouse.migrate import MigrationError, place, read_migrations
from clickhouse.queries import month_range
from clickhouse.record_rows import RecordFormatError
from sluicegate_schemas.outputs import (
    Cause,
    Decision,
    Position,
    Scope,
    Sequence,
    decision_key,
    is_lease_key,
    lease_key,
)
from tests.state_log import Record

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890_000, UTC)
MOMENT_MS = 1_772_600_767_890


def test_without_any_variable_the_local_server_is_used() -> None:
    assert ClickHouse.from_environment({}) == ClickHouse("http://127.0.0.1:8123", "default", "", "sluicegate")


def test_the_password_may_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    settings = ClickHouse.from_environment({"SLUICEGATE_CLICKHOUSE_PASSWORD_FILE": str(file)})
    assert settings.password == "s3cret"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL", "127.0.0.1:8123"),
        ("URL", "ftp://127.0.0.1"),
        ("URL", "http://user:secret@127.0.0.1:8123"),
        ("DATABASE", "a`; DROP TABLE usage_minute"),
    ],
)
def test_an_address_or_database_that_cannot_be_one_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"SLUICEGATE_CLICKHOUSE_{name}") as refused:
        ClickHouse.from_environment({f"SLUICEGATE_CLICKHOUSE_{name}": value})
    assert "secret" not in str(refused.value)


def test_statements_are_placed_on_a_cluster_or_on_one_server() -> None:
    statement = "CREATE TABLE t ${ON_CLUSTER} (x UInt8) ENGINE = ${REPL}MergeTree ORDER BY x"
    assert place(statement, None) == "CREATE TABLE t  (x UInt8) ENGINE = MergeTree ORDER BY x"
    assert "t ON CLUSTER `east` (" in place(statement, "east")
    assert "ReplicatedMergeTree" in place(statement, "east")


def test_every_table_of_the_migrations_can_be_replicated() -> None:
    for migration in read_migrations():
        for statement in migration.statements("east"):
            if statement.startswith("INSERT"):
                continue  # into a table whose rows replace each other: safe to repeat
            assert "ON CLUSTER `east`" in statement
            holds_no_rows = statement.startswith(("ALTER TABLE", "CREATE MATERIALIZED VIEW", "CREATE VIEW"))
            assert holds_no_rows or "ENGINE = Replicated" in statement
            assert "IF NOT EXISTS" in statement


@pytest.mark.parametrize("names", [["001_a.sql", "003_b.sql"], ["001_a.sql", "001_b.sql"], ["first.sql"]])
def test_misnumbered_migrations_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError):
        read_migrations(tmp_path)


def test_a_month_ends_where_the_next_begins() -> None:
    assert month_range("2026-12") == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert month_range("2026-02")[1] == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_decision_is_written_down_with_what_caused_it() -> None:
    decision = Decision(
        decision_id="d-1",
        scope=Scope(kind="operation", id="org_a", operation="cluster.execute", subject="c:1"),
        verdict="block",
        limit_name="requests_per_second",
        limit=10,
        observed=12,
        until=MOMENT,
        tier="free",
        plan_version=4,
        cause=Cause(
            position=Position(topic="sluicegate.usage", partition=3, offset=99, index=2),
            event_id="e-1",
            organization_id="org_a",
            ts=MOMENT,
            logged_at=MOMENT,
        ),
        decided_at=MOMENT,
        sequence=Sequence(epoch=5, counter=6),
    )
    rows = DecisionRows("sluicegate.decisions/0")
    rows.feed([Record(0, b"k", decision.model_dump_json().encode()), Record(1, b"k", None)])
    [row] = rows.take()
    assert row == (
        *("d-1", "operation", "org_a", "cluster.execute", "c:1", "", "", "requests_per_second", "block", 10),
        *(12, MOMENT_MS),
        *(
            "free",
            4,
            "sluicegate.usage",
            3,
            99,
            2,
            "e-1",
            "org_a",
            MOMENT_MS,
            MOMENT_MS,
            MOMENT_MS,
            5 << 64 | 6,
            "org_a",
        ),
    )


def test_leases_on_the_decisions_topic_are_the_gateways_alone() -> None:
    rows = DecisionRows("sluicegate.decisions/0")
    scope = Scope(kind="account", id="org_a")
    rows.feed([Record(0, lease_key(scope, "credits", "node-1").encode(), b'{"kind": "lease"}')])
    assert rows.take() == []
    assert not is_lease_key(decision_key(scope.text(), "credits").encode())


def test_a_record_that_is_no_decision_is_refused_with_its_place() -> None:
    with pytest.raises(RecordFormatError, match=r"sluicegate\.decisions/0, offset 7"):
        DecisionRows("sluicegate.decisions/0").feed([Record(7, b"k", b"{}")])
