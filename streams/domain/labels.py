"""Balances of labels: what the requests that carry a label (a pipeline, a retriever) have used in a month.

They are books beside the others: an event with several labels is in the ledger of each, so they do not sum up.
"""

from collections import Counter
from typing import Final

from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.rating import REQUESTS, MissingQuantityError

from .ledger import Ledger
from .participant import Participant, PartitionContext
from .policy import Moment
from .record_context import RecordContext
from .routes import Route

LABEL: Final = "label"
OTHERS: Final = "…"
"""The label that stands for all that found no room."""
_NOTHING: Final[dict[str, int]] = {}


def label_of(name: str, value: str) -> str:
    """A label as one word, as in the scope of a decision."""
    return f"{name}={value}"


class Labels(Participant):
    """Keeps the ledgers of labels; an organization has so many a month, further ones share ``OTHERS``."""

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._known: Counter[tuple[str, int]] = Counter()

    def resume(self, moment: Moment) -> None:
        self._known = Counter((one.organization_id or "", one.month) for one in self.context.ledgers if _is_label(one))

    def month_began(self, moment: Moment) -> None:
        kept = moment.month - self.context.settings.months_kept
        for name in [name for name in self._known if name[1] <= kept]:
            del self._known[name]

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if not event.labels:
            return
        requests = (event.quantities or _NOTHING).get(REQUESTS, 1) if route.tariff.counts_requests else 0
        amounts = self._by_group(event, route, cost_micro) if cost_micro else {}
        for name, value in event.labels.items():
            ledger = self._find(route, label_of(name, value))
            ledger.requests += requests
            ledger.used_micro += cost_micro
            for group, micro in amounts.items():
                ledger.breakdown_micro[group] += micro
            if route.correction is not None and cost_micro:
                corrections = ledger.corrections_micro
                corrections[route.correction] = corrections.get(route.correction, 0) + cost_micro
            self.context.ledgers.mark(ledger)

    def _find(self, route: Route, label: str) -> Ledger:
        ledgers, month = self.context.ledgers, route.account.month
        identifier = f"{route.organization_id}:{label}"
        ledger = ledgers.get(LABEL, identifier, month)
        if ledger is None:
            place = route.organization_id, month
            settings = self.context.settings
            if self._known[place] >= settings.labels_max or self._known.total() >= settings.label_ledgers_max:
                identifier = f"{route.organization_id}:{OTHERS}"
            if ledgers.get(LABEL, identifier, month) is None:
                self._known[place] += 1
            ledger = ledgers.find(LABEL, identifier, month, route.account_id, route.organization_id)
        return ledger

    def _by_group(self, event: WireEvent, route: Route, cost_micro: int) -> dict[int, int]:
        """What an event cost, by breakdown group: each charge by its own, the rest by the event's."""
        amounts: Counter[int] = Counter()
        if event.charges:
            catalogue, _, _ = self.context.cards.window(event.ts_ms)
            for charge in event.charges:
                tariff = self.context.cards.tariff(catalogue, charge.operation)
                if charge.cached or tariff.group < 0:
                    continue
                try:
                    amounts[tariff.group] += tariff.rate(charge.quantities or _NOTHING, charge.model)[1]
                except MissingQuantityError:
                    continue  # the meter counted it at no cost
        rest = cost_micro - amounts.total()
        if rest:
            amounts[route.tariff.group] += rest
        return amounts


def _is_label(ledger: Ledger) -> bool:
    return ledger.kind == LABEL
