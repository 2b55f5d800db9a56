"""The gate's buckets keep their promise exactly (requirements, section 9: a bucket's promise)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.gate.limiter import Bucket, Limiter

steps_ms = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 3_000), st.integers(0, 200_000)), max_size=80)
seconds = st.builds(Bucket, st.just("requests_per_second"), st.integers(1, 50), st.just(1_000), st.integers(1, 60))
minutes = st.integers(1, 200).map(lambda rate: Bucket("requests_per_minute", rate, 60_000, rate))
pairs = st.tuples(seconds, minutes)


def arrivals(steps: list[int]) -> list[int]:
    times, now = [], 1_700_000_000_000
    for step in steps:
        now += step
        times.append(now)
    return times


@pytest.mark.contract("9.19")
@given(pairs, steps_ms)
def test_over_any_time_at_most_capacity_and_rate_pass(buckets: tuple[Bucket, Bucket], steps: list[int]) -> None:
    limiter = Limiter()
    passed = [at for at in arrivals(steps) if limiter.take("key_a", buckets, at).admitted]
    for bucket in buckets:
        for first in range(len(passed)):
            for last in range(first, len(passed)):
                allowed = bucket.capacity + Fraction(bucket.rate * (passed[last] - passed[first]), bucket.period_ms)
                assert last - first + 1 <= allowed


class ExactTokenBuckets:
    """The textbook form: tokens in fractions, filled by the time that passed."""

    def __init__(self, buckets: tuple[Bucket, ...]) -> None:
        self.buckets = buckets
        self.tokens = [Fraction(bucket.capacity) for bucket in buckets]
        self.at: int | None = None

    def take(self, now: int) -> bool:
        passed = 0 if self.at is None else now - self.at
        self.at = now
        self.tokens = [
            min(Fraction(bucket.capacity), held + Fraction(bucket.rate * passed, bucket.period_ms))
            for bucket, held in zip(self.buckets, self.tokens, strict=True)
        ]
        if any(held < 1 for held in self.tokens):
            return False
        self.tokens = [held - 1 for held in self.tokens]
        return True


@pytest.mark.contract("3.1")
@given(pairs, steps_ms)
def test_the_buckets_answer_as_exact_token_buckets_do(buckets: tuple[Bucket, Bucket], steps: list[int]) -> None:
    limiter, exact = Limiter(), ExactTokenBuckets(buckets)
    for at in arrivals(steps):
        taken = limiter.take("key_a", buckets, at)
        assert taken.admitted == exact.take(at)
        assert [level.remaining for level in taken.levels] == [int(held) for held in exact.tokens]


@pytest.mark.contract("9.22")
@given(pairs, steps_ms)
def test_a_refused_request_passes_when_it_was_told_to_and_not_a_millisecond_before(
    buckets: tuple[Bucket, Bucket], steps: list[int]
) -> None:
    limiter = Limiter()
    for at in arrivals(steps):
        taken = limiter.take("key_a", buckets, at)
        if not taken.admitted:
            wait_ms = max(level.wait_ms for level in taken.levels)
            assert wait_ms >= 1
            assert any(level.wait_ms > 0 for level in limiter.peek("key_a", buckets, at + wait_ms - 1))
            assert all(level.wait_ms == 0 for level in limiter.peek("key_a", buckets, at + wait_ms))


@pytest.mark.contract("9.21")
@given(pairs, steps_ms)
def test_a_bucket_is_full_when_it_was_said_to_be_and_not_a_millisecond_before(
    buckets: tuple[Bucket, Bucket], steps: list[int]
) -> None:
    limiter = Limiter()
    for at in arrivals(steps):
        for position, level in enumerate(limiter.take("key_a", buckets, at).levels):
            full_at, capacity = at + level.full_in_ms, level.bucket.capacity
            assert limiter.peek("key_a", buckets, full_at)[position].remaining == capacity
            if level.full_in_ms:
                assert limiter.peek("key_a", buckets, full_at - 1)[position].remaining < capacity


@given(pairs, st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 30_000)), max_size=80))
def test_dropping_idle_buckets_changes_no_answer(buckets: tuple[Bucket, Bucket], calls: list[tuple[str, int]]) -> None:
    together, now = Limiter(), 1_700_000_000_000
    alone: dict[str, ExactTokenBuckets] = {}
    for key, step in calls:
        now += step
        expected = alone.setdefault(key, ExactTokenBuckets(buckets)).take(now)
        assert together.take(key, buckets, now).admitted == expected
    assert together.forgotten == 0
    for _ in range(4):
        together.take("z", buckets, now + 10**9)
    assert len(together) == 1


@given(pairs, st.integers(1, 5), st.integers(1, 40))
def test_the_number_of_buckets_stays_within_its_limit(buckets: tuple[Bucket, Bucket], keys_max: int, keys: int) -> None:
    limiter = Limiter(keys_max)
    for key in range(keys):
        limiter.take(f"key_{key}", buckets, 1_700_000_000_000)
        assert len(limiter) <= keys_max
    assert limiter.forgotten == max(0, keys - keys_max)


@given(pairs, st.integers(0, 300), st.integers(0, 10**9))
def test_a_clock_that_is_set_back_never_costs_more_than_one_filling(
    buckets: tuple[Bucket, Bucket], taken: int, back_ms: int
) -> None:
    limiter, now = Limiter(), 1_700_000_000_000
    for _ in range(taken):
        limiter.take("key_a", buckets, now)
    for level in limiter.peek("key_a", buckets, now - back_ms):
        assert level.full_in_ms <= level.bucket.fill_s * 1000


@given(pairs, st.integers(1, 30), st.integers(0, 10**9), st.booleans())
def test_after_a_clock_was_set_back_a_key_passes_again_when_it_is_told_to(
    buckets: tuple[Bucket, Bucket], taken: int, back_ms: int, is_asked_meanwhile: bool
) -> None:
    limiter, ahead = Limiter(), 1_700_000_000_000
    for _ in range(taken):
        limiter.take("key_a", buckets, ahead)
    now = ahead - back_ms
    wait_ms = max(level.wait_ms for level in limiter.peek("key_a", buckets, now))
    if is_asked_meanwhile and wait_ms:
        assert not limiter.take("key_a", buckets, now + wait_ms // 2).admitted
    assert limiter.take("key_a", buckets, now + wait_ms).admitted


@given(minutes, minutes, st.integers(0, 200))
def test_an_upgrade_keeps_what_was_taken(before: Bucket, after: Bucket, calls: int) -> None:
    limiter, now = Limiter(), 1_700_000_000_000
    taken = sum(limiter.take("key_a", (before,), now).admitted for _ in range(calls))
    assert limiter.peek("key_a", (after,), now)[0].remaining == max(0, after.capacity - taken)
