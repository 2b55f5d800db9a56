"""The buckets against an exact token bucket, and the months against the calendar."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate_schemas.limits import CategoryShares
from streams.domain.limits import Bucket, BucketLimit, Buckets, KeyBuckets, Rates, key_limits
from streams.domain.period import month_index, month_start_ms, month_text, parse_month
from streams.domain.tables import BucketsRow, ChangedRows

LIMITS = st.builds(BucketLimit, st.integers(1, 6 * 10**7), st.integers(1, 6 * 10**7), st.just(False))
START_MS = 1_795_291_200_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TokenBucket:
    """Tokens in fractions; a request takes one, into debt if need be; time never goes back."""

    def __init__(self, capacity: int, per_ms: Fraction) -> None:
        self.capacity = self.tokens = Fraction(capacity)
        self.per_ms = per_ms
        self.at_ms = 0

    def at(self, now_ms: int) -> Fraction:
        return min(self.capacity, self.tokens + max(0, now_ms - self.at_ms) * self.per_ms)

    def take(self, now_ms: int, count: int) -> None:
        self.tokens = self.at(now_ms) - count
        self.at_ms = max(self.at_ms, now_ms)


@pytest.mark.contract("3.15")
@given(
    st.one_of(LIMITS, st.builds(BucketLimit, st.integers(1, 90), st.integers(1, 5), st.just(False))),
    st.sampled_from([1_000, 60_000]),
    st.lists(st.tuples(st.integers(-3_000, 3_000), st.integers(0, 5)), max_size=60),
)
def test_a_bucket_agrees_with_an_exact_token_bucket_to_the_request(limit, period_ms, requests):
    bucket = Bucket("requests_per_minute", period_ms, limit)
    model = TokenBucket(limit.limit, Fraction(limit.rate, period_ms))
    now_ms = START_MS
    for step_ms, count in requests:
        started_ms = now_ms + step_ms
        now_ms = max(now_ms, started_ms)
        if count:
            bucket.take(started_ms, count)
            model.take(started_ms, count)
        assert bucket.is_in_debt(now_ms) == (model.at(now_ms) < 0)
        assert bucket.held(now_ms) == -((model.at(now_ms) - model.capacity) // 1)
        if model.at(now_ms) < 0:
            assert model.at(bucket.until_ms()) >= 1
            assert model.at(bucket.until_ms() - 1) < 1
        assert bucket.is_at_rest(now_ms) == (model.at(now_ms) == model.capacity)


@given(LIMITS, LIMITS, st.integers(0, 100), st.integers(0, 10_000))
def test_a_change_of_limits_keeps_the_requests_that_a_bucket_holds(before, after, count, elapsed_ms):
    now_ms = START_MS + elapsed_ms
    bucket = Bucket("requests_per_minute", 60_000, before)
    bucket.take(START_MS, count)
    held = bucket.held(now_ms)
    bucket.change(after, now_ms)
    assert bucket.held(now_ms) == held
    assert (bucket.rate, bucket.limit) == after[:2]


@given(LIMITS, st.integers(1, 10**8), st.integers(0, 10_000))
def test_an_exempt_bucket_is_never_in_debt_and_is_full_of_tokens_when_the_exemption_ends(limit, count, elapsed_ms):
    now_ms = START_MS + elapsed_ms
    bucket = Bucket("requests_per_minute", 60_000, limit)
    bucket.take(START_MS, count)
    bucket.change(limit._replace(is_exempt=True), START_MS)
    bucket.take(START_MS, count)
    assert not bucket.is_in_debt(START_MS)
    bucket.change(limit, now_ms)
    assert bucket.held(now_ms) == 0


@example(Rates(1, 1, 1))
@given(st.builds(Rates, st.integers(1, 10**6), st.integers(1, 10**7), st.integers(1, 6 * 10**7)))
def test_the_row_of_a_keys_buckets_brings_all_of_them_back(rates):
    limits = key_limits(rates, CategoryShares(), {"search_per_minute", "requests_per_second"})
    buckets = Buckets(b"b|key_a", "key_a", limits, START_MS)
    for at, bucket in enumerate(buckets.all):
        bucket.take(START_MS + at, at + 1)
    again = KeyBuckets(ChangedRows(), lambda _: (None, 0))
    again.restore("key_a", msgspec.msgpack.decode(buckets.encode(), type=BucketsRow))
    (found,) = again
    times = [START_MS, *(-(-bucket.arrival // bucket.rate) - early_ms for bucket in buckets.all for early_ms in (0, 1))]
    seen_before_use = [(found.has_row(), found.is_at_rest(time), found.minute(time)) for time in times]
    assert seen_before_use == [(buckets.has_row(), buckets.is_at_rest(time), buckets.minute(time)) for time in times]
    assert found.limits() == limits
    assert [bucket.arrival for bucket in found.all] == [bucket.arrival for bucket in buckets.all]
    assert [bucket.capacity for bucket in found.all] == [bucket.capacity for bucket in buckets.all]
    assert (found.as_of_ms, found.is_said) == (START_MS, True)


@pytest.mark.contract("1.8")
@given(st.integers(0, 4_102_444_799_999))
@example(1_709_251_199_999)
@example(1_709_251_200_000)
@example(951_868_799_999)
def test_months_are_the_calendars(time_ms):
    expected = (EPOCH + timedelta(milliseconds=time_ms)).strftime("%Y-%m")
    index = month_index(time_ms)
    assert month_text(index) == expected
    assert parse_month(expected) == index
    assert month_start_ms(index) <= time_ms < month_start_ms(index + 1)
    assert (EPOCH + timedelta(milliseconds=month_start_ms(index))).strftime("%Y-%m-%dT%H:%M:%S.%f") == (
        f"{expected}-01T00:00:00.000000"
    )
