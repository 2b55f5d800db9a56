"""What is compared, and what a comparison finds."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple, Self

from sluicegate_schemas.alerts import DriftPair

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400


class Amounts(NamedTuple):
    """Sums of rollup cells; ``requests`` holds errors and throttled ones too."""

    requests: int = 0
    errors: int = 0
    throttled: int = 0
    units: int = 0
    credits_micro: int = 0
    events: int = 0

    def plus(self, other: Self) -> "Amounts":
        """Each amount added."""
        return Amounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: Self) -> "Amounts":
        """Each amount subtracted; may be negative."""
        return Amounts(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    @classmethod
    def total(cls, parts: Iterable[Self]) -> "Amounts":
        """The sum of ``parts``."""
        sums = [0] * len(cls._fields)
        for part in parts:
            for index, amount in enumerate(part):
                sums[index] += amount
        return cls(*sums)


NOTHING: Final = Amounts()


class Place(NamedTuple):
    """Where two sides were compared: a whole month (``length_s`` 0), or the minutes from ``start_s`` (UTC epoch
    seconds) on for ``length_s``; None where the comparison is not narrowed by that name."""

    pair: DriftPair
    organization_id: str | None
    month: str | None
    start_s: int = 0
    length_s: int = 0
    source: str | None = None
    api_key_id: str | None = None
    operation: str | None = None
    category: str | None = None
    chunk: int | None = None


class Difference(NamedTuple):
    """The two sides of a pair do not agree at ``place``: ``expected`` is the left side's (the ledger's, the state's,
    the finer table's), ``found`` the right side's. ``why`` adds what the amounts do not say, in words."""

    place: Place
    expected: Amounts
    found: Amounts
    why: str = ""

    @property
    def drift(self) -> Amounts:
        """Found less expected."""
        return self.found.minus(self.expected)


class Looked(NamedTuple):
    """What a comparison came to. ``in_motion`` counts what could not be compared at one cut this time: a delay."""

    differences: list[Difference]
    compared: int
    in_motion: int = 0

    def plus(self, other: Self) -> "Looked":
        """Both together."""
        return Looked(
            [*self.differences, *other.differences], self.compared + other.compared, self.in_motion + other.in_motion
        )


@lru_cache(maxsize=4_096)
def _month_of_day(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_S, UTC):%Y-%m}"


def month_of(time_s: int) -> str:
    """The UTC month that ``time_s`` (epoch seconds) lies in, as ``2026-01``."""
    return _month_of_day(time_s // DAY_S)


def month_start_s(month: str) -> int:
    """The first second of ``month`` (``2026-01``), in epoch seconds."""
    return int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp())
