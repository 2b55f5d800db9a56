"""A key's buckets at one gate, exactly; and over several gates with a worker behind them, within the stated bound."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.gate import Gate
from sluicegate_schemas.limits import CATEGORIES, CategoryShares, RateLimits
from streams.domain.limits import Bucket, BucketLimit
from tests.bucket_promise import most_beyond
from tests.gating import NOW_MS, SECRET, decision_record, heron, organization_record

OPERATIONS = {
    "metadata": "collections.list",
    "data": "documents.list",
    "search": "search.knn",
    "upload": "upload.file",
    "compute": "inference.embedding",
}
steps_ms = st.one_of(st.integers(0, 20), st.integers(0, 3_000), st.integers(0, 100_000))
rates = st.builds(
    RateLimits,
    requests_per_second=st.integers(1, 20),
    burst=st.integers(1, 30),
    requests_per_minute=st.integers(1, 60),
)
shares = st.lists(st.integers(1, 100), min_size=5, max_size=5).map(
    lambda percents: CategoryShares(**dict(zip(CATEGORIES, sorted(percents, reverse=True), strict=True)))
)


class ExactBucket:
    """The textbook form: tokens in fractions, filled by the time that passed."""

    def __init__(self, capacity: int, per_ms: Fraction) -> None:
        self.capacity = self.tokens = Fraction(capacity)
        self.per_ms = per_ms
        self.at_ms = NOW_MS
        self.passed: list[int] = []

    def fill(self, now_ms: int) -> None:
        self.tokens = min(self.capacity, self.tokens + self.per_ms * (now_ms - self.at_ms))
        self.at_ms = now_ms

    def keeps_its_promise(self) -> bool:
        """Over any time at most capacity + rate x time passed."""
        return most_beyond(self.passed, int(self.capacity), self.per_ms) <= 0


@pytest.mark.contract("3.1", "3.2", "9.18")
@given(rates, shares, st.lists(st.tuples(steps_ms, st.sampled_from(CATEGORIES)), max_size=80))
def test_a_key_and_its_categories_answer_as_exact_token_buckets_do(
    limits: RateLimits, parts: CategoryShares, calls: list[tuple[int, Any]]
) -> None:
    gate = Gate(heron(organization_record(rates=limits, shares=parts, rank=(2, 0))))
    second = ExactBucket(limits.burst, Fraction(limits.requests_per_second, 1_000))
    minute = ExactBucket(limits.requests_per_minute, Fraction(limits.requests_per_minute, 60_000))
    categories = {}
    for category in CATEGORIES:
        per_minute = parts.per_minute(category, limits.requests_per_minute)
        categories[category] = ExactBucket(per_minute, Fraction(per_minute, 60_000))
    now_ms = NOW_MS
    for step_ms, category in calls:
        now_ms += step_ms
        mine = (second, minute, categories[category])
        for bucket in mine:
            bucket.fill(now_ms)
        passes = all(bucket.tokens >= 1 for bucket in mine)
        for bucket in mine if passes else ():
            bucket.tokens -= 1
            bucket.passed.append(now_ms)
        answer = gate.check(SECRET, OPERATIONS[category], now_ms=now_ms)
        assert answer.allowed == passes
        assert answer.status == (200 if passes else 429)
        if passes:
            tighter = min((minute, categories[category]), key=lambda one: int(one.tokens) / one.capacity)
            assert dict(answer.headers)["X-RateLimit-Remaining"] == str(int(tighter.tokens))
    assert all(bucket.keeps_its_promise() for bucket in (second, minute, *categories.values()))


class Worker:
    """Counts what gates admit when it hears of it, with debt, and blocks the key while there is any."""

    def __init__(self, limits: RateLimits) -> None:
        per_minute = limits.requests_per_minute
        search = CategoryShares().per_minute("search", per_minute)
        self.buckets = (
            Bucket("requests_per_second", 1_000, BucketLimit(limits.requests_per_second, limits.burst, False)),
            Bucket("requests_per_minute", 60_000, BucketLimit(per_minute, per_minute, False)),
            Bucket("search_per_minute", 60_000, BucketLimit(search, search, False)),
        )
        self.said: dict[str, int] = {}
        self.counter = 0

    def hear(self, started_at_ms: int, is_search: bool, now_ms: int) -> list[Any]:
        """The decisions that a request makes."""
        decisions = []
        for bucket in self.buckets[: 3 if is_search else 2]:
            bucket.take(started_at_ms, 1)
            until_ms = bucket.until_ms()
            if bucket.is_in_debt(now_ms) and self.said.get(bucket.name, 0) < until_ms:
                self.said[bucket.name] = until_ms
                self.counter += 1
                name: Any = bucket.name
                decisions.append(decision_record(limit_name=name, until_ms=until_ms, rank=(1, self.counter)))
        return decisions


class Fleet:
    """Gates that share a key, and the worker behind them; what takes how long is drawn."""

    def __init__(self, limits: RateLimits, gates: int, delays: list[tuple[int, int]]) -> None:
        """``delays``: how long a request's event takes to the log, and a decision from there to the gates."""
        self.known = [heron(organization_record(rates=limits, rank=(2, 0))) for _ in range(gates)]
        self.gates = [Gate(one) for one in self.known]
        self.worker = Worker(limits)
        self.delays = delays
        self.due: list[tuple[int, int, Any]] = []
        self.passed: list[tuple[int, bool]] = []
        self.offered: list[int] = []

    def offer(self, now_ms: int, which: int, is_search: bool) -> None:
        self.deliver(now_ms)
        self.offered.append(now_ms)
        gate = self.gates[which % len(self.gates)]
        if gate.check(SECRET, "search.knn" if is_search else "collections.list", now_ms=now_ms).allowed:
            self.passed.append((now_ms, is_search))
            self.later(now_ms + self.delays[len(self.offered) % len(self.delays)][0], (now_ms, is_search))

    def later(self, at_ms: int, what: Any) -> None:
        heapq.heappush(self.due, (at_ms, len(self.offered) * 1_000 + self.worker.counter, what))

    def deliver(self, now_ms: int) -> None:
        """What reaches the worker and the gates up to ``now_ms``."""
        while self.due and self.due[0][0] <= now_ms:
            at_ms, _, what = heapq.heappop(self.due)
            if len(what) == 2:
                decide_ms = self.delays[at_ms % len(self.delays)][1]
                for record in self.worker.hear(*what, at_ms):
                    self.later(at_ms + decide_ms, (*record, at_ms))
            else:
                for one in self.known:
                    one.learn(what[:3])
                    one.lags.add(what[3], at_ms)


narrow = st.builds(
    RateLimits,
    requests_per_second=st.integers(1, 3),
    burst=st.integers(1, 3),
    requests_per_minute=st.integers(1, 8),
)
short_delays = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=10)
offers_apart = st.lists(st.tuples(st.integers(20, 400), st.integers(0, 3), st.booleans()), max_size=80)


@pytest.mark.contract("3.15", "9.19")
@given(narrow, st.integers(1, 4), offers_apart, short_delays)
def test_over_several_gates_no_bucket_passes_more_than_its_promise_and_what_is_offered_within_a_lag(
    limits: RateLimits, gates: int, offers: list[tuple[int, int, bool]], delays: list[tuple[int, int]]
) -> None:
    fleet, now_ms = Fleet(limits, gates, delays), NOW_MS
    for step_ms, which, is_search in offers:
        now_ms += step_ms
        fleet.offer(now_ms, which, is_search)
    lag_ms = max(publish for publish, _ in delays) + max(decide for _, decide in delays)
    offered = fleet.offered
    beyond = max(
        (bisect_right(offered, at_ms + lag_ms) - position for position, at_ms in enumerate(offered)), default=0
    )
    for bucket in fleet.worker.buckets:
        passed = [at_ms for at_ms, is_search in fleet.passed if is_search or bucket.name != "search_per_minute"]
        assert most_beyond(passed, bucket.limit, Fraction(bucket.rate, bucket.period_ms)) <= beyond


@pytest.mark.contract("3.15")
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=50), st.integers(1, 5_000), st.integers(0, 50))
def test_the_stated_bound_holds_what_is_offered_within_any_lag_that_was_measured(
    lags_ms: list[int], offered_per_s: int, in_flight: int
) -> None:
    known = heron()
    for lag_ms in lags_ms:
        known.lags.add(NOW_MS - lag_ms, NOW_MS)
    bound = Gate(known).bound(offered_per_s=offered_per_s, in_flight=in_flight, now_ms=NOW_MS)
    assert bound is not None
    for lag_ms in lags_ms:
        assert bound.requests >= Fraction(offered_per_s * lag_ms, 1_000) + in_flight
