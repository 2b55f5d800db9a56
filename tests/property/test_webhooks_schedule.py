"""When a delivery is tried again: with growing pauses, never after its day, and not before the receiver wants it."""

from __future__ import annotations

from email.utils import formatdate
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.schedule import DELAYS_S, JITTER, WINDOW_MS, next_attempt_ms, retry_after_s

NOW_MS = 1_769_860_800_000
CHANCES = st.floats(0, 1, exclude_max=True)
DELAYS = st.lists(st.integers(1, 86_400), min_size=1, max_size=16).map(tuple)


def attempts_of(delays_s: tuple[int, ...], chances: list[float], wishes_s: list[float]) -> list[int]:
    """The times of all attempts, in milliseconds from the first, of a delivery that always fails at once."""
    times, now_ms = [0], NOW_MS
    while True:
        at = len(times) - 1
        due_ms = next_attempt_ms(
            taken_at_ms=NOW_MS,
            now_ms=now_ms,
            attempts=len(times),
            delays_s=delays_s,
            retry_after_s=wishes_s[at % len(wishes_s)],
            chance=chances[at % len(chances)],
        )
        if due_ms is None or len(times) > 1_000:
            return times
        times.append(due_ms - NOW_MS)
        now_ms = due_ms


def test_the_default_schedule_spans_a_day() -> None:
    times_s = [at // 1000 for at in attempts_of(DELAYS_S, [0.0], [0.0])]
    assert times_s == [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 86_400]


@pytest.mark.contract("5.14")
@given(DELAYS, st.lists(CHANCES, min_size=1, max_size=8), st.lists(st.floats(0, 90_000), min_size=1, max_size=8))
def test_attempts_end_with_the_window_and_each_waits_as_long_as_it_must(
    delays_s: tuple[int, ...], chances: list[float], wishes_s: list[float]
) -> None:
    times = attempts_of(delays_s, chances, wishes_s)
    assert times[-1] == WINDOW_MS or len(times) > 1_000
    for at, (before, after) in enumerate(pairwise(times)):
        pause_ms, delay_ms = after - before, delays_s[min(at, len(delays_s) - 1)] * 1000
        wish_ms = wishes_s[at % len(wishes_s)] * 1000
        assert pause_ms > 0
        if after < WINDOW_MS:
            assert pause_ms >= max(delay_ms, wish_ms) - 1
        assert pause_ms <= max(delay_ms * (1 + JITTER), wish_ms) + 1


@given(st.integers(0, 10**9))
def test_a_wish_in_seconds_is_understood_and_bounded_by_the_window(seconds: int) -> None:
    assert retry_after_s(str(seconds), NOW_MS) == min(seconds, 86_400)


@given(st.integers(-(10**6), 80_000))
def test_a_wish_as_a_date_is_understood(seconds: int) -> None:
    assert retry_after_s(formatdate(NOW_MS / 1000 + seconds, usegmt=True), NOW_MS) == max(0, seconds)


@given(st.none() | st.text(max_size=60))
def test_whatever_a_receiver_writes_is_no_error(header: str | None) -> None:
    assert 0 <= retry_after_s(header, NOW_MS) <= 86_400
