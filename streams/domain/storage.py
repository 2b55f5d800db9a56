"""Storage: what is held costs by time, from samples (requirements, section 9).

Between two samples the earlier one's amount was held. That time is cut at the months' ends and where another catalogue
version takes effect; each part costs by its own version and adds to its own month, and what is charged is always the
floor of the month's cumulated amount. A sample that is older than the newest one changes nothing.
"""

from fractions import Fraction
from math import floor
from typing import NamedTuple

from sluicegate_schemas.catalogue import HeldPrice
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.rating import amount_of

from .period import month_index, month_start_ms, month_text, parse_month
from .routes import RateCards, Route
from .tables import ChangedRows, HeldRow, SampleRow, row_key


class HeldPart(NamedTuple):
    """One part of the time between two samples: booked at ``at_ms``, the month's cumulated amount in micro-credits
    after it, and what of its floor is new."""

    at_ms: int
    month: int
    cumulated_micro: Fraction
    credits_micro: int


class StorageMeter:
    """The newest sample of each organization and held operation, and what each month has come to."""

    def __init__(self, changed: ChangedRows, cards: RateCards) -> None:
        self._changed = changed.rows
        self._cards = cards
        self._samples: dict[tuple[str, str], SampleRow] = {}
        self._held: dict[tuple[str, str, int], HeldRow] = {}

    def __len__(self) -> int:
        return len(self._samples) + len(self._held)

    def plan(self, event: WireEvent, route: Route) -> list[HeldPart]:
        """What a sample adds, part by part; nothing is changed yet. A part that was cut is booked at its last
        millisecond, the last one with the event."""
        before = self._samples.get((route.organization_id, route.operation))
        if before is None or event.ts_ms <= before.ts_ms:
            return []
        parts: list[HeldPart] = []
        cumulated: dict[int, Fraction] = {}
        since_ms = before.ts_ms
        while since_ms < event.ts_ms:
            month = month_index(since_ms)
            month_ms, month_end_ms = month_start_ms(month), month_start_ms(month + 1)
            catalogue, _, version_end_ms = self._cards.window(since_ms)
            cut_ms = min(month_end_ms, version_end_ms)
            until_ms = min(event.ts_ms, cut_ms)
            held = cumulated[month] if month in cumulated else self._cumulated(route, month)
            charged = floor(held)
            price = self._cards.tariff(catalogue, route.operation).held
            if price is not None:
                weight = before.amount * (until_ms - since_ms) * price.credits_micro
                held += Fraction(weight, price.per * (month_end_ms - month_ms))
            cumulated[month] = held
            parts.append(HeldPart(until_ms - (until_ms == cut_ms), month, held, floor(held) - charged))
            since_ms = until_ms
        return parts

    def _cumulated(self, route: Route, month: int) -> Fraction:
        row = self._held.get((route.organization_id, route.operation, month))
        return Fraction(0) if row is None else Fraction(int(row.numerator), int(row.denominator))

    def commit(self, event: WireEvent, route: Route, price: HeldPrice, parts: list[HeldPart]) -> None:
        """Remembers a counted sample and what ``plan`` said of it."""
        names = route.organization_id, route.operation
        for part in parts:
            held = part.cumulated_micro
            row = HeldRow(str(held.numerator), str(held.denominator), floor(held))
            self._held[(*names, part.month)] = row
            self._changed[row_key("h", *names, month_text(part.month))] = row
        before = self._samples.get(names)
        if before is None or event.ts_ms >= before.ts_ms:
            sample = SampleRow(event.ts_ms, amount_of(event.quantities or {}, price.quantity))
            self._samples[names] = sample
            self._changed[row_key("s", *names)] = sample

    def evict(self, month_floor: int, at_most: int) -> bool:
        """Forgets the months before ``month_floor``, but for those that a newest sample still reaches back to;
        ``at_most`` so many. Returns whether some are left."""
        for organization_id, operation, month in list(self._held):
            sample = self._samples.get((organization_id, operation))
            if month < month_floor and (sample is None or month < month_index(sample.ts_ms)):
                if at_most <= 0:
                    return True
                at_most -= 1
                del self._held[organization_id, operation, month]
                self._changed[row_key("h", organization_id, operation, month_text(month))] = None
        return False

    def restore_sample(self, organization_id: str, operation: str, row: SampleRow) -> None:
        """Takes in a recovered row."""
        self._samples[organization_id, operation] = row

    def restore_held(self, organization_id: str, operation: str, month: str, row: HeldRow) -> None:
        """Takes in a recovered row."""
        self._held[organization_id, operation, parse_month(month)] = row
