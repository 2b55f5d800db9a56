"""What usage costs by the catalogue: prices, versions and months, with exact fractions.

Half of the independent expectation (``stack.expected``): it shares nothing with the workers but the schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Final

from sluicegate_schemas import bounds
from sluicegate_schemas.catalogue import (
    Catalogue,
    FreePrice,
    HeldPrice,
    ModelPrice,
    Price,
    StartedPrice,
    StepPrice,
    UnitPrice,
)

_DAY_MS: Final = 86_400_000
GRACE: Final = timedelta(hours=24)
"""How long after its end a month still takes late events (requirements, section 9)."""


class MissingQuantityError(ValueError):
    """A charge lacks the quantity that its price is for; the argument is the quantity's name."""


def half_up(amount: Fraction) -> int:
    """``amount`` (not negative) rounded to a whole number, halves up."""
    return floor(amount + Fraction(1, 2))


def price_micro(price: Price, quantities: Mapping[str, int], model: str | None) -> int:
    """What one charge costs, in micro-credits; what is held costs by its samples, so as a charge nothing.

    :raises MissingQuantityError: the price is for a quantity that ``quantities`` lacks.
    """
    match price:
        case FreePrice():
            return 0
        case HeldPrice(quantity=name):
            quantity(quantities, name)
            return 0
        case ModelPrice(models=models, credits_micro_default=default):
            return (default if model is None else models.get(model, default)) * quantity(quantities, "requests")
        case UnitPrice(quantity=name, per=per, credits_micro=micro):
            return half_up(Fraction(quantity(quantities, name) * micro, per))
        case StartedPrice(quantity=name, per=per, credits_micro=micro):
            started = -(-quantity(quantities, name) // per)
            return min(max(started * micro, price.credits_micro_min), price.credits_micro_max)
        case StepPrice(quantity=name, steps=steps, credits_micro_above=above):
            amount = quantity(quantities, name)
            return next((step.credits_micro for step in steps if amount <= step.up_to), above)


def quantity(quantities: Mapping[str, int], name: str) -> int:
    """The quantity ``name``; ``requests`` is 1 where absent.

    :raises MissingQuantityError: it is not there.
    """
    if name in quantities:
        return quantities[name]
    if name == "requests":
        return 1
    raise MissingQuantityError(name)


def month_of(ts_ms: int) -> str:
    """The month of an event's time, as ``2026-01``, in UTC."""
    return _month_of_day(ts_ms // _DAY_MS)


@lru_cache(maxsize=1_024)
def _month_of_day(day: int) -> str:
    return bounds.from_epoch_ms(day * _DAY_MS).strftime("%Y-%m")


@lru_cache(maxsize=1_024)
def month_span_ms(month: str) -> tuple[int, int]:
    """First and one past the last millisecond of ``month``."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    following = (start + timedelta(days=32)).replace(day=1)
    return bounds.to_epoch_ms(start), bounds.to_epoch_ms(following)


def month_booked(month: str, log_time_ms: int) -> str:
    """The month whose ledger takes usage of ``month``: from its grace's end on the one of the log's time."""
    current = month_of(log_time_ms)
    is_closed = month < current and bounds.from_epoch_ms(log_time_ms) >= (
        bounds.from_epoch_ms(month_span_ms(month)[1]) + GRACE
    )
    return current if is_closed else month


class RateCards:
    """The catalogue versions by the time from which they are in force; before the first, the first rates."""

    def __init__(self, catalogues: Sequence[Catalogue]) -> None:
        if not catalogues:
            raise ValueError("no catalogue was published, so nothing can be rated")
        self._versions = sorted(catalogues, key=lambda one: (one.effective_at, one.version))

    def at(self, ts_ms: int) -> Catalogue:
        """The version in force at ``ts_ms``."""
        started = [one for one in self._versions if bounds.to_epoch_ms(one.effective_at) <= ts_ms]
        return started[-1] if started else self._versions[0]

    def next_start_ms(self, ts_ms: int) -> int | None:
        """When another version takes effect after ``ts_ms``."""
        starts = (bounds.to_epoch_ms(one.effective_at) for one in self._versions)
        return min((start for start in starts if start > ts_ms), default=None)
