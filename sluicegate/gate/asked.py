"""What a request is about to do, as far as that is known before it runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple, TypedDict

from sluicegate_schemas.bounds import CHARGES_MAX, LABELS_MAX, QUANTITY_MAX
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.wire_checks import is_label, is_name, is_operation, is_subject

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


class Description(TypedDict, total=False):
    """What a service says of a request beforehand; see ``Asked``."""

    charges: Sequence[str | WireCharge]
    cached: bool
    subject: str | None
    labels: Mapping[str, str]
    creates: int
    objects: int | None
    results: int | None
    quantities: Mapping[str, int]
    model: str | None


def usable(description: Description) -> Description:
    """``description`` without what no request can be: it often comes from the caller, whose text must neither raise nor
    fill memory. Left out are a subject, labels, charges and a model that no event may carry, and amounts that none can
    be; in charges too."""
    kept = description.copy()
    if not is_subject(kept.get("subject")):
        kept.pop("subject", None)
    if not is_name(kept.get("model")):
        kept.pop("model", None)
    if "labels" in kept:
        kept["labels"] = dict(islice((one for one in kept["labels"].items() if is_label(*one)), LABELS_MAX))
    if not is_amount(kept.get("creates")):
        kept.pop("creates", None)
    if not is_amount(kept.get("objects")):
        kept.pop("objects", None)
    if not is_amount(kept.get("results")):
        kept.pop("results", None)
    if "quantities" in kept:
        kept["quantities"] = amounts_of(kept["quantities"])
    if "charges" in kept:
        kept["charges"] = list(islice(_usable_charges(kept["charges"]), CHARGES_MAX))
    return kept


def _usable_charges(charges: Iterable[object]) -> Iterator[WireCharge]:
    for one in charges:
        charge = WireCharge(one) if isinstance(one, str) else one
        if isinstance(charge, WireCharge) and is_operation(charge.operation):
            quantities = amounts_of(charge.quantities) if isinstance(charge.quantities, dict) else None
            model = charge.model if is_name(charge.model) else None
            yield WireCharge(charge.operation, quantities or None, model, charge.cached is True)


def is_amount(value: object) -> bool:
    """Whether ``value`` may be a quantity."""
    return isinstance(value, int) and 0 <= value <= QUANTITY_MAX


def amounts_of(quantities: Mapping[str, int]) -> dict[str, int]:
    """``quantities`` without what none can be."""
    return {name: amount for name, amount in quantities.items() if is_amount(amount)}


class Asked(NamedTuple):
    """A request: its operation, and what else is known of it.

    What is not said is taken as the most that it can be where a worst case is needed (the price of an operation whose
    quantity is not known), else as the least.
    """

    operation: str
    charges: Sequence[str | WireCharge] = ()
    """Operations that it is going to be charged for besides, with quantities and model where they are known."""
    cached: bool = False
    """Known to be a cache hit: it costs nothing."""
    subject: str | None = None
    """The batch or cluster that a per-subject limit is about."""
    labels: Mapping[str, str] = _NO_LABELS
    """Those that budgets are set for."""
    creates: int = 1
    """How many resources it makes, where its operation makes any."""
    objects: int | None = None
    """How many objects its batch has."""
    results: int | None = None
    """The most results that it asks for."""
    quantities: Mapping[str, int] = _NOTHING
    """Quantities that it will not pass: tokens (of input and the longest answer), bytes, milliseconds, …"""
    model: str | None = None

    def all_charges(self) -> list[WireCharge]:
        """Itself and what it is going to be charged for, each as a charge."""
        own = WireCharge(self.operation, dict(self.quantities) or None, self.model, self.cached)
        return [own, *(WireCharge(one) if isinstance(one, str) else one for one in self.charges)]
