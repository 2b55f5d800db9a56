"""Storage: what is held costs by time, from samples (requirements, section 9).

Between two samples the earlier one's amount was held. That time is cut at the months' ends, each part adds to its own
month, and what is charged is always the floor of the month's cumulated amount. A sample that is older than the newest
one changes nothing.
"""

from fractions import Fraction

from sluicegate_schemas.catalogue import HeldPrice
from sluicegate_schemas.envelope import WireEvent

from .period import month_index, month_start_ms, month_text, parse_month
from .rate import amount_of
from .routes import Route
from .tables import ChangedRows, HeldRow, SampleRow, row_key

HeldPart = tuple[int, Fraction, int]
"""(month, its cumulated amount in micro-credits, what of its floor is new)."""


class StorageMeter:
    """The newest sample of each organization and held operation, and what each month has come to."""

    def __init__(self, changed: ChangedRows) -> None:
        self._changed = changed.rows
        self._samples: dict[tuple[str, str], SampleRow] = {}
        self._held: dict[tuple[str, str, int], HeldRow] = {}

    def plan(self, event: WireEvent, route: Route, price: HeldPrice) -> list[HeldPart]:
        """What a sample adds, month by month; nothing is changed yet."""
        before = self._samples.get((route.organization_id, route.operation))
        if before is None or event.ts_ms <= before.ts_ms or route.is_costless:
            return []
        parts = []
        since_ms = before.ts_ms
        for month in range(month_index(since_ms), month_index(event.ts_ms) + 1):
            start_ms, end_ms = month_start_ms(month), month_start_ms(month + 1)
            until_ms = min(event.ts_ms, end_ms)
            row = self._held.get((route.organization_id, route.operation, month))
            held = Fraction(0) if row is None else Fraction(int(row.numerator), int(row.denominator))
            charged = 0 if row is None else row.charged_micro
            weight = before.amount * (until_ms - since_ms) * price.credits_micro
            held += Fraction(weight, price.per * (end_ms - start_ms))
            parts.append((month, held, held.numerator // held.denominator - charged))
            since_ms = until_ms
        return parts

    def commit(self, event: WireEvent, route: Route, price: HeldPrice, parts: list[HeldPart]) -> None:
        """Remembers a counted sample and what ``plan`` said of it."""
        names = route.organization_id, route.operation
        for month, held, _ in parts:
            row = HeldRow(str(held.numerator), str(held.denominator), held.numerator // held.denominator)
            self._held[(*names, month)] = row
            self._changed[row_key("h", *names, month_text(month))] = row
        before = self._samples.get(names)
        if before is None or event.ts_ms >= before.ts_ms:
            sample = SampleRow(event.ts_ms, amount_of(event.quantities or {}, price.quantity))
            self._samples[names] = sample
            self._changed[row_key("s", *names)] = sample

    def evict(self, month_floor: int) -> None:
        """Forgets the months before ``month_floor``, but for those that a newest sample still reaches back to."""
        for organization_id, operation, month in list(self._held):
            sample = self._samples.get((organization_id, operation))
            if month < month_floor and (sample is None or month < month_index(sample.ts_ms)):
                del self._held[organization_id, operation, month]
                self._changed[row_key("h", organization_id, operation, month_text(month))] = None

    def restore_sample(self, organization_id: str, operation: str, row: SampleRow) -> None:
        """Takes in a recovered row."""
        self._samples[organization_id, operation] = row

    def restore_held(self, organization_id: str, operation: str, month: str, row: HeldRow) -> None:
        """Takes in a recovered row."""
        self._held[organization_id, operation, parse_month(month)] = row
