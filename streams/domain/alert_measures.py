"""What alert rules look at: each measure reads it from where it is kept (requirements, section 5)."""

from collections.abc import Callable
from typing import Final

from sluicegate_schemas.alert_rules import AlertRule
from sluicegate_schemas.alerts import AlertUnit

from .alert_rule import Reading
from .budgets import Budgets
from .gauges import Gauges
from .limits import PER_MINUTE
from .notices import MODEL, OPERATION
from .occurrences import Occurrences
from .participant import PartitionContext
from .period import month_start_ms
from .policy import Moment
from .scopes import ScopeNames

UNITS: Final[dict[str, AlertUnit]] = {
    "credits_used_percent": "credits_micro",
    "credits_left_percent": "credits_micro",
    "minute_utilization_percent": "requests",
    "concurrency_percent": "requests",
    "throttled": "requests",
    "creations_refused": "requests",
    "budget_percent": "credits_micro",
    "unrated": "events",
    "runs_out_before_reset": "credits_micro",
}

_Read = Callable[[AlertRule, ScopeNames, str, Moment], Reading | None]


class Measures:
    """Reads the measures; None where there is nothing to measure (no limit, an exemption, nothing used yet)."""

    def __init__(self, context: PartitionContext, occurrences: Occurrences) -> None:
        self._context: Final = context
        self._occurrences: Final = occurrences
        self._reads: Final[dict[str, _Read]] = {
            "credits_used_percent": self._credits_used,
            "credits_left_percent": self._credits_left,
            "minute_utilization_percent": self._minute_utilization,
            "throttled": self._occurred,
            "creations_refused": self._occurred,
            "unrated": self._unrated,
            "budget_percent": self._budget,
            "concurrency_percent": self._concurrency,
        }

    def read(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        """What the rule's measure shows of ``scope``; ``detail`` as in ``tables.AlertRow``."""
        read = self._reads.get(rule.measure)
        return None if read is None else read(rule, scope, detail, moment)

    def _credits_used(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        """Of an account its total; of an organization of a pool its cap."""
        context = self._context
        ledger = context.ledgers.get(scope.kind, scope.id, moment.month)
        if ledger is None:  # nothing was used yet; who asked for its grants would bring its books up
            return None
        used, total = ledger.used_micro, ledger.total_micro
        if scope.kind == "organization":
            total = context.plans.pool_of(scope.id)[0]
        if total is None or used == total == 0 or context.plans.is_exempt(scope.id, None, "credits"):
            return None
        return Reading(used, total, month_start_ms(moment.month + 1))

    def _credits_left(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        used = self._credits_used(rule, scope, detail, moment)
        if used is None or used.limit is None:
            return None
        return used._replace(observed=max(0, used.limit - used.observed))

    def _minute_utilization(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        context, api_key_id = self._context, scope.id
        buckets, key = context.buckets.get(api_key_id), context.accounts.keys.get(api_key_id)
        if buckets is None or key is None:
            return None
        if context.plans.is_exempt(key.organization_id, api_key_id, PER_MINUTE):
            return None
        return Reading(*buckets.minute(moment.now_ms))

    def _occurred(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        assert rule.window_s is not None
        return Reading(self._occurrences.count(rule.measure, scope.text(), rule.window_s, moment.now_ms))

    def _concurrency(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        plans = self._context.plans
        limit = plans.concurrency_of(scope.id)
        if limit is None or plans.is_exempt(scope.id, None, "concurrency"):
            return None
        return Reading(self._context.peer(Gauges).in_flight_of(scope.id), limit)

    def _budget(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        """What is used of a budget; ``detail`` is its period and one of its thresholds, as ``day:80``."""
        period, _, threshold = detail.partition(":")
        budget = self._context.peer(Budgets).of(scope, f"budget_{period}")
        if budget is None or int(threshold) not in budget.thresholds_percent:
            return None
        return Reading(budget.used_micro, budget.limit_micro, budget.until_ms)

    def _unrated(self, rule: AlertRule, scope: ScopeNames, detail: str, moment: Moment) -> Reading | None:
        """How often the operation (``detail`` empty) or its model (``model:…``) came, while the card lacks it."""
        operation, (kind, _, model) = scope.operation or "", detail.partition(":")
        catalogue = self._context.plans.catalogue()
        entry = None if catalogue is None else catalogue.operations.get(operation)
        if not kind:
            return None if entry is not None else Reading(self._context.notices.get(OPERATION, operation))
        if entry is None or entry.price.kind != "per_model" or model in entry.price.models:
            return None
        return Reading(self._context.notices.get(MODEL, f"{operation}:{model}"))
