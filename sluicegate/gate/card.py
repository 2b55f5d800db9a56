"""What a catalogue's operations cost and are limited by, made ready for a gate."""

from typing import Final

from sluicegate_schemas.catalogue import Catalogue, FreePrice, ModelPrice, RateCardEntry, StartedPrice, StepPrice
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.limits import ConcurrentPerSubject, OncePerSubject, QuantityPerMinute, ResultsMax
from sluicegate_schemas.rating import MissingQuantityError, rater

UNRATED_MAX: Final = 1_000
"""Operations that the card lacks of which a card remembers that."""


class Priced:
    """One operation of one catalogue version: its category, price and limits. What the card lacks costs 0 and has no
    category (requirements, section 2)."""

    __slots__ = (
        "category", "concurrent", "costs", "creates", "hangs_on_model", "once", "plain_worst_micro", "quantity", "rate",
        "results", "unknown_micro",
    )  # fmt: skip

    def __init__(self, catalogue: Catalogue, operation: str) -> None:
        entry = catalogue.operations.get(operation)
        price = FreePrice() if entry is None else entry.price
        self.category = None if entry is None else entry.category
        self.creates = None if entry is None else entry.creates
        self.costs = price.kind != "free"
        self.rate = rater(price)
        self.hangs_on_model = isinstance(price, ModelPrice)
        self.unknown_micro = 0 if entry is None else _unknown_micro(entry)
        self.once: OncePerSubject | None = None
        self.concurrent: ConcurrentPerSubject | None = None
        self.quantity: QuantityPerMinute | None = None
        self.results: ResultsMax | None = None
        self.plain_worst_micro = self.worst_micro(WireCharge(operation))
        for limit in catalogue.operation_limits:
            if limit.operation == operation:
                match limit:
                    case OncePerSubject():
                        self.once = limit
                    case ConcurrentPerSubject():
                        self.concurrent = limit
                    case QuantityPerMinute():
                        self.quantity = limit
                    case ResultsMax():
                        self.results = limit

    def worst_micro(self, charge: WireCharge) -> int:
        """The most that it costs, by the quantities and the model that are known; never negative."""
        if charge.cached:
            return 0
        quantities = charge.quantities or {}
        if self.hangs_on_model and charge.model is None:
            return max(0, self.unknown_micro * quantities.get("requests", 1))
        try:
            return max(0, self.rate(quantities, charge.model)[1])
        except MissingQuantityError:
            return self.unknown_micro

    def cost_micro(self, charge: WireCharge) -> int:
        """What it costs, never negative; 0 where a quantity is missing, since that event is rejected."""
        if charge.cached:
            return 0
        try:
            return max(0, self.rate(charge.quantities or {}, charge.model)[1])
        except MissingQuantityError:
            return 0


def _unknown_micro(entry: RateCardEntry) -> int:
    """What a request may cost whose quantity or model is not known; 0 where the card states nothing."""
    if entry.credits_micro_reserved is not None:
        return entry.credits_micro_reserved
    match entry.price:
        case ModelPrice(models=models, credits_micro_default=default):
            return max([default, *models.values()])
        case StartedPrice(credits_micro_max=most):
            return most
        case StepPrice(steps=steps, credits_micro_above=above):
            return max([above, *(step.credits_micro for step in steps)])
        case _:
            return 0


class Card:
    """The operations of one catalogue version."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._priced: dict[str, Priced] = {}
        self._priced_max = len(catalogue.operations) + UNRATED_MAX

    def priced(self, operation: str) -> Priced:
        """The operation, made ready once."""
        found = self._priced.get(operation)
        if found is None:
            if len(self._priced) >= self._priced_max:
                self._priced.clear()
            found = self._priced[operation] = Priced(self.catalogue, operation)
        return found
