"""The age of usage when ClickHouse first shows it is measured event by event."""

from hypothesis import given
from hypothesis import strategies as st

from stack.freshness import Freshness, percentiles


def test_each_event_is_as_old_as_the_first_answer_that_shows_it() -> None:
    freshness = Freshness(since_ms=0)
    for ts_ms in (100, 200, 300):
        freshness.logged("org_a", ts_ms)
    freshness.logged("org_b", 150)
    freshness.shown([("org_a", 1)], 500)
    freshness.shown([("org_a", 3), ("org_b", 0)], 1_000)
    freshness.shown([("org_a", 3), ("org_b", 1)], 2_000)
    assert freshness.samples_ms() == [400, 800, 700, 1_850]


def test_what_clickhouse_shows_before_it_is_seen_in_the_log_is_measured_later() -> None:
    freshness = Freshness(since_ms=0)
    freshness.shown([("org_a", 2)], 500)
    freshness.logged("org_a", 100)
    freshness.shown([("org_a", 2)], 600)
    assert freshness.samples_ms() == [500]


def test_events_of_earlier_runs_are_passed_over() -> None:
    freshness = Freshness(since_ms=1_000)
    freshness.logged("org_a", 10)
    freshness.logged("org_a", 1_100)
    freshness.shown([("org_a", 2)], 1_200)
    assert freshness.samples_ms() == [100]


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_percentiles_are_values_that_were_measured(samples: list[int]) -> None:
    found = percentiles(samples)
    assert found["p50"] in samples
    assert found["p99"] in samples
    below = sum(sample <= (found["p50"] or 0) for sample in samples)
    assert 2 * below >= len(samples)


def test_nothing_measured_has_no_percentiles() -> None:
    assert percentiles([]) == {"p50": None, "p99": None}
    assert percentiles(list(range(1, 101))) == {"p50": 50, "p99": 99}
