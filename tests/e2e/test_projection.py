"""The month-end projection on the real ClickHouse engine."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import exp
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from clickhouse.projection import LOG_RATIO_UNKNOWN, Learner, Projection, project
from clickhouse.queries import month_range

pytestmark = pytest.mark.engine

NOW = (datetime.now(UTC) - timedelta(days=20)).replace(day=14, hour=12, minute=0, second=0, microsecond=0)
"""In the middle of a month, and young enough for ClickHouse to keep."""
START, END = month_range(f"{NOW:%Y-%m}")
HOURS_LEFT = int((END - NOW) / timedelta(hours=1))
HOUR = timedelta(hours=1)


def by_hour_of_week(at: datetime) -> int:
    """Something that repeats each week and at no other rhythm, in micro-credits."""
    return (1 + (at.weekday() * 24 + at.hour) * 7919 % 168) * 1_000_000


def write(client: Client, org_id: str, hours_back: int, amount: Callable[[datetime], int]) -> None:
    """Usage of the ``hours_back`` hours before now."""
    rows = [
        (org_id, int(at.timestamp()), amount(at)) for number in range(1, hours_back + 1) if (at := NOW - number * HOUR)
    ]
    client.insert("usage_organization_hour", rows, column_names=["org_id", "hour", "credits_micro"])


def projection(client: Client, org_id: str, **options: Mapping[str, Any]) -> Projection:
    (found,) = [one for one in project(client, NOW, **options) if one.org_id == org_id]
    return found


def used(amount: Callable[[datetime], int], hours_back: int) -> int:
    back = min(hours_back, int((NOW - START) / HOUR))
    return sum(amount(NOW - number * HOUR) for number in range(1, back + 1))


def coming(amount: Callable[[datetime], int]) -> list[int]:
    return [amount(NOW + number * HOUR) for number in range(HOURS_LEFT)]


def test_what_repeats_each_week_is_forecast_to_the_credit(client: Client) -> None:
    write(client, "org_weekly", 8 * 168, by_hour_of_week)
    write(client, "org_short", 300, by_hour_of_week)
    for name, hours in (("org_weekly", 8 * 168), ("org_short", 300)):
        found = projection(client, name)
        assert found.used_micro == used(by_hour_of_week, hours)
        assert found.projected_micro == pytest.approx(found.used_micro + sum(coming(by_hour_of_week)), rel=1e-9)
        assert found.last_hour_micro == by_hour_of_week(NOW - HOUR)
        assert found.last_day_micro == sum(by_hour_of_week(NOW - number * HOUR) for number in range(1, 25))


def test_a_short_history_is_forecast_by_the_hour_of_the_day_and_a_shorter_one_by_its_mean(client: Client) -> None:
    def by_hour_of_day(at: datetime) -> int:
        return (1 + at.hour) * 1_000_000

    write(client, "org_days", 60, by_hour_of_day)
    found = projection(client, "org_days")
    assert found.projected_micro - found.used_micro == pytest.approx(sum(coming(by_hour_of_day)), rel=1e-9)
    write(client, "org_hours", 7, lambda at: 2_000_000)
    found = projection(client, "org_hours")
    assert found.projected_micro - found.used_micro == pytest.approx(HOURS_LEFT * 2_000_000, rel=1e-9)
    assert found.history_hours == 7


def test_it_says_when_credits_run_dry_and_nothing_where_they_do_not(client: Client) -> None:
    write(client, "org_dry", 200, lambda at: 1_000_000)
    left = HOURS_LEFT * 1_000_000 // 2
    found = projection(client, "org_dry", left_micro={"org_dry": left})
    assert found.exhausted_at == NOW + (left // 1_000_000) * HOUR
    assert found.exhausted_early is not None
    assert found.exhausted_early < found.exhausted_at
    assert found.exhausted_late is None or found.exhausted_late > found.exhausted_at
    assert projection(client, "org_dry", left_micro={"org_dry": 10**15}).exhausted_at is None
    assert projection(client, "org_dry").exhausted_at is None
    assert projection(client, "org_dry", left_micro={"org_dry": 0}).exhausted_at == NOW + HOUR


def test_the_interval_is_wide_until_it_was_learnt_how_far_off_forecasts_are(client: Client) -> None:
    for number in range(40):
        write(client, f"org_{number}", 8 * 168, by_hour_of_week)
    before = projection(client, "org_0")
    remaining = before.projected_micro - before.used_micro
    assert before.high_micro - before.used_micro == pytest.approx(remaining * exp(LOG_RATIO_UNKNOWN), rel=1e-9)
    learner = Learner()
    while learner.step(client, NOW):
        pass
    assert not learner.step(client, NOW)
    after = projection(client, "org_0")
    assert after.low_micro == pytest.approx(after.projected_micro, rel=1e-6), "it was always right"
    assert after.high_micro == pytest.approx(after.projected_micro, rel=1e-6)


def test_usage_of_the_hour_that_has_begun_counts_as_used_and_not_again(client: Client) -> None:
    write(client, "org_now", 400, lambda at: 6_000_000)
    client.insert(
        "usage_minute",
        [("org_now", int(NOW.timestamp()), "key_0", "search.knn", "state/0", 1, "search", 1_500_000, 1)],
        column_names=[
            "org_id", "minute", "api_key_id", "operation", "source", "chunk", "category", "credits_micro", "version",
        ],
    )  # fmt: skip
    (found,) = project(client, NOW + HOUR / 4)
    assert found.used_micro == used(lambda at: 6_000_000, 400) + 1_500_000
    assert found.projected_micro == pytest.approx(found.used_micro + (HOURS_LEFT - 0.25) * 6_000_000, rel=1e-9)


def test_members_of_an_account_are_one_with_the_longest_history_and_the_hours_of_all(client: Client) -> None:
    write(client, "org_old", 6 * 168, by_hour_of_week)
    write(client, "org_young", 30, lambda at: 5_000_000)
    write(client, "org_other", 30, lambda at: 7_000_000)
    client.insert(
        "usage_organization_hour",
        [("org_gap", int((NOW - hours * HOUR).timestamp()), 9_000_000) for hours in (1, 400)],
        column_names=["org_id", "hour", "credits_micro"],
    )
    account = dict.fromkeys(("org_old", "org_young", "org_gap"), "account_a")
    left = {"account_a": 0, "org_other": 10**15}
    found = {one.org_id: one for one in project(client, NOW, left, account)}
    assert set(found) == {"account_a", "org_other"}
    one = found["account_a"]
    assert one.history_hours == 6 * 168
    since_start = int((NOW - START) / HOUR)
    gap = 9_000_000 * sum(hours <= since_start for hours in (1, 400))
    assert one.used_micro == used(by_hour_of_week, 6 * 168) + 30 * 5_000_000 + gap
    assert one.last_hour_micro == by_hour_of_week(NOW - HOUR) + 5_000_000 + 9_000_000
    assert one.last_day_micro == used(by_hour_of_week, 24) + 24 * 5_000_000 + 9_000_000
    weights = [0.6**week for week in range(6)]
    extra = [
        (5_000_000 * (hours <= 30) + 9_000_000 * (hours == 1)) * weights[0]
        + 9_000_000 * (hours + 336 == 400) * weights[2]
        for hours in range(168, 0, -1)
    ]
    expected = [amount + extra[number % 168] / sum(weights) for number, amount in enumerate(coming(by_hour_of_week))]
    assert one.projected_micro - one.used_micro == pytest.approx(sum(expected), rel=1e-9)
    assert one.exhausted_at == NOW + HOUR
    assert found["org_other"].exhausted_at is None
