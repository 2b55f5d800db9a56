"""Rate limits by GCRA: one theoretical arrival time a bucket (ITU-T I.371; requirements, section 3).

Times are scaled so that nothing is ever rounded: at ``rate`` units in ``period_ms``, an arrival time is held in
milliseconds × ``rate``, and one unit is ``period_ms`` of it. So a bucket is, to the unit, the token bucket of whole
numbers: it holds ``limit`` tokens, refills continuously, and what came earlier than something already seen is taken as
simultaneous with it. It never refuses: what passes the capacity is debt.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

from sluicegate_schemas.limits import CATEGORIES, CategoryShares, category_limit

from .tables import BucketsRow, ChangedRows, row_key

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
PER_SECOND: Final = "requests_per_second"
PER_MINUTE: Final = "requests_per_minute"
LIMIT_NAMES: Final[tuple[str, ...]] = (PER_SECOND, PER_MINUTE, *map(category_limit, CATEGORIES))
"""The buckets of a key, in the order in which they are held."""
_PERIODS_MS: Final = (SECOND_MS, *[MINUTE_MS] * (len(LIMIT_NAMES) - 1))
_UNLIMITED: Final = 2**200


class Rates(NamedTuple):
    """The request limits of one key, as in ``catalogue.RateLimits``."""

    requests_per_second: int
    burst: int
    requests_per_minute: int


class BucketLimit(NamedTuple):
    """``rate`` units a period, and at most ``limit`` at once; not in force while ``is_exempt``."""

    rate: int
    limit: int
    is_exempt: bool = False


KeyLimits = tuple[BucketLimit, ...]
"""The limits of one key's buckets, as in ``LIMIT_NAMES``."""


def key_limits(rates: Rates, shares: CategoryShares, exempt: Collection[str]) -> KeyLimits:
    """What a key's buckets hold; ``exempt`` are the names of the limits that are off."""
    per_minute = rates.requests_per_minute
    values = [(rates.requests_per_second, rates.burst), (per_minute, per_minute)]
    values += [(limit, limit) for limit in (shares.per_minute(category, per_minute) for category in CATEGORIES)]
    return tuple(BucketLimit(*value, name in exempt) for name, value in zip(LIMIT_NAMES, values, strict=True))


def rescaled(arrival: int, rate_old: int, rate_new: int, now_ms: int) -> int:
    """``arrival`` at another rate, so that the bucket holds the same number of units at ``now_ms``."""
    return now_ms * rate_new + max(0, arrival - now_ms * rate_old)


_Packed = tuple[Rates, list[int], int, list[int]]
"""(the key's rates, the categories', exemptions, arrival times), as in ``BucketsRow``."""


class Bucket:
    """One limit's bucket; ``arrival`` 0 is one that never held anything.

    The hot path of ``meter`` does what ``take`` and ``is_in_debt`` do, in place.
    """

    __slots__ = ("arrival", "capacity", "is_exempt", "limit", "name", "period_ms", "rate")

    def __init__(self, name: str, period_ms: int, limit: BucketLimit) -> None:
        self.name = name
        self.period_ms = period_ms
        self.arrival = 0
        self._set(limit)

    def _set(self, limit: BucketLimit) -> None:
        self.rate, self.limit, self.is_exempt = limit
        self.capacity = _UNLIMITED if self.is_exempt else self.limit * self.period_ms

    def change(self, limit: BucketLimit, now_ms: int) -> None:
        """Takes another limit from ``now_ms`` on. What the bucket holds stays, unless an exemption began or ended:
        then it is full of tokens."""
        if self.arrival and (limit.rate, limit.is_exempt) != (self.rate, self.is_exempt):
            held_before = self.arrival if limit.is_exempt == self.is_exempt else 0
            self.arrival = rescaled(held_before, self.rate, limit.rate, now_ms)
        self._set(limit)

    def take(self, started_at_ms: int, amount: int) -> None:
        """Counts ``amount`` that was used from ``started_at_ms`` on, with debt."""
        self.arrival = max(self.arrival, started_at_ms * self.rate) + amount * self.period_ms

    def is_in_debt(self, now_ms: int) -> bool:
        """Whether it holds more than its capacity at ``now_ms``."""
        return self.arrival - now_ms * self.rate > self.capacity

    def until_ms(self) -> int:
        """When the debt is paid and one more unit fits, rounded up to the millisecond."""
        return -((self.capacity - self.period_ms - self.arrival) // self.rate)

    def held(self, now_ms: int) -> int:
        """Units in the bucket at ``now_ms``, rounded up."""
        return max(0, -((now_ms * self.rate - self.arrival) // self.period_ms))

    def is_at_rest(self, since_ms: int) -> bool:
        """Whether it was full of tokens at ``since_ms``: then it is as good as new."""
        return self.arrival <= since_ms * self.rate


class Buckets:
    """The buckets of one key, in the order of ``LIMIT_NAMES``.

    ``as_of_ms`` is since when their limits are in force; ``is_said``, whether the verdicts that follow from them are.
    """

    __slots__ = ("_all", "_packed", "api_key_id", "as_of_ms", "is_said", "key")

    def __init__(self, key: bytes, api_key_id: str, limits: KeyLimits, as_of_ms: int) -> None:
        self.key = key
        self.api_key_id = api_key_id
        self._all: tuple[Bucket, ...] = tuple(map(Bucket, LIMIT_NAMES, _PERIODS_MS, limits))
        self._packed: _Packed | None = None
        self.as_of_ms = as_of_ms
        self.is_said = True

    @classmethod
    def recovered(cls, key: bytes, api_key_id: str, row: BucketsRow) -> "Buckets":
        """As they were when ``row`` was written, at the limits of then. Raises ValueError for a row that no buckets
        write. They are unpacked when they are first used: most of a partition's keys rest."""
        self = cls.__new__(cls)
        self.key = key
        self.api_key_id = api_key_id
        self._all = ()
        arrivals = list(map(int, (row.second_arrival, row.minute_arrival, *row.category_arrivals)))
        key_rates = Rates(row.requests_per_second, row.burst, row.requests_per_minute)
        self._packed = key_rates, row.category_rates, row.exempt, arrivals
        self.as_of_ms = row.as_of_ms
        self.is_said = row.is_said
        return self

    def _unpack(self, packed: "_Packed") -> tuple[Bucket, ...]:
        """A row that knows no categories yet gets them with its next limits."""
        (rate, burst, per_minute), category_rates, exempt, arrivals = packed
        values = [(rate, burst), (per_minute, per_minute), *((limit, limit) for limit in category_rates)]
        values += [(per_minute, per_minute)] * (len(LIMIT_NAMES) - len(values))
        limits = (BucketLimit(*value, bool(exempt >> at & 1)) for at, value in enumerate(values))
        unpacked = tuple(map(Bucket, LIMIT_NAMES, _PERIODS_MS, limits))
        for bucket, arrival in zip(unpacked, arrivals, strict=False):
            bucket.arrival = arrival
        return unpacked

    @property
    def all(self) -> tuple[Bucket, ...]:
        """One for each limit."""
        if self._packed is not None:
            self._all, self._packed = self._unpack(self._packed), None
        return self._all

    def taken_by(self, category: str) -> tuple[Bucket, ...]:
        """The buckets that a request of the category takes a token of; of none: the key's own alone."""
        every = self.all
        return (*every[:2], *(every[2 + at] for at, name in enumerate(CATEGORIES) if name == category))

    def named(self, limit_name: str) -> Bucket:
        """The bucket of a limit."""
        return self.all[LIMIT_NAMES.index(limit_name)]

    def minute(self, now_ms: int) -> tuple[int, int]:
        """(units in the key's bucket of the minute, rounded up, and its limit), as ``Bucket`` says them."""
        if self._packed is None:
            bucket = self._all[1]
            return bucket.held(now_ms), bucket.limit
        key_rates, _, _, arrivals = self._packed
        rate = key_rates.requests_per_minute
        return max(0, -((now_ms * rate - arrivals[1]) // MINUTE_MS)), rate

    def limits(self) -> KeyLimits:
        """The limits that the arrival times are scaled by."""
        return tuple(BucketLimit(bucket.rate, bucket.limit, bucket.is_exempt) for bucket in self.all)

    def change(self, limits: KeyLimits | None, as_of_ms: int) -> bool:
        """Takes other limits from ``as_of_ms`` on; None: all are off. Returns whether they are others."""
        if limits is None:
            limits = tuple(limit._replace(is_exempt=True) for limit in self.limits())
        if all(
            bucket.rate == rate and bucket.limit == limit and bucket.is_exempt == is_exempt
            for bucket, (rate, limit, is_exempt) in zip(self.all, limits, strict=True)
        ):
            return False
        self.as_of_ms = as_of_ms
        for bucket, limit in zip(self.all, limits, strict=True):
            bucket.change(limit, as_of_ms)
        self.is_said = False
        return True

    def has_row(self) -> bool:
        """Whether anything was ever taken: new buckets are no row of the state."""
        return self._packed is not None or self._all[0].arrival > 0

    def is_at_rest(self, since_ms: int) -> bool:
        """Whether all of them were full of tokens at ``since_ms``, and that is said."""
        if self._packed is None:
            return self.is_said and all(bucket.is_at_rest(since_ms) for bucket in self._all)
        key_rates, category_rates, _, arrivals = self._packed
        rates = (key_rates.requests_per_second, key_rates.requests_per_minute, *category_rates)
        return self.is_said and all(arrival <= since_ms * rate for arrival, rate in zip(arrivals, rates, strict=False))

    def encode(self) -> bytes:
        """The payload of its row."""
        second, minute, *categories = self.all
        return BucketsRow(
            second.rate,
            second.limit,
            minute.rate,
            str(second.arrival),
            str(minute.arrival),
            [bucket.rate for bucket in categories],
            [str(bucket.arrival) for bucket in categories],
            sum(bucket.is_exempt << at for at, bucket in enumerate(self.all)),
            self.as_of_ms,
            self.is_said,
        ).encode()


class KeyBuckets:
    """The buckets of the partition's keys. ``limits_of`` says a key's limits as they are now (None: it has none) and
    the log time."""

    def __init__(self, changed: ChangedRows, limits_of: Callable[[str], tuple[KeyLimits | None, int]]) -> None:
        self._changed = changed.rows
        self._limits_of = limits_of
        self._buckets: dict[str, Buckets] = {}

    def __iter__(self) -> Iterator[Buckets]:
        return iter(list(self._buckets.values()))

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, api_key_id: str) -> Buckets | None:
        """The key's buckets; None where it has no limits."""
        buckets = self._buckets.get(api_key_id)
        if buckets is None:
            limits, now_ms = self._limits_of(api_key_id)
            if limits is None:
                return None
            buckets = self._buckets[api_key_id] = Buckets(row_key("b", api_key_id), api_key_id, limits, now_ms)
        return buckets

    def get(self, api_key_id: str) -> Buckets | None:
        """The key's buckets, if any were made."""
        return self._buckets.get(api_key_id)

    def mark(self, buckets: Buckets) -> None:
        """Something in ``buckets`` changed."""
        if buckets.has_row():
            self._changed[buckets.key] = buckets

    def forget(self, buckets: Buckets) -> None:
        """The key has no limits any more, or its buckets are as good as new."""
        del self._buckets[buckets.api_key_id]
        if buckets.has_row():
            self._changed[buckets.key] = None

    def evict(self, since_ms: int, at_most: int) -> tuple[bool, bool]:
        """Forgets the buckets that were full of tokens at ``since_ms``, ``at_most`` so many; returns whether any were
        forgotten, and whether some are left."""
        resting = [buckets for buckets in self._buckets.values() if buckets.is_at_rest(since_ms)]
        forgotten = resting[: max(0, at_most)]
        for buckets in forgotten:
            self.forget(buckets)
        return bool(forgotten), len(forgotten) < len(resting)

    def restore(self, api_key_id: str, row: BucketsRow) -> None:
        """Takes in a recovered row. Raises ValueError."""
        self._buckets[api_key_id] = Buckets.recovered(row_key("b", api_key_id), api_key_id, row)
