"""Request limits as GCRA in whole numbers: one stored time per bucket, no rounding, no drift.

A bucket of ``capacity`` requests that drains ``rate`` of them each ``period_ms`` lets at most
``capacity + rate * t / period_ms`` requests through within any ``t`` milliseconds (requirements, section 9). It is the
generic cell rate algorithm of ITU-T I.371 in its virtual scheduling form; stored is when the bucket is full again.
Times are kept in units of 1/``rate`` ms, in which every request takes exactly ``period_ms``.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from sluicegate_schemas.limits import LimitName, RateLimits

MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000
_IDLE_MS: Final = 60_000
"""So long a key is kept whose buckets are full: one that is used now and then need not be made anew each time."""


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


def buckets_of(rates: RateLimits) -> tuple[Bucket, ...]:
    """The second and the minute bucket of a key (requirements, section 3)."""
    return (
        Bucket("requests_per_second", rates.requests_per_second, SECOND_MS, rates.burst),
        Bucket("requests_per_minute", rates.requests_per_minute, MINUTE_MS, rates.requests_per_minute),
    )


def at_percent(bucket: Bucket, percent: int) -> Bucket:
    """The bucket at ``percent`` of its rate and capacity, each at least 1."""
    return bucket._replace(rate=max(1, bucket.rate * percent // 100), capacity=max(1, bucket.capacity * percent // 100))


class Level(NamedTuple):
    """A bucket as it stands at one moment."""

    bucket: Bucket
    remaining: int
    """Requests that it lets through at once."""
    wait_ms: int
    """Until it lets one through; 0: now."""
    full_in_ms: int
    """Until it is full again, if nothing more comes; rounded up."""


Held = list[tuple[LimitName, tuple[int, int]]]
"""Buckets by name: the rate, and when it is full again in units of 1/rate ms."""


class Taken(NamedTuple):
    """The answer to one request: all or nothing. ``levels`` are those after it."""

    admitted: bool
    levels: tuple[Level, ...]


class Limiter:
    """The buckets of many keys, in bounded memory.

    A bucket that is full again says nothing; a key that had no other for a minute is dropped as others are used. Above
    ``keys_max`` the key that was used longest ago is forgotten, though its buckets are not full: it may then burst once
    more (counted in ``forgotten``).
    """

    def __init__(self, keys_max: int = 200_000) -> None:
        self.forgotten = 0
        self._keys_max = keys_max
        self._swept_until_ms = 0
        """Before that the key used longest ago, as of the last look, need not go."""
        self._keys: OrderedDict[str, dict[LimitName, tuple[int, int]]] = OrderedDict()
        """By key and bucket: the rate, and when it is full again in units of 1/rate ms."""

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> Taken:
        """Takes one request out of every bucket of ``key``, or of none if one of them is empty."""
        taken = self.pass_through(key, buckets, now_ms)
        if taken is None:
            self._sweep(now_ms)
            return Taken(False, self.peek(key, buckets, now_ms))
        return Taken(True, self.peek(key, buckets, now_ms))

    def pass_through(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> Held | None:
        """The same as ``take``, told shorter (see ``stands_after``); None where one of the buckets is empty."""
        keys = self._keys
        held = keys.get(key)
        if held is None:
            held = {}
        taken: Held = []
        for name, rate, period_ms, capacity in buckets:
            now = now_ms * rate
            entry = held.get(name)
            if entry is None:
                full_at = now
            else:
                old_rate, full_at = entry
                if old_rate != rate:
                    full_at = full_at - now_ms * old_rate + now
                if full_at < now:
                    full_at = now
            full_at += period_ms
            if full_at - now > capacity * period_ms:
                return None
            taken.append((name, (rate, full_at)))
        if taken:
            held.update(taken)
            keys[key] = held
            keys.move_to_end(key)
        if now_ms >= self._swept_until_ms or len(keys) > self._keys_max:
            self._sweep(now_ms)
        return taken

    def peek(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> tuple[Level, ...]:
        """The buckets of ``key`` as they stand; takes nothing."""
        return _levels(buckets, _debts(self._keys.get(key, {}), buckets, now_ms))

    def charge(self, key: str, buckets: tuple[Bucket, ...], now_ms: int) -> None:
        """Takes one request out of every bucket that has one left, for a refused request that counts (a plan may say
        so)."""
        for bucket in buckets:
            self.take(key, (bucket,), now_ms)

    def _sweep(self, now_ms: int) -> None:
        """Looks at the two keys used longest ago: more than one request can add."""
        for _ in range(2):
            key = next(iter(self._keys), None)
            if key is None:
                return
            full_at_ms = max(-(-at // rate) for rate, at in self._keys[key].values())
            if full_at_ms + _IDLE_MS > now_ms and len(self._keys) <= self._keys_max:
                self._swept_until_ms = full_at_ms + _IDLE_MS
                return
            self.forgotten += full_at_ms > now_ms
            self._swept_until_ms = 0
            del self._keys[key]


def _debts(held: dict[LimitName, tuple[int, int]], buckets: tuple[Bucket, ...], now_ms: int) -> list[int]:
    """What each bucket holds, ``period_ms`` a request.

    A new rate keeps what was taken. A clock that was set back can't make a bucket hold more than its capacity, and that
    drains from then on.
    """
    debts = []
    for name, new_rate, period_ms, capacity in buckets:
        entry = held.get(name)
        if entry is None:
            debts.append(0)
            continue
        rate, full_at = entry
        debt = full_at - now_ms * rate
        if debt < 0:
            debt = 0
        elif debt > capacity * period_ms:
            debt = capacity * period_ms
            held[name] = new_rate, now_ms * new_rate + debt
        debts.append(debt)
    return debts


def stands_after(buckets: tuple[Bucket, ...], taken: Held, now_ms: int) -> list[tuple[Bucket, int, int]]:
    """``buckets`` after a request that passed them at ``now_ms``: (bucket, remaining, full in ms) as in ``Level``."""
    return [
        (bucket, bucket[3] - -((now_ms * rate - full_at) // bucket[2]), -((now_ms * rate - full_at) // rate))
        for bucket, (_, (rate, full_at)) in zip(buckets, taken, strict=True)
    ]


def _levels(buckets: tuple[Bucket, ...], debts: list[int]) -> tuple[Level, ...]:
    return tuple([_level(bucket, debt) for bucket, debt in zip(buckets, debts, strict=True)])


def _level(bucket: Bucket, debt: int) -> Level:
    _, rate, period_ms, capacity = bucket
    room = capacity * period_ms - debt
    return Level(bucket, room // period_ms, -((room - period_ms) // rate) if room < period_ms else 0, -(-debt // rate))
