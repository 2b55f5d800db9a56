"""The histogram behind availability and latency."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.bounds import DURATION_MS_MAX
from streams.domain.ledger import Ledger
from streams.domain.service_levels import bucket_of, longest_ms, served

DURATIONS = st.integers(0, DURATION_MS_MAX)


@given(DURATIONS)
def test_a_duration_is_told_at_most_an_eighth_too_high_and_never_too_low(duration_ms: int) -> None:
    told = longest_ms(bucket_of(duration_ms))
    assert duration_ms <= told <= duration_ms * 9 / 8


@given(DURATIONS, DURATIONS)
def test_a_longer_duration_is_in_no_lower_bucket(one: int, other: int) -> None:
    assert (one <= other) <= (bucket_of(one) <= bucket_of(other))
    assert bucket_of(max(one, other)) < 256


@given(st.lists(DURATIONS, min_size=1, max_size=300), st.integers(0, 300))
def test_quantiles_are_those_of_the_sorted_durations_within_their_bucket(durations: list[int], failures: int) -> None:
    figures = served(Counter(map(bucket_of, durations)), failures)
    assert figures is not None
    assert (figures.requests, figures.failures) == (len(durations), failures)
    ranked = sorted(durations)
    for percent, told in ((50, figures.p50_ms), (99, figures.p99_ms)):
        exact = ranked[-(-len(ranked) * percent // 100) - 1]
        assert told == longest_ms(bucket_of(exact))


def test_a_month_without_requests_has_no_figures() -> None:
    assert served({}, 0) is None


@given(st.dictionaries(st.integers(0, 400), st.integers(1, 9)), st.randoms())
def test_a_ledgers_row_does_not_tell_in_what_order_durations_came(durations: dict[int, int], draw: Random) -> None:
    first, second = (Ledger("organization", "org_a", 663, "org_a", "org_a") for _ in range(2))
    first.durations = durations
    mixed = list(durations.items())
    draw.shuffle(mixed)
    second.durations = dict(mixed)
    assert first.encode() == second.encode()
