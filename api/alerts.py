"""The alerts of each organization, as the topic holds them: the newest of each, fired or cleared.

Pure: no I/O. What the topic has let go (after 30 days) is not known after a start.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from sluicegate_schemas.alerts import ALERT, AuditDrift, UsageAlert

from .drifts import Drifts

ALERTS_MAX: Final = 50_000
"""Alerts of all organizations together; the oldest make room."""
OF_ORGANIZATION_MAX: Final = 500
ALERT_BYTES_MAX: Final = 64 * 1024
OnAlert = Callable[[UsageAlert], None]


class AlertTable:
    """By organization, the oldest first; see the module. An alert of an account is its own organization's."""

    def __init__(self, alerts_max: int = ALERTS_MAX) -> None:
        self.malformed = 0
        self.drifts = Drifts()
        self._max = alerts_max
        self._by_organization: dict[str, OrderedDict[str, UsageAlert]] = {}
        self._order: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._listeners: list[OnAlert] = []

    def __len__(self) -> int:
        return len(self._order)

    def listen(self, on_alert: OnAlert) -> None:
        """Calls ``on_alert`` with every alert that is news from now on; it must be quick and not raise."""
        self._listeners.append(on_alert)

    def of(self, organization_id: str) -> list[UsageAlert]:
        """Its alerts, the one that fired last first."""
        found = self._by_organization.get(organization_id, OrderedDict())
        return sorted(found.values(), key=lambda alert: (alert.fired_at, alert.alert_id), reverse=True)

    def apply(self, value: bytes | None) -> None:
        """Takes in one record. Never raises for what it holds; the audit's alerts are the operators' alone."""
        try:
            alert = ALERT.validate_json((value or b"")[: ALERT_BYTES_MAX + 1])
        except ValidationError:
            self.malformed += 1
            return
        if isinstance(alert, AuditDrift):
            self.drifts.take(alert)
        elif self._keep(alert):
            for on_alert in self._listeners:
                on_alert(alert)

    def _keep(self, alert: UsageAlert) -> bool:
        owner = organization_of(alert)
        alerts = self._by_organization.setdefault(owner, OrderedDict())
        known = alerts.get(alert.alert_id)
        if known is not None and (known.state == "cleared" or known.state == alert.state):
            return False
        alerts[alert.alert_id] = alert
        self._order[owner, alert.alert_id] = None
        if len(alerts) > OF_ORGANIZATION_MAX:
            self._drop(owner, next(iter(alerts)))
        if len(self._order) > self._max:
            self._drop(*next(iter(self._order)))
        return True

    def _drop(self, owner: str, alert_id: str) -> None:
        del self._order[owner, alert_id]
        alerts = self._by_organization[owner]
        del alerts[alert_id]
        if not alerts:
            del self._by_organization[owner]


def organization_of(alert: UsageAlert) -> str:
    """Whose alert it is: its organization's, or that of the account."""
    return alert.organization_id or alert.account_id
