"""The buckets against an exact token bucket, and the months against the calendar."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from streams.domain.limits import Buckets, Rates
from streams.domain.period import month_index, month_start_ms, month_text, parse_month

RATES = st.builds(Rates, st.integers(1, 10**6), st.integers(1, 10**7), st.integers(1, 6 * 10**7))
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


@given(
    st.one_of(RATES, st.builds(Rates, st.integers(1, 7), st.integers(1, 5), st.integers(1, 90))),
    st.lists(st.tuples(st.integers(-3_000, 3_000), st.integers(0, 5)), max_size=60),
)
def test_the_buckets_agree_with_an_exact_token_bucket_to_the_request(rates, requests):
    buckets = Buckets(b"b|key_a", "key_a", rates)
    second = TokenBucket(rates.burst, Fraction(rates.requests_per_second, 1_000))
    minute = TokenBucket(rates.requests_per_minute, Fraction(rates.requests_per_minute, 60_000))
    now_ms = last_ms = 1_795_291_200_000
    for step_ms, count in requests:
        started_ms = now_ms + step_ms
        now_ms = max(now_ms, started_ms)
        if count:
            buckets.take(started_ms, count)
            second.take(started_ms, count)
            minute.take(started_ms, count)
            last_ms = max(last_ms, started_ms)
        for model, in_debt, held in zip((second, minute), buckets.in_debt(now_ms), buckets.held(now_ms), strict=True):
            assert in_debt == (model.at(now_ms) < 0)
            assert held == -((model.at(now_ms) - model.capacity) // 1)
        for model, until_ms in ((second, buckets.second_until_ms()), (minute, buckets.minute_until_ms())):
            if model.at(now_ms) < 0:
                assert model.at(until_ms) >= 1
                assert model.at(until_ms - 1) < 1
        assert buckets.at_rest(now_ms) == all(model.at(now_ms) == model.capacity for model in (second, minute))


@given(RATES, RATES, st.integers(0, 100), st.integers(0, 10_000))
def test_a_change_of_limits_keeps_the_requests_that_a_bucket_holds(before, after, count, elapsed_ms):
    start_ms = 1_795_291_200_000
    now_ms = start_ms + elapsed_ms
    buckets = Buckets(b"b|key_a", "key_a", before)
    buckets.take(start_ms, count)
    held = buckets.held(now_ms)
    buckets.change(after, now_ms)
    assert buckets.held(now_ms) == held
    assert buckets.rates() == after


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
