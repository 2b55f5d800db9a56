"""What the audit found and has not cleared: the operators' alone. Pure."""

from typing import Final

from sluicegate_schemas.alerts import AuditDrift

OPEN_MAX: Final = 1_000
"""As many as the audit itself keeps open; of more, the newest."""


class Drifts:
    """By alert id."""

    def __init__(self) -> None:
        self._open: dict[str, AuditDrift] = {}

    def take(self, alert: AuditDrift) -> None:
        """Takes in a record, in the topic's order."""
        self._open.pop(alert.alert_id, None)
        if alert.state == "fired":
            self._open[alert.alert_id] = alert
            if len(self._open) > OPEN_MAX:
                del self._open[next(iter(self._open))]

    def open(self) -> tuple[AuditDrift, ...]:
        """As of now, the oldest first."""
        return tuple(sorted(self._open.values(), key=lambda one: (one.fired_at, one.alert_id)))
