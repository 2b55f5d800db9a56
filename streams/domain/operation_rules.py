"""The catalogue's per-operation limits, by operation."""

from collections import defaultdict
from typing import Final

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.limits import ConcurrentPerSubject, OncePerSubject, QuantityPerMinute

from .plans import Plans


class OperationRules:
    """The limits of the catalogue version in force; where two of a kind are about one thing, the tighter counts."""

    def __init__(self, plans: Plans) -> None:
        self._plans: Final = plans
        self._catalogue: Catalogue | None = None
        self._interval_ms: dict[str, int] = {}
        self._at_a_time: dict[str, int] = {}
        self._per_minute: dict[str, dict[str, int]] = {}

    def interval_ms(self) -> dict[str, int]:
        """By operation: once per subject in so many milliseconds."""
        self._read()
        return self._interval_ms

    def at_a_time(self) -> dict[str, int]:
        """By operation: so many requests at a time per subject."""
        self._read()
        return self._at_a_time

    def per_minute(self) -> dict[str, dict[str, int]]:
        """By operation and quantity: so much a minute per organization."""
        self._read()
        return self._per_minute

    def _read(self) -> None:
        catalogue = self._plans.catalogue()
        if catalogue is self._catalogue:
            return
        self._catalogue = catalogue
        self._interval_ms, self._at_a_time = {}, {}
        per_minute: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for rule in () if catalogue is None else catalogue.operation_limits:
            name = rule.operation
            match rule:
                case OncePerSubject(seconds=seconds):
                    self._interval_ms[name] = max(self._interval_ms.get(name, 0), seconds * 1_000)
                case ConcurrentPerSubject(limit=limit):
                    self._at_a_time[name] = min(self._at_a_time.get(name, limit), limit)
                case QuantityPerMinute(quantity=quantity, limit=limit):
                    per_minute[name][quantity] = min(per_minute[name].get(quantity, limit), limit)
        self._per_minute = dict(per_minute)
