"""Rate limits by GCRA: one theoretical arrival time a bucket (ITU-T I.371; requirements, section 3).

Times are scaled so that nothing is ever rounded: at ``rate`` requests in ``period_ms``, an arrival time is held in
milliseconds × ``rate``, and one request is ``period_ms`` of it. So a bucket is, to the request, the token bucket of
whole numbers: it holds ``capacity`` tokens, refills continuously, and a request that came earlier than one already seen
is taken as simultaneous with it. It never refuses: what passes the capacity is debt.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from .tables import BucketsRow, ChangedRows, row_key

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000


class Rates(NamedTuple):
    """The request limits of one key, as in ``catalogue.RateLimits``."""

    requests_per_second: int
    burst: int
    requests_per_minute: int


def rescaled(arrival: int, rate_old: int, rate_new: int, now_ms: int) -> int:
    """``arrival`` at another rate, so that the bucket holds the same number of requests at ``now_ms``."""
    return now_ms * rate_new + max(0, arrival - now_ms * rate_old)


class Buckets:
    """The second and the minute bucket of one key; empty of requests when new.

    The hot path of ``meter`` does what ``take`` does, in place.
    """

    __slots__ = (
        "api_key_id", "burst", "key", "minute_arrival", "minute_capacity", "requests_per_minute",
        "requests_per_second", "second_arrival", "second_capacity",
    )  # fmt: skip

    def __init__(self, key: bytes, api_key_id: str, rates: Rates) -> None:
        self.key = key
        self.api_key_id = api_key_id
        self.second_arrival = 0
        self.minute_arrival = 0
        self._set(rates)

    def _set(self, rates: Rates) -> None:
        self.requests_per_second, self.burst, self.requests_per_minute = rates
        self.second_capacity = self.burst * SECOND_MS
        self.minute_capacity = self.requests_per_minute * MINUTE_MS

    def rates(self) -> Rates:
        """The limits that the arrival times are scaled by."""
        return Rates(self.requests_per_second, self.burst, self.requests_per_minute)

    def change(self, rates: Rates, now_ms: int) -> None:
        """Takes other limits from ``now_ms`` on; the requests in the buckets stay. New buckets, which have no row, stay
        new."""
        if self.second_arrival:
            rate, rate_minute = rates.requests_per_second, rates.requests_per_minute
            self.second_arrival = rescaled(self.second_arrival, self.requests_per_second, rate, now_ms)
            self.minute_arrival = rescaled(self.minute_arrival, self.requests_per_minute, rate_minute, now_ms)
        self._set(rates)

    def take(self, started_at_ms: int, requests: int) -> None:
        """Counts ``requests`` that started at ``started_at_ms``, with debt."""
        rate = self.requests_per_second
        self.second_arrival = max(self.second_arrival, started_at_ms * rate) + requests * SECOND_MS
        rate = self.requests_per_minute
        self.minute_arrival = max(self.minute_arrival, started_at_ms * rate) + requests * MINUTE_MS

    def in_debt(self, now_ms: int) -> tuple[bool, bool]:
        """Whether the (second, minute) bucket holds more than its capacity at ``now_ms``."""
        return (
            self.second_arrival - now_ms * self.requests_per_second > self.second_capacity,
            self.minute_arrival - now_ms * self.requests_per_minute > self.minute_capacity,
        )

    def second_until_ms(self) -> int:
        """When the second bucket's debt is paid and one more request fits, rounded up to the millisecond."""
        return -((self.second_capacity - SECOND_MS - self.second_arrival) // self.requests_per_second)

    def minute_until_ms(self) -> int:
        """When the minute bucket's debt is paid and one more request fits, rounded up to the millisecond."""
        return -((self.minute_capacity - MINUTE_MS - self.minute_arrival) // self.requests_per_minute)

    def held(self, now_ms: int) -> tuple[int, int]:
        """Requests in the (second, minute) bucket at ``now_ms``, rounded up."""
        return (
            max(0, -((now_ms * self.requests_per_second - self.second_arrival) // SECOND_MS)),
            max(0, -((now_ms * self.requests_per_minute - self.minute_arrival) // MINUTE_MS)),
        )

    def at_rest(self, since_ms: int) -> bool:
        """Whether both buckets were full of tokens at ``since_ms``: then they are as good as new."""
        return (
            self.second_arrival <= since_ms * self.requests_per_second
            and self.minute_arrival <= since_ms * self.requests_per_minute
        )

    def encode(self) -> bytes:
        """The payload of its row."""
        return BucketsRow(
            self.requests_per_second,
            self.burst,
            self.requests_per_minute,
            str(self.second_arrival),
            str(self.minute_arrival),
        ).encode()


class KeyBuckets:
    """The buckets of the partition's keys. ``rates_of`` says a key's limits as they are now; None: it has none."""

    def __init__(self, changed: ChangedRows, rates_of: Callable[[str], Rates | None]) -> None:
        self._changed = changed.rows
        self._rates_of = rates_of
        self._buckets: dict[str, Buckets] = {}

    def __iter__(self) -> Iterator[Buckets]:
        return iter(list(self._buckets.values()))

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, api_key_id: str) -> Buckets | None:
        """The key's buckets; None where it has no limits."""
        buckets = self._buckets.get(api_key_id)
        if buckets is None:
            rates = self._rates_of(api_key_id)
            if rates is None:
                return None
            buckets = self._buckets[api_key_id] = Buckets(row_key("b", api_key_id), api_key_id, rates)
        return buckets

    def get(self, api_key_id: str) -> Buckets | None:
        """The key's buckets, if any were made."""
        return self._buckets.get(api_key_id)

    def adapt(self, buckets: Buckets, now_ms: int) -> bool:
        """Brings buckets to the key's limits as they are now; returns whether those had changed."""
        rates = self._rates_of(buckets.api_key_id)
        if rates == buckets.rates():
            return False
        if rates is None:
            self._forget(buckets)
        else:
            had_row = buckets.second_arrival > 0
            buckets.change(rates, now_ms)
            if had_row:
                self._changed[buckets.key] = buckets
        return True

    def _forget(self, buckets: Buckets) -> None:
        del self._buckets[buckets.api_key_id]
        if buckets.second_arrival:
            self._changed[buckets.key] = None

    def evict(self, since_ms: int, at_most: int) -> tuple[bool, bool]:
        """Forgets the buckets that were full of tokens at ``since_ms``, ``at_most`` so many; returns whether any were
        forgotten, and whether some are left."""
        resting = [buckets for buckets in self._buckets.values() if buckets.at_rest(since_ms)]
        forgotten = resting[: max(0, at_most)]
        for buckets in forgotten:
            self._forget(buckets)
        return bool(forgotten), len(forgotten) < len(resting)

    def restore(self, api_key_id: str, row: BucketsRow) -> None:
        """Takes in a recovered row, with the limits that it was written at."""
        rates = Rates(row.requests_per_second, row.burst, row.requests_per_minute)
        buckets = self._buckets[api_key_id] = Buckets(row_key("b", api_key_id), api_key_id, rates)
        buckets.second_arrival = int(row.second_arrival)
        buckets.minute_arrival = int(row.minute_arrival)
