"""What an operation costs, in micro-credits and whole numbers (requirements, sections 2 and 9): the one meaning of a
price, for workers that rate and for gates that reserve.

``rater`` turns one entry of the rate card into a function (quantities, model) → (units, credits_micro).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Final

from .catalogue import (
    FreePrice,
    HeldPrice,
    ModelPrice,
    Price,
    StartedPrice,
    StepPrice,
    UnitPrice,
)

Quantities = Mapping[str, int]
Rater = Callable[[Quantities, str | None], tuple[int, int]]
REQUESTS: Final = "requests"


class MissingQuantityError(ValueError):
    """A price is for a quantity that the event lacks; ``quantity`` is its name."""

    def __init__(self, quantity: str) -> None:
        super().__init__(quantity)
        self.quantity = quantity


def amount_of(quantities: Quantities, name: str) -> int:
    """The quantity ``name``; ``requests`` is 1 where absent. Raises MissingQuantityError."""
    amount = quantities.get(name)
    if amount is not None:
        return amount
    if name == REQUESTS:
        return 1
    raise MissingQuantityError(name)


def metered_name(price: Price) -> str:
    """The quantity that an operation's units count."""
    return REQUESTS if isinstance(price, FreePrice | ModelPrice) else price.quantity


def rater(price: Price) -> Rater:
    """The function of ``price``; it raises MissingQuantityError. Held amounts cost by their samples: here 0."""
    match price:
        case FreePrice():
            return lambda quantities, model: (quantities.get(REQUESTS, 1), 0)
        case HeldPrice(quantity=name):
            return lambda quantities, model: (amount_of(quantities, name), 0)
        case UnitPrice():
            return _per_unit(price)
        case ModelPrice():
            return _per_model(price)
        case StartedPrice():
            return _per_started(price)
        case StepPrice():
            return _steps(price)


def _per_unit(price: UnitPrice) -> Rater:
    name, double_price, double_per, per = price.quantity, 2 * price.credits_micro, 2 * price.per, price.per

    def rate(quantities: Quantities, model: str | None) -> tuple[int, int]:
        amount = amount_of(quantities, name)
        return amount, (amount * double_price + per) // double_per  # half up

    return rate


def _per_model(price: ModelPrice) -> Rater:
    price_of, default = dict(price.models).get, price.credits_micro_default

    def rate(quantities: Quantities, model: str | None) -> tuple[int, int]:
        requests = quantities.get(REQUESTS, 1)
        return requests, requests * (default if model is None else price_of(model, default))

    return rate


def _per_started(price: StartedPrice) -> Rater:
    name, per, micro, least, most = (
        price.quantity, price.per, price.credits_micro, price.credits_micro_min, price.credits_micro_max,
    )  # fmt: skip

    def rate(quantities: Quantities, model: str | None) -> tuple[int, int]:
        amount = amount_of(quantities, name)
        return amount, min(max(-(-amount // per) * micro, least), most)

    return rate


def _steps(price: StepPrice) -> Rater:
    name = price.quantity
    ends = [step.up_to for step in price.steps]
    amounts = [*(step.credits_micro for step in price.steps), price.credits_micro_above]

    def rate(quantities: Quantities, model: str | None) -> tuple[int, int]:
        amount = amount_of(quantities, name)
        return amount, amounts[bisect_left(ends, amount)]

    return rate
