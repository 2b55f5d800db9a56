"""Request limits as GCRA in whole numbers: one stored time per bucket, no rounding, no drift.

A bucket of ``capacity`` requests that drains ``rate`` of them each ``period_ms`` lets at most
``capacity + rate * t / period_ms`` requests through within any ``t`` milliseconds (requirements, section 9). It is the
generic cell rate algorithm of ITU-T I.371 in its virtual scheduling form; stored is when the bucket is full again.
Times are kept in units of 1/``rate`` ms, in which every request takes exactly ``period_ms``.
"""

from collections import OrderedDict
from functools import lru_cache
from typing import Final, NamedTuple

from sluicegate_schemas.limits import LimitName, RateLimits

MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000


class Bucket(NamedTuple):
    """The limits of one bucket: ``rate`` requests per ``period_ms``, at most ``capacity`` at once.

    ``limit`` is what a caller is told: the requests of one ``period_ms``.
    """

    name: LimitName
    rate: int
    period_ms: int
    capacity: int

    @property
    def limit(self) -> int:
        return self.rate

    @property
    def window_s(self) -> int:
        """The period in seconds."""
        return self.period_ms // 1000

    @property
    def window(self) -> str:
        """The period as bodies write it: "1s" or "1m"."""
        return "1m" if self.period_ms == MINUTE_MS else f"{self.window_s}s"

    @property
    def fill_s(self) -> int:
        """Seconds that an empty bucket takes to be full again, rounded up."""
        return -(-self.capacity * self.period_ms // (self.rate * 1000))


@lru_cache(maxsize=1024)
def _buckets(requests_per_second: int, burst: int, requests_per_minute: int) -> tuple[Bucket, ...]:
    return (
        Bucket("requests_per_second", requests_per_second, SECOND_MS, burst),
        Bucket("requests_per_minute", requests_per_minute, MINUTE_MS, requests_per_minute),
    )


def buckets_of(rates: RateLimits) -> tuple[Bucket, ...]:
    """The second and the minute bucket of a key (requirements, section 3)."""
    return _buckets(rates.requests_per_second, rates.burst, rates.requests_per_minute)


class Level(NamedTuple):
    """A bucket as it stands at one moment."""

    bucket: Bucket
    remaining: int
    """Requests that it lets through at once."""
    wait_ms: int
    """Until it lets one through; 0: now."""
    full_in_ms: int
    """Until it is full again, if nothing more comes; rounded up."""


class Taken(NamedTuple):
    """The answer to one request: all or nothing. ``levels`` are those after it."""

    admitted: bool
    levels: tuple[Level, ...]


class Limiter:
    """The buckets of many keys, in bounded memory.

    A bucket that is full again says nothing and is dropped as others are used. Above ``keys_max`` the key that was used
    longest ago is forgotten, though its bucket is not full: it may then burst once more (counted in ``forgotten``).
    """

    def __init__(self, keys_max: int = 200_000) -> None:
        self.forgotten = 0
        self._keys_max = keys_max
        self._full_at: OrderedDict[str, tuple[tuple[Bucket, ...], list[int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> Taken:
        """Takes one request out of every bucket of ``key``, or of none if one of them is empty."""
        debts = self._debts(key, buckets, now_ms)
        admitted = all(
            debt + bucket.period_ms <= bucket.capacity * bucket.period_ms
            for bucket, debt in zip(buckets, debts, strict=True)
        )
        if admitted:
            debts = [debt + bucket.period_ms for bucket, debt in zip(buckets, debts, strict=True)]
            full_at = [now_ms * bucket.rate + debt for bucket, debt in zip(buckets, debts, strict=True)]
            self._full_at[key] = (buckets, full_at)
            self._full_at.move_to_end(key)
        self._sweep(now_ms)
        return Taken(admitted, _levels(buckets, debts))

    def peek(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> tuple[Level, ...]:
        """The buckets of ``key`` as they stand; takes nothing."""
        return _levels(buckets, self._debts(key, buckets, now_ms))

    def _debts(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> list[int]:
        """What each bucket holds, ``period_ms`` a request.

        A new rate keeps what was taken, but for a key that had no limits or has none any more: it begins anew. A clock
        that was set back can't make a bucket hold more than its capacity, and that drains from then on.
        """
        held = self._full_at.get(key)
        if held is None or len(held[0]) != len(buckets):
            return [0] * len(buckets)
        before, full_at = held
        debts = [max(0, at - now_ms * old.rate) for old, at in zip(before, full_at, strict=True)]
        if any(debt > bucket.capacity * bucket.period_ms for bucket, debt in zip(buckets, debts, strict=True)):
            debts = [min(debt, bucket.capacity * bucket.period_ms) for bucket, debt in zip(buckets, debts, strict=True)]
            full_at = [now_ms * bucket.rate + debt for bucket, debt in zip(buckets, debts, strict=True)]
            self._full_at[key] = (buckets, full_at)
        return debts

    def _sweep(self, now_ms: int) -> None:
        """Looks at the two keys used longest ago: more than one request can add."""
        for _ in range(2):
            oldest = next(iter(self._full_at.items()), None)
            if oldest is None:
                return
            key, (buckets, full_at) = oldest
            full = all(at <= now_ms * bucket.rate for bucket, at in zip(buckets, full_at, strict=True))
            if not full and len(self._full_at) <= self._keys_max:
                return
            self.forgotten += not full
            del self._full_at[key]


def _levels(buckets: tuple[Bucket, ...], debts: list[int]) -> tuple[Level, ...]:
    return tuple(_level(bucket, debt) for bucket, debt in zip(buckets, debts, strict=True))


def _level(bucket: Bucket, debt: int) -> Level:
    room = bucket.capacity * bucket.period_ms - debt
    return Level(
        bucket,
        remaining=room // bucket.period_ms,
        wait_ms=max(0, -((room - bucket.period_ms) // bucket.rate)),
        full_in_ms=-(-debt // bucket.rate),
    )
