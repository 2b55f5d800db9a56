"""What ``why``, ``doctor`` and ``catalog diff`` make of what they find."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from clickhouse.decisions import DecisionRow, decision_row
from clickhouse.migrate import read_migrations
from sluicegate.cli.clickhouse import ClickHouse
from sluicegate.cli.text import plain
from sluicegate.cli.values import rates, when
from sluicegate.cli.why import lines
from sluicegate.errors import ClickHouseError, ConfigurationError, SluicegateError
from sluicegate.operator import groups
from sluicegate.operator.catalogues import in_force
from sluicegate.operator.decisions import from_row
from sluicegate.operator.differences import differences
from sluicegate.operator.doctor import clock, history, lags, topics
from sluicegate.operator.events import concerns, events_of
from sluicegate.operator.explain import Explanation
from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.envelope import ENCODE, ENVELOPE_VERSION, TICK, WireEnvelope, WireEvent
from sluicegate_schemas.outputs import Cause, Decision, Position, Scope, Sequence
from sluicegate_schemas.topics import SETTINGS_ALL, TOPICS
from sluicegate_schemas.usage import UsageEvent
from sluicegate_schemas.wire_decision import decode_decision, to_record
from streams.settings import Settings
from tests.gating import CATALOGUE, NOW


@given(st.text())
def test_plain_text_has_no_sign_that_a_terminal_obeys(text: str) -> None:
    assert plain(text).isprintable()


@given(st.text(alphabet=st.characters(categories=["L", "N", "P"]), max_size=2_000))
def test_plain_text_leaves_ordinary_signs_alone(text: str) -> None:
    assert plain(text) == text


# ---- values ----


@pytest.mark.parametrize(
    ("text", "seconds"), [("now", 0), ("+7d", 604_800), ("-15m", -900), ("90s", 90), ("2h", 7_200)]
)
def test_times_may_be_told_from_now(text: str, seconds: int) -> None:
    assert when("--from", text, NOW) == NOW + timedelta(seconds=seconds)


def test_a_date_is_its_first_instant_in_utc() -> None:
    assert when("--from", "2026-01-31", NOW).isoformat() == "2026-01-31T00:00:00+00:00"


@pytest.mark.parametrize("text", ["", "1/2", "1/2/3/4", "a/b/c", "1/2/-3", "1/2/9" + "9" * 30])
def test_rates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--rates must be"):
        rates("--rates", text)


# ---- why ----


def decision(**changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "decision_id": "block/rpm/key_a/1-2",
        "scope": Scope(kind="key", id="key_a"),
        "verdict": "block",
        "limit_name": "requests_per_minute",
        "limit": 600,
        "observed": 640,
        "until": NOW + timedelta(seconds=4),
        "tier": "pro",
        "plan_version": 3,
        "cause": Cause(
            position=Position(topic="usage", partition=1, offset=2, index=3),
            event_id="e1",
            organization_id="org_a",
            ts=NOW,
            logged_at=NOW,
        ),
        "decided_at": NOW,
        "sequence": Sequence(epoch=5, counter=7),
        "organization_id": "org_a",
    }
    return Decision.model_validate(fields | changes)


def as_row(one: Decision) -> dict[str, Any]:
    """As ClickHouse answers it in JSON."""
    row = dict(zip(DecisionRow._fields, decision_row(decode_decision(one.model_dump_json().encode())), strict=True))
    for name in ("until", "cause_ts", "cause_logged_at", "decided_at"):
        if row[name] is not None:
            moment = from_epoch_ms(row[name])
            row[name] = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{to_epoch_ms(moment) % 1000:03}"
    return row


@pytest.mark.parametrize(
    "one",
    [
        decision(),
        decision(cause=None, until=None, verdict="allow"),
        decision(scope=Scope(kind="operation", id="org_a", operation="batch.submit", subject="b:1")),
        decision(scope=Scope(kind="label", id="org_a", label="pipeline=a")),
        decision(scope=Scope(kind="category", id="org_a", category="search")),
    ],
)
def test_a_decision_comes_back_from_clickhouse_as_it_was(one: Decision) -> None:
    assert to_record(from_row(as_row(one))) == one


@pytest.mark.parametrize("spoiled", [{"verdict": "\x1b[2J"}, {"decided_at": 7}, {"version": None}, {"tier": "gold"}])
def test_a_row_that_is_no_decision_is_refused(spoiled: dict[str, Any]) -> None:
    with pytest.raises(SluicegateError, match="cannot read"):
        from_row(as_row(decision()) | spoiled)


def event(**changes: Any) -> UsageEvent:
    fields: dict[str, Any] = {
        "id": "e1",
        "started_at": NOW,
        "ts": NOW,
        "duration_ms": 0,
        "org_id": "org_a",
        "api_key_id": "key_a",
        "operation": "batch.submit",
        "status": 200,
        "subject": "b:1",
        "labels": {"pipeline": "p1"},
    }
    return UsageEvent.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        (Scope(kind="key", id="key_a"), {"api_key_id": "key_b"}),
        (Scope(kind="organization", id="org_a"), {"org_id": "org_b"}),
        (Scope(kind="account", id="org_root"), {"account_id": "org_a"}),
        (Scope(kind="operation", id="org_a", operation="batch.submit"), {"operation": "search.knn"}),
        (Scope(kind="operation", id="org_a", operation="batch.submit", subject="b:1"), {"subject": "b:2"}),
        (Scope(kind="label", id="org_a", label="pipeline=p1"), {"labels": {"pipeline": "p2"}}),
        (Scope(kind="category", id="org_a", category="compute"), {"operation": "search.knn"}),
    ],
)
def test_the_events_before_a_decision_are_those_of_its_scope(scope: Scope, other: dict[str, Any]) -> None:
    def category_of(operation: str) -> str | None:
        return {"batch.submit": "compute"}.get(operation, "search")

    of_it = concerns(scope, category_of)
    assert of_it(event(account_id="org_root"))
    assert not of_it(event(**({"account_id": "org_root"} | other)))


class LogRecord:
    """A record of the usage topic."""

    def __init__(self, value: bytes) -> None:
        self.value, self.partition, self.offset, self.timestamp = value, 4, 9, 1_700_000_000_000


def test_events_are_named_as_the_worker_names_them_and_what_is_none_is_passed_over() -> None:
    now_ms = to_epoch_ms(NOW)
    sent = WireEvent(None, "org_a", "key_a", "search.knn", now_ms, now_ms, 0, 200)
    spoiled = WireEvent(None, "\x1b[2J", "key_a", "search.knn", now_ms, now_ms, 0, 200)
    value = ENCODE(WireEnvelope(ENVELOPE_VERSION, "p1", 2, 3, now_ms, None, [spoiled, sent]))
    found: Any = LogRecord(value)
    assert [(index, one.id) for index, one in events_of(found)] == [(1, "p1-2-4-3-1")]
    for other in (TICK, b"", b"{}", b"\x93nonsense"):
        none: Any = LogRecord(other)
        assert list(events_of(none)) == []


def test_an_explanation_says_the_numbers_in_the_limits_own_unit() -> None:
    credit = decision(limit_name="credits", limit=100_000_000, observed=100_100_000)
    said = Explanation(
        decision=credit, found="topic", stands=True, event=None, before=(), command=None, notes=("gone",)
    )
    text = "\n".join(lines(said))
    assert "credits: 100.1 credits observed, 100 credits allowed" in text
    assert "note       gone" in text


# ---- doctor ----

COUNTS = {topic.name: 1 if topic.partitions == "one" else 8 for topic in TOPICS}


def test_topics_as_they_must_be_are_well() -> None:
    assert [one.status for one in topics.check_counts("p.", COUNTS, None)] == ["ok"]


@pytest.mark.parametrize(
    ("changed", "setting", "said"),
    [
        ({"decisions": 0}, None, "missing: p.decisions"),
        ({"balances": 5}, None, "p.balances has 5 partitions, and must have 8"),
        ({"catalog": 2}, None, "p.catalog has 2 partitions, and must have 1"),
        ({}, "4", "p.usage has 8 partitions, and must have 4"),
    ],
)
def test_topics_that_are_not_are_named_with_a_remedy(changed: dict[str, int], setting: str | None, said: str) -> None:
    findings = topics.check_counts("p.", COUNTS | changed, setting)
    assert said in findings[0].detail
    assert findings[0].status == "error"
    assert findings[0].remedy


def test_a_topics_settings_are_held_against_the_table() -> None:
    right = {f"p.{topic.name}": {**SETTINGS_ALL, **topic.settings} for topic in TOPICS}
    assert [one.status for one in topics.check_settings("p.", right)] == ["ok"]
    right["p.usage"]["message.timestamp.type"] = "CreateTime"
    right["p.rejects"]["retention.ms"] = "1"
    right["p.alerts"]["retention.ms"] = "-1"
    found = topics.check_settings("p.", right)
    assert [(one.status, one.detail) for one in found] == [
        ("error", "p.usage has message.timestamp.type=CreateTime, not LogAppendTime"),
        ("warning", "p.rejects has retention.ms=1, not 2592000000"),
    ]


def test_a_lag_is_what_stands_behind_the_position() -> None:
    one, two = TopicPartition("t", 0), TopicPartition("t", 1)
    assert groups.lag_of({one: 5, two: 0}, {one: 10, two: 3}, {one: 8}) == 2 + 3
    assert groups.lag_of({one: 9, two: 0}, {one: 10, two: 3}, {one: 2, two: 3}) == 1


def test_nobody_at_work_is_an_error_and_a_long_lag_a_warning() -> None:
    assert lags.judge("worker", "g", 0, 0, "start it").status == "error"
    assert lags.judge("worker", "g", 1, lags.LAG_RECORDS_MAX + 1, "").status == "warning"
    assert lags.judge("worker", "g", 1, 0, "").status == "ok"


@pytest.mark.parametrize(
    ("ahead_ms", "status"), [(3, "ok"), (-2_000, "ok"), (2_001, "warning"), (-400_000, "error"), (300_000, "error")]
)
def test_a_clock_may_differ_by_so_much(ahead_ms: int, status: str) -> None:
    assert clock.judge(ahead_ms).status == status


def test_the_schema_that_the_doctor_wants_is_the_newest_migration() -> None:
    assert read_migrations()[-1].number == history.SCHEMA_VERSION
    numbers = [history.SCHEMA_VERSION - 1, history.SCHEMA_VERSION, history.SCHEMA_VERSION + 1]
    assert [history.judge(number).status for number in numbers] == ["error", "ok", "warning"]


def test_the_doctor_looks_for_the_groups_that_workers_and_sink_join() -> None:
    settings = Settings()
    assert (settings.group, settings.sink_group) == (groups.WORKER_GROUP, groups.SINK_GROUP)


# ---- ClickHouse ----


async def asked(status: int, body: bytes, seen: list[httpx.Request] | None = None) -> list[dict[str, Any]]:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, content=body)

    where = ClickHouse.from_environment({"SLUICEGATE_CLICKHOUSE_PASSWORD": "s3cret"})
    return await where.rows("SELECT 1", {"id": "a'b"}, transport=httpx.MockTransport(answer))


async def test_clickhouse_is_asked_with_bound_parameters_and_its_password_in_a_header() -> None:
    seen: list[httpx.Request] = []
    assert await asked(200, b'{"a": 1}\n{"a": 2}\n', seen) == [{"a": 1}, {"a": 2}]
    assert seen[0].url.params["param_id"] == "a'b"
    assert "s3cret" not in str(seen[0].url)
    assert seen[0].headers["X-ClickHouse-Key"] == "s3cret"


@pytest.mark.parametrize(("status", "body"), [(500, b"Code: 60. \x1b[31m"), (200, b"<html>"), (403, b"")])
async def test_an_answer_that_is_none_is_said(status: int, body: bytes) -> None:
    with pytest.raises(ClickHouseError):
        await asked(status, body)


@pytest.mark.parametrize(
    "environment",
    [
        {"SLUICEGATE_CLICKHOUSE_URL": "ftp://x"},
        {"SLUICEGATE_CLICKHOUSE_URL": "http://user:secret@x"},
        {"SLUICEGATE_CLICKHOUSE_DATABASE": "a;b"},
        {"SLUICEGATE_CLICKHOUSE_PASSWORD_FILE": "/nowhere"},
    ],
)
def test_settings_of_clickhouse_that_cannot_be_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="SLUICEGATE_CLICKHOUSE_") as refusal:
        ClickHouse.from_environment(environment)
    assert "secret" not in str(refusal.value)


# ---- catalogues ----


def test_the_version_in_force_is_the_newest_that_has_begun() -> None:
    later = CATALOGUE.model_copy(update={"version": 2, "effective_at": NOW})
    both = {1: CATALOGUE, 2: later}
    assert in_force(both, NOW) == later
    assert in_force(both, NOW - timedelta(milliseconds=1)) == CATALOGUE
    assert in_force({}, NOW) is None


def test_catalogues_differ_where_a_value_does() -> None:
    assert differences(CATALOGUE, CATALOGUE) == []
    fields = json.loads(CATALOGUE.model_dump_json())
    fields["version"] = 2
    fields["plans"]["free"]["credits_micro_per_month"] = 7
    del fields["operations"]["search.web"]
    found = {one.path: one for one in differences(CATALOGUE, type(CATALOGUE).model_validate_json(json.dumps(fields)))}
    assert found["plans.free.credits_micro_per_month"].after == 7
    assert found["operations.search.web.category"].after is None
    assert all(path.startswith(("version", "plans.free.credits", "operations.search.web.")) for path in found)
