"""The audit's alerts: once per crossing, cleared once, whatever was restarted between; and what they say."""

import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from clickhouse.audit.alerts import AlertBook, read_alert
from clickhouse.audit.auditor import Findings, Slice
from clickhouse.audit.compare import Rolled, RolledName, RolledSums, rolled_differences
from clickhouse.audit.differences import HOUR_S, NOTHING, Amounts, Difference, Looked, Place
from clickhouse.audit.metrics import AuditCollector, Status
from clickhouse.audit.settings import AuditSettings
from clickhouse.audit.words import difference_words
from sluicegate_schemas.alerts import AuditDrift
from streams.settings import SettingsError

NOON_S = 1_769_860_800
NOON_MS = NOON_S * 1000
PLACE = Place(
    "cells_minute", "org_a", "2026-01", NOON_S, 60, "sluicegate.state/3", "key_a", "search.knn", "search", 7
)  # fmt: skip
DRIFT = Difference(PLACE, Amounts(1, 0, 0, 1, 100_000, 1), Amounts(2, 0, 0, 1, 100_001, 2), "the row is as it is")


def sent(
    book: AlertBook, found: list[Difference], *, all_looked: bool = True, now_ms: int = NOON_MS
) -> list[AuditDrift]:
    """What is sent, read back from its bytes."""
    records = book.changes(found, all_looked=all_looked, now_ms=now_ms)
    for record in records:
        book.restore(record)
    read = [read_alert(record.model_dump_json().encode()) for record in records]
    assert read == records
    return records


def test_a_drift_fires_once_and_clears_once_under_one_id() -> None:
    book = AlertBook()
    [fired] = sent(book, [DRIFT])
    assert sent(book, [DRIFT]) == []
    [cleared] = sent(book, [], now_ms=NOON_MS + 5_000)
    assert sent(book, []) == []
    assert (fired.state, cleared.state) == ("fired", "cleared")
    assert fired.alert_id == cleared.alert_id
    assert cleared.fired_at == fired.at < cleared.at


def test_nothing_clears_before_everything_was_looked_at() -> None:
    book = AlertBook()
    sent(book, [DRIFT])
    assert sent(book, [], all_looked=False) == []
    assert len(sent(book, [])) == 1


def test_a_restarted_audit_fires_nothing_twice_and_numbers_the_next_crossing_on() -> None:
    first = AlertBook()
    records = [*sent(first, [DRIFT]), *sent(first, [])]
    second = AlertBook()
    second.restore(records[0])
    assert sent(second, [DRIFT]) == []
    second.restore(records[1])
    [again] = sent(second, [DRIFT])
    assert again.alert_id == records[0].alert_id.removesuffix("/1") + "/2"


def test_a_replay_of_the_same_crossing_repeats_the_id() -> None:
    assert sent(AlertBook(), [DRIFT])[0].alert_id == sent(AlertBook(), [DRIFT], now_ms=NOON_MS + 1)[0].alert_id


def test_buckets_of_one_organization_and_month_are_one_alert() -> None:
    found = [DRIFT._replace(place=PLACE._replace(chunk=chunk)) for chunk in range(9)]
    other = DRIFT._replace(place=PLACE._replace(organization_id="org_b"))
    both = sent(AlertBook(), [*found, other])
    assert [(one.organization_id, one.buckets_differing, len(one.buckets)) for one in both] == [
        ("org_a", 9, 5),
        ("org_b", 1, 1),
    ]
    assert both[0].events == 9


def test_the_sentence_names_bucket_amounts_and_what_to_do() -> None:
    [fired] = sent(AlertBook(), [DRIFT])
    assert fired.sentence == (
        "In the minute 2026-01-31T12:00Z, organization org_a, key key_a, operation search.knn, category search, chunk "
        "7, from sluicegate.state/3: the state and usage_minute say 1 and 2 requests (+1), 0.1 and 0.100001 credits "
        "(+0.000001), 1 and 2 events (+1); the row is as it is."
    )
    assert "python -m clickhouse.audit --repair" in fired.advice


def test_what_is_damaged_may_hold_anything_and_is_still_told() -> None:
    hostile = "\n{jndi:\x00\u202e|" + "x" * 10_000
    place = PLACE._replace(organization_id=hostile, operation=hostile, api_key_id="", category=hostile)
    found = Amounts(2**64 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1, -(2**63), 2**64 - 1)
    [fired] = sent(AlertBook(), [Difference(place, NOTHING, found)])
    assert fired.organization_id is not None
    assert fired.organization_id.startswith("?{jndi:")
    assert len(fired.sentence) <= 500
    assert fired.sentence.isprintable()


def test_other_alerts_on_the_topic_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    assert read_alert(None) is None
    assert read_alert(b'{"kind": "budget"}') is None
    with caplog.at_level(logging.WARNING):
        assert read_alert(b'{"kind": "audit_drift"}') is None
    assert "cannot be read" in caplog.text


def test_a_month_and_a_partition_as_a_whole_can_differ() -> None:
    month = Difference(Place("ledger_cells", "org_a", "2026-01"), Amounts(credits_micro=5), NOTHING)
    events = Difference(Place("ledger_cells", None, None, source="state/0"), Amounts(events=5), NOTHING)
    fired = sent(AlertBook(), [month, events])
    assert [one.organization_id for one in fired] == ["org_a", None]
    assert difference_words(events).startswith(
        "since counting began, from state/0: the ledger and the rollups say 5 and 0"
    )


NAME = RolledName("org_a", NOON_S)


@pytest.mark.parametrize(
    ("hour", "found", "why"),
    [
        (Rolled(Amounts(events=3), 30), False, ""),
        (Rolled(Amounts(events=2), 30), True, ""),
        (Rolled(Amounts(events=2), 20), True, "not brought up to date"),
        (Rolled(Amounts(events=4), 40), True, "are gone"),
        (None, True, "not brought up to date"),
    ],
    ids=["equal", "same rows, other sums", "never rolled again", "minutes lost", "never rolled"],
)
def test_hours_are_the_sums_of_their_minutes(hour: Rolled | None, found: bool, why: str) -> None:
    minutes = RolledSums({NAME: Rolled(Amounts(events=3), 30, NOON_S)})
    hours = RolledSums({} if hour is None else {NAME: hour})
    looked = rolled_differences("minute_hour", minutes, hours, HOUR_S, NOON_S + 1)
    assert bool(looked.differences) is found
    assert all(why in one.why for one in looked.differences)


def test_an_hour_that_is_still_to_be_rolled_is_a_delay() -> None:
    minutes = RolledSums({NAME: Rolled(Amounts(events=3), 30, NOON_S)})
    looked = rolled_differences("minute_hour", minutes, RolledSums(), HOUR_S, NOON_S)
    assert looked == Looked([], 0, 1)


def test_findings_of_a_part_replace_those_of_the_parts_it_overlaps() -> None:
    findings = Findings()
    findings.put(None, Looked([], 1))
    findings.put(Slice(0, 86_400, False), Looked([DRIFT], 1))
    findings.put(Slice(0, 60, True), Looked([DRIFT], 1))
    findings.put(Slice(0, 2 * 86_400, False), Looked([], 1))
    assert findings.differences() == [DRIFT]
    findings.put(Slice(0, 120, True), Looked([], 1))
    assert findings.differences() == []


def test_metrics_tell_drift_by_pair_age_and_what_is_away() -> None:
    status = Status(Findings(walked_at_s=90.0, walks=2), differences=[DRIFT], alerts_open=1, blocked_by="clickhouse")
    registry = CollectorRegistry()
    registry.register(AuditCollector(status, clock=lambda: 100.0))
    text = generate_latest(registry).decode()
    assert 'sluicegate_audit_drift_credits_micro{pair="cells_minute"} 1.0' in text
    assert 'sluicegate_audit_drift_events{pair="ledger_cells"} 0.0' in text
    assert "sluicegate_audit_age_seconds 10.0" in text
    assert "sluicegate_audit_walks_total 2.0" in text
    assert 'sluicegate_audit_blocked{by="clickhouse"} 1.0' in text


def test_a_setting_out_of_bounds_is_refused_by_name() -> None:
    assert AuditSettings.from_environment({}) == AuditSettings()
    assert AuditSettings.from_environment({"SLUICEGATE_AUDIT_SUMS_MAX": "7"}).sums_max == 7
    for text in ("0", "nan", "soon"):
        with pytest.raises(SettingsError, match="SLUICEGATE_AUDIT_INTERVAL_S is"):
            AuditSettings.from_environment({"SLUICEGATE_AUDIT_INTERVAL_S": text})
