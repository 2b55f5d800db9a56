"""Answers that alert rules count in windows: 429s of a key, and creations refused (requirements, section 5)."""

from collections.abc import Iterable, Sequence
from typing import Final

from sluicegate_schemas.alert_rules import AlertRule
from sluicegate_schemas.envelope import WireEvent

from .occurrences import Occurrences
from .participant import PartitionContext
from .period import SECOND_MS
from .routes import Route
from .scopes import ScopeNames

_THROTTLED: Final = "throttled"
_REFUSED: Final = "creations_refused"
_OTHER_LIMITS: Final = (
    ("account", "credits"),
    ("organization", "credits"),
    ("organization", "budget_day"),
    ("organization", "budget_month"),
    ("key", "budget_day"),
    ("key", "budget_month"),
)
"""What else answers 403."""


class AlertCounts:
    """Counts for the windows that the rules in force ask for, and for no others."""

    def __init__(self, context: PartitionContext, occurrences: Occurrences) -> None:
        self._context: Final = context
        self._occurrences: Final = occurrences
        self._windows_s: dict[str, Sequence[int]] = {}

    def use(self, rules: Iterable[AlertRule]) -> None:
        """These rules are in force."""
        windows_s: dict[str, set[int]] = {}
        for rule in rules:
            if rule.window_s is not None:
                windows_s.setdefault(rule.measure, set()).add(rule.window_s)
        self._windows_s = {measure: sorted(some) for measure, some in windows_s.items()}

    def observes(self, route: Route) -> bool:
        """Whether each event of the route has to be shown to ``refused``."""
        return _REFUSED in self._windows_s and self._created_by(route.operation) is not None

    def refused(self, event: WireEvent, route: Route) -> None:
        """Counts an event of status 403 if it is a creation that its quota refused."""
        resource = self._created_by(route.operation)
        if resource is None or self._is_refused_otherwise(route, resource):
            return
        scope = ScopeNames("operation", route.organization_id, route.operation).text()
        self._occurrences.add(_REFUSED, scope, self._windows_s.get(_REFUSED, ()), 1, self._context.time.now_ms)

    def throttled(self, route: Route) -> None:
        """Counts the 429s that a route gathered; not those that come in when their window is over."""
        now_ms = self._context.time.now_ms
        late_s = now_ms // SECOND_MS - route.end_ms // SECOND_MS
        windows_s = self._windows_s.get(_THROTTLED, ())
        if late_s >= 0:
            windows_s = [window_s for window_s in windows_s if window_s > late_s]
        if windows_s:
            self._occurrences.add(_THROTTLED, f"key:{route.api_key_id}", windows_s, route.throttled, now_ms)

    def _created_by(self, operation: str) -> str | None:
        """The resource that the operation makes."""
        catalogue = self._context.plans.catalogue()
        entry = None if catalogue is None else catalogue.operations.get(operation)
        return None if entry is None else entry.creates

    def _is_refused_otherwise(self, route: Route, resource: str) -> bool:
        """Whether credits or a budget close the route, and its quota does not."""
        policy, now_ms = self._context.policy, self._context.time.now_ms

        def is_closed(kind: str, identifier: str, limit_name: str) -> bool:
            row = policy.standing(ScopeNames(kind, identifier), limit_name)
            return row is not None and row.verdict == "block" and (row.until_ms is None or row.until_ms > now_ms)

        if is_closed("organization", route.organization_id, f"quota_{resource}"):
            return False
        of = {"account": route.account_id, "organization": route.organization_id, "key": route.api_key_id}
        return any(is_closed(kind, of[kind], limit_name) for kind, limit_name in _OTHER_LIMITS)
