"""Callers with the kit share a key: they use what it allows and hardly ever run into it, in virtual time."""

import heapq
import itertools
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.client import Breaker, Hint, Pacer
from sluicegate.gate.limiter import Limiter, buckets_of
from sluicegate_schemas.limits import RateLimits

PRO = RateLimits(requests_per_second=100, burst=200, requests_per_minute=600)
_BEGAN = 1_000_000.0


class Played(NamedTuple):
    seconds: float
    refused: int
    admitted: int

    @property
    def of_allowed(self) -> float:
        return self.admitted / (PRO.requests_per_minute + PRO.requests_per_minute / 60 * self.seconds)


def play(callers: int, calls: int, latency_s: float, seed: int, *, paced: bool = True) -> Played:
    """``calls`` admitted by the gate's own buckets, each caller one after another."""
    source, limiter, buckets = random.Random(seed), Limiter(), buckets_of(PRO)
    pacers = [Pacer() for _ in range(callers)]
    number = itertools.count()
    waiting: list[tuple[float, int, str, int]] = []

    def at(when: float, what: str, caller: int) -> None:
        heapq.heappush(waiting, (when, next(number), what, caller))

    for caller in range(callers):
        at(_BEGAN + source.random() / 100, "call", caller)
    admitted = refused = 0
    now = _BEGAN
    while admitted < calls:
        now, _, what, caller = heapq.heappop(waiting)
        pacer = pacers[caller]
        if what == "call":
            wait_s = pacer.enter("GET /", now) if paced else 0.0
            at(now + wait_s + latency_s * source.uniform(0.5, 1.5), "serve", caller)
            continue
        taken = limiter.take("key", buckets, int(now * 1000))
        if paced:
            told = [
                Hint(one.bucket.name, one.bucket.capacity, one.bucket.fill_s, one.remaining) for one in taken.levels
            ]
            pacer.told("GET /", told, now)
        if taken.admitted:
            admitted += 1
            at(now + latency_s / 2, "call", caller)
        else:
            refused += 1
            retry_s = max(1, -(-max(one.wait_ms for one in taken.levels) // 1000))
            pacer.refused("GET /", now, retry_s)
            at(now + retry_s + source.random(), "call", caller)
    return Played(now - _BEGAN, refused, admitted)


@pytest.mark.contract("6.3")
@pytest.mark.parametrize("callers", [1, 2, 20])
@pytest.mark.parametrize("latency_s", [0.004, 0.05])
def test_callers_that_pace_themselves_are_hardly_refused_and_leave_little_unused(
    callers: int, latency_s: float
) -> None:
    played = play(callers, 5_000, latency_s, seed=7)
    assert played.refused <= 0.01 * 5_000, played
    assert played.of_allowed >= 0.95, played


def test_callers_that_do_not_are_refused_every_other_time() -> None:
    played = play(20, 2_000, 0.005, seed=7, paced=False)
    assert played.refused > 0.5 * 2_000, played


@given(st.integers(1, 30), st.floats(0.001, 0.2), st.integers(0, 2**32))
@settings(max_examples=15)
def test_however_many_and_however_slow_no_caller_stands_still(callers: int, latency_s: float, seed: int) -> None:
    played = play(callers, 1_200, latency_s, seed)
    fastest_s = 1_200 * latency_s / callers
    # At the allowed rate 60 s; of 5,265 random plays the slowest took 79.7 s: many callers, all refused at once.
    assert played.seconds <= max(85.0, 2 * fastest_s), played


@pytest.mark.contract("6.2")
@given(st.lists(st.sampled_from(["ok", "failed", "left", "wait 1", "wait 60"]), max_size=60))
def test_a_circuit_is_open_after_failures_in_a_row_and_lets_one_call_try(steps: list[str]) -> None:
    breaker, now, in_a_row, opened_at, tried_at = Breaker(5, 60.0), 0.0, 0, None, None
    for step in steps:
        if step.startswith("wait"):
            now += float(step.split()[1])
            continue
        half_open = opened_at is not None and now >= opened_at + 60
        expected = opened_at is None or (half_open and (tried_at is None or now >= tried_at + 60))
        assert breaker.admits(now) == expected
        if not expected:
            continue
        tried_at = now if half_open else None
        if step == "ok":
            breaker.succeeded()
            in_a_row, opened_at, tried_at = 0, None, None
        elif step == "failed":
            breaker.failed(now)
            in_a_row += 1
            if half_open or in_a_row >= 5:
                opened_at, tried_at = now, None
        else:
            breaker.left()
            tried_at = None
