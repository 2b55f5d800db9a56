"""Credits that will run out before the reset: an alert once per crossing, cleared with hysteresis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clickhouse.audit.run_out import Look, RunOutBook, Standing, read_alert, with_costliest
from clickhouse.projection import Projection
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.catalogue import Catalogue
from tests.domain_world import default_catalogue

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
RESET = datetime(2026, 12, 1, tzinfo=UTC)
TOTAL = 100_000_000_000


def projection(expected: int, *, history_hours: int = 400, used: int = 40_000_000_000) -> Projection:
    """One that ends the month at ``expected``; it is exhausted where that reaches the total."""
    at = NOW + timedelta(days=9) if expected >= TOTAL else None
    return Projection("org_a", used, expected, expected, expected, at, at, None, 0, 0, history_hours)


def look(
    expected: int | None,
    *,
    used: int = 40_000_000_000,
    now: datetime = NOW,
    history_hours: int = 400,
    catalogue: Catalogue | None = None,
    total: int | None = TOTAL,
) -> Look:
    found = {} if expected is None else {"org_a": projection(expected, history_hours=history_hours)}
    standings = {} if total is None else {"org_a": Standing(total, used)}
    month, reset = (f"{now:%Y-%m}", RESET if now < RESET else datetime(2027, 1, 1, tzinfo=UTC))
    return Look(now, month, reset, catalogue or default_catalogue(), standings, found)


class Topic:
    """The alerts topic, and a book that writes to it."""

    def __init__(self) -> None:
        self.records: list[UsageAlert] = []
        self.book = RunOutBook()

    def look(self, seen: Look) -> list[tuple[str, str]]:
        changes = self.book.changes(seen)
        for alert in changes:
            self.records.append(alert)
            self.book.restore(alert)
        return [(alert.state, alert.alert_id) for alert in changes]

    def restart(self) -> None:
        self.book = RunOutBook()
        for record in self.records:
            alert = read_alert(record.model_dump_json().encode())
            assert alert is not None
            self.book.restore(alert)


FIRST = "runs_out/credits_run_out/org_a/2026-11/1"
SECOND = "runs_out/credits_run_out/org_a/2026-11/2"


@pytest.mark.contract("5.5")
def test_credits_that_will_run_out_before_the_reset_are_critical() -> None:
    topic = Topic()
    assert topic.look(look(TOTAL)) == [("fired", FIRST)]
    (alert,) = topic.records
    assert (alert.rule, alert.severity, alert.account_id) == ("credits_run_out", "critical", "org_a")
    assert (alert.observed, alert.limit, alert.reset_at) == (TOTAL, TOTAL, RESET)
    assert "about 2026-11-19 12:00 UTC" in alert.sentence
    named = with_costliest(alert, ("inference.llm", "search.web"))
    assert named.advice.endswith("inference.llm, search.web.")
    assert named.costliest == ("inference.llm", "search.web")


def test_it_fires_once_and_clears_five_points_below() -> None:
    topic = Topic()
    assert topic.look(look(99_000_000_000)) == []
    assert topic.look(look(110_000_000_000)) == [("fired", FIRST)]
    assert topic.look(look(120_000_000_000)) == []
    assert topic.look(look(96_000_000_000)) == [], "not yet: it would fire again at the next request"
    assert topic.look(look(95_000_000_000)) == [("cleared", FIRST)]
    assert topic.look(look(95_000_000_000)) == []
    assert topic.look(look(101_000_000_000)) == [("fired", SECOND)]


def test_a_restart_fires_nothing_twice_and_goes_on_counting() -> None:
    topic = Topic()
    topic.look(look(TOTAL))
    topic.restart()
    assert topic.look(look(TOTAL)) == []
    topic.look(look(50_000_000_000))
    topic.restart()
    assert topic.look(look(TOTAL)) == [("fired", SECOND)]


def test_another_process_gives_a_crossing_the_same_id() -> None:
    assert [Topic().look(look(TOTAL)) for _ in range(2)] == [[("fired", FIRST)]] * 2


def test_a_history_of_less_than_a_day_warns_of_nothing() -> None:
    assert Topic().look(look(TOTAL, history_hours=23)) == []


def test_what_has_run_out_already_is_another_alert_and_leaves_an_open_one_open() -> None:
    topic = Topic()
    assert topic.look(look(TOTAL, used=TOTAL)) == []
    topic.look(look(TOTAL))
    assert topic.look(look(TOTAL, used=TOTAL)) == []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (look(TOTAL, now=RESET + timedelta(hours=1)), "The month is another."),
        (look(TOTAL, total=None), "org_a has no limit of credits any more."),
        (look(TOTAL, total=2 * TOTAL), "org_a is expected to use 100000 of 200000 credits by the reset."),
        (look(None), "org_a is expected to use 40000 of 100000 credits by the reset."),
        (
            look(TOTAL, catalogue=default_catalogue().model_copy(update={"alert_rules": ()})),
            "The rule credits_run_out is not in force any more.",
        ),
    ],
)
def test_it_clears_when_the_month_the_limit_or_the_rule_is_another(seen: Look, said: str) -> None:
    topic = Topic()
    topic.look(look(TOTAL))
    assert topic.look(seen)[0] == ("cleared", FIRST)
    assert topic.records[-1].sentence.replace(",", "") == said
    assert topic.records[-1].advice == ""


def test_alerts_of_others_are_none_of_its_own() -> None:
    topic = Topic()
    topic.look(look(TOTAL))
    other = topic.records[0].model_copy(update={"alert_id": "credits_80/account:org_a/2026-11/7"})
    for value in (None, b"{}", b'{"alert_id":"runs_out/"}', other.model_dump_json().encode()):
        assert read_alert(value) is None
