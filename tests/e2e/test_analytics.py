"""The questions of docs/analytics.md, each asked of the real ClickHouse engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from clickhouse.alerts import AlertRow, alert_row
from clickhouse.connection import ClickHouse
from clickhouse.decisions import DecisionRow, decision_row
from clickhouse.migrate import migrate
from clickhouse.roll import roll
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.outputs import Cause, Decision, Position, Scope, Sequence
from sluicegate_schemas.wire_decision import decode_decision
from stack.clickhouse import ClickHouse as Engine

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/analytics.md").read_text("utf-8")
QUESTIONS = {
    int(number): query for number, query in re.findall(r"^### (\d+)\. .*?```sql\n(.*?)```", PAGE, re.DOTALL | re.M)
}
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
START = END - timedelta(days=20)
PARAMETERS = {"start": START, "end": END, "org": "org_a"}
USAGE = (
    "org_id", "minute", "api_key_id", "operation", "source", "chunk", "category", "requests", "errors", "throttled",
    "credits_micro", "events", "version",
)  # fmt: skip
DECISION = ("decision_id", "scope_kind", "scope_id", "limit_name", "verdict", "until", "decided_at", "version")


def usage(org: str, days_ago: float, key: str, operation: str, category: str, *counts: int) -> tuple[object, ...]:
    """``counts``: requests, errors, throttled, micro-credits."""
    minute = int((END - timedelta(days=days_ago)).timestamp()) // 60 * 60
    return (org, minute, key, operation, "state/0", 1, category, *counts, counts[0], 1)


def decided(number: int, verdict: str, scope: str, seconds: int, until: int | None = None) -> tuple[object, ...]:
    began_ms = int((END - timedelta(hours=1)).timestamp() * 1000)
    until_ms = None if until is None else began_ms + until * 1000
    kind = "key" if scope.startswith("key_") else "organization"
    limit = "requests_per_minute" if kind == "key" else "credits"
    return (f"d{number}", kind, scope, limit, verdict, until_ms, began_ms + seconds * 1000, number)


def alerted(name: str, rule: str, org: str, days_ago: float, *, cleared_s: int | None = None) -> AlertRow:
    """As the sink makes it of a record: where it fired, or where it cleared after so many seconds."""
    fired_at = END - timedelta(days=days_ago, hours=1)
    alert = UsageAlert(
        alert_id=name, state="fired" if cleared_s is None else "cleared", sentence="So it is.", advice="", rule=rule,
        fired_at=fired_at, at=fired_at + timedelta(seconds=cleared_s or 0), severity="warning", account_id=org,
        organization_id=None, scope=Scope(kind="account", id=org), threshold=80, observed=81, limit=100,
        unit="credits_micro", plan_version=1, cause=None,
    )  # fmt: skip
    return alert_row(alert)


@pytest.fixture(scope="module")
def client(clickhouse: Engine) -> Iterator[Client]:
    address = ClickHouse(clickhouse.url, clickhouse.username, clickhouse.password, "analytics_questions")
    migrate(address)
    made = address.connect()
    rows = [
        usage("org_a", 1, "key_1", "search.knn", "search", 1_000, 10, 50, 95_000_000),
        usage("org_a", 2, "key_2", "inference.llm", "compute", 10, 0, 0, 300_000_000),
        usage("org_a", 9, "key_1", "search.knn", "search", 100, 0, 0, 100_000_000),
        usage("org_b", 1.5, "key_3", "ducks.feed", "unrated", 7, 7, 0, 0),
        usage("org_b", 10, "key_3", "search.web", "search", 3, 0, 0, 30_000_000),
        usage("org_c", 12, "key_4", "search.web", "search", 2, 0, 0, 20_500_000),
    ]
    made.insert("usage_minute", rows, column_names=USAGE)
    decisions = [
        decided(1, "block", "key_1", 0, 10),
        decided(2, "block", "key_1", 60, 90),
        decided(3, "allow", "key_1", 70),
        decided(4, "block", "org_a", 1_800),
    ]
    made.insert("decision", decisions, column_names=DECISION)
    alerts = [
        alerted("a1", "credits_80", "org_a", 0),
        alerted("a1", "credits_80", "org_a", 0, cleared_s=90),
        alerted("a1", "credits_80", "org_a", 0, cleared_s=90),
        alerted("a2", "credits_80", "org_b", 5, cleared_s=600),
        alerted("a2", "credits_80", "org_b", 5),
        alerted("a3", "credits_80", "org_b", 9),
        alerted("a4", "unrated", "org_b", 9),
    ]
    made.insert("alert", alerts, column_names=AlertRow._fields)
    roll(made)
    yield made
    made.command("DROP DATABASE analytics_questions")
    made.close()


def test_the_page_asks_eleven_questions() -> None:
    assert sorted(QUESTIONS) == list(range(1, 12))


ANSWERS: dict[int, list[tuple[Any, ...]]] = {
    1: [("org_a", Decimal(495), 1_110), ("org_b", Decimal(30), 10), ("org_c", Decimal("20.5"), 2)],
    2: [("inference.llm", Decimal(300), Decimal("60.6")), ("search.knn", Decimal(195), Decimal("39.4"))],
    3: [(END.replace(tzinfo=None) - timedelta(days=2), "key_2", Decimal(300))],
    4: [("org_a", 100_000_000, 395_000_000, 3.95), ("org_b", 30_000_000, 0, 0.0), ("org_c", 20_500_000, 0, 0.0)],
    5: [("org_a", "key_1", 50, 4.55)],
    6: [("ducks.feed", 7, 100.0), ("search.knn", 10, 0.91)],
    7: [("organization", "org_a", "credits", 1, 1_800), ("key", "key_1", "requests_per_minute", 2, 20)],
    8: [("ducks.feed", 7, 1)],
    11: [("credits_80", "warning", 3, 2, 1, 600), ("unrated", "warning", 1, 1, 1, None)],
    10: [("org_c", END.replace(tzinfo=None) - timedelta(days=12))],
}


@pytest.mark.parametrize("number", sorted(QUESTIONS))
def test_a_question_of_the_page_is_answered(client: Client, number: int) -> None:
    rows = [tuple(_plain(value) for value in row) for row in client.query(QUESTIONS[number], PARAMETERS).result_rows]
    if number == 9:
        busiest = END - timedelta(days=1)
        assert rows[0][:2] == (busiest.isoweekday(), busiest.hour)
    else:
        assert rows == ANSWERS[number]


def _plain(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


ANALYST = (ROOT / "deploy/clickhouse/analyst.sql").read_text("utf-8")
STATEMENTS = [
    part.strip() for part in re.sub(r"^\s*--.*$", "", ANALYST, flags=re.M).split(";") if part.strip()
]  # fmt: skip


def test_the_file_for_analysts_names_what_there_is(client: Client) -> None:
    tables = {row[0] for row in client.query("SHOW TABLES").result_rows}
    named = set(re.findall(r"\bON sluicegate\.(\w+)", ANALYST))
    assert named <= tables
    held = {row[0] for row in client.query("SHOW TABLES LIKE 'usage%' ").result_rows} - {"usage_written_from_minute"}
    held |= {"decision", "alert"}
    policies = set(re.findall(r"POLICY IF NOT EXISTS analyst_acme ON sluicegate\.(\w+)", ANALYST))
    granted = set(re.findall(r"GRANT SELECT ON sluicegate\.(\w+)", ANALYST))
    assert {table for table in granted if not table.endswith("_between")} == policies
    assert granted >= held - {"usage_rolled", "usage_written"}


POLICIES = re.findall(r"POLICY IF NOT EXISTS analyst_acme ON sluicegate\.(\w+)\s+USING (.*?) TO analyst_acme", ANALYST)


@pytest.mark.parametrize(("table", "condition"), POLICIES)
def test_an_analyst_sees_the_rows_of_one_organization_alone(client: Client, table: str, condition: str) -> None:
    owner = "organization_id" if table in ("decision", "alert") else "org_id"
    seen = f"SELECT DISTINCT {owner} FROM {table} FINAL WHERE {condition.replace('org_acme', 'org_a')}"
    assert {row[0] for row in client.query(seen).result_rows} <= {"org_a"}


def test_a_key_that_no_event_opened_is_open_in_the_blocks_of_its_organization_too(client: Client) -> None:
    """As after an upgrade: what opened it is shown to the same analyst as what closed it."""
    began = END - timedelta(days=15)
    cause = Cause(
        position=Position(topic="usage", partition=0, offset=1), event_id="e", organization_id="org_own", ts=began,
        logged_at=began,
    )  # fmt: skip
    rows = []
    for number, verdict in enumerate(("block", "allow")):
        made = Decision(
            decision_id=f"own-{number}", scope=Scope(kind="key", id="key_own"), verdict=verdict,
            limit_name="requests_per_minute", limit=1, observed=2, until=None, tier="free", plan_version=1,
            cause=None if number else cause, decided_at=began + timedelta(seconds=number),
            sequence=Sequence(epoch=1 << 32, counter=number), organization_id="org_own",
        )  # fmt: skip
        rows.append(decision_row(decode_decision(made.model_dump_json().encode())))
    client.insert("decision", rows, column_names=DecisionRow._fields)
    policy = dict(POLICIES)["decision"].replace("org_acme", "org_own")
    try:
        seen = client.query(f"SELECT verdict FROM decision FINAL WHERE {policy} ORDER BY version").result_rows
    finally:
        client.command("DELETE FROM decision WHERE scope_id = 'key_own'")
    assert seen == [("block",), ("allow",)]


def test_a_decision_of_before_it_was_told_is_of_whom_it_names(client: Client) -> None:
    query = "SELECT DISTINCT scope_id, organization_id FROM decision FINAL ORDER BY scope_id"
    assert client.query(query).result_rows == [("key_1", ""), ("org_a", "org_a")]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: " ".join(text.split()[:7]))
def test_the_engines_parser_reads_what_the_file_for_analysts_says(client: Client, statement: str) -> None:
    """It is not run: the embedded engine knows no users."""
    formatted = str(client.query("SELECT formatQuery({text:String})", {"text": statement}).result_rows[0][0])
    assert formatted.split()[0] == statement.split()[0]
    with pytest.raises(DatabaseError, match="SYNTAX_ERROR"):
        client.query("SELECT formatQuery({text:String})", {"text": statement.replace(" TO ", " FRO ") + " OFF"})


def test_the_limits_of_analysts_are_settings_and_quotas_that_there_are(client: Client) -> None:
    """A limit of 0 would be none, so each has a least."""
    (profile,) = [text for text in STATEMENTS if text.startswith("CREATE SETTINGS PROFILE")]
    settings = re.findall(r"(\w+) = \d+ (CONST|MIN 1 MAX \d+)", profile)
    assert len(settings) == profile.count(" = ")
    names = [name for name, _ in settings]
    query = "SELECT name FROM system.settings WHERE name IN {names:Array(String)}"
    assert sorted(row[0] for row in client.query(query, {"names": names}).result_rows) == sorted(names)
    (quota,) = [text for text in STATEMENTS if text.startswith("CREATE QUOTA")]
    columns = {row[0] for row in client.query("DESCRIBE TABLE system.quota_usage").result_rows}
    assert set(re.findall(r"(\w+) = \d+", quota)) <= columns
