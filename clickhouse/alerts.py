"""Alerts to rows of the alert table: pure, one object a partition of the alerts topic."""

from typing import ClassVar, NamedTuple

from sluicegate_schemas.alerts import ALERT, AuditDrift, UsageAlert
from sluicegate_schemas.bounds import to_epoch_ms

from .cursor import LogRecord
from .record_rows import RecordRows


class AlertRow(NamedTuple):
    """A row of the alert table, in the order of its columns; times in milliseconds since the epoch."""

    alert_id: str
    state: str
    kind: str
    rule: str
    severity: str
    account_id: str
    organization_id: str
    scope_kind: str
    scope_id: str
    operation: str
    subject: str
    label: str
    category: str
    threshold: int
    observed: int
    limit_value: int | None
    unit: str
    reset_at: int | None
    plan_version: int
    cause_event_id: str
    sentence: str
    advice: str
    fired_at: int
    at: int


def alert_row(alert: AuditDrift | UsageAlert) -> AlertRow:
    """The alert as a row. One of an account is its own organization's; of a drift the audit's pair is the rule, and
    what is observed are the buckets that differ."""
    said = alert.sentence, alert.advice, to_epoch_ms(alert.fired_at), to_epoch_ms(alert.at)
    if isinstance(alert, AuditDrift):
        return AlertRow(
            alert.alert_id, alert.state, alert.kind, alert.pair, "", "", alert.organization_id or "",
            "", "", "", "", "", "", 0, alert.buckets_differing, None, "buckets", None, 0, "", *said,
        )  # fmt: skip
    scope = alert.scope
    return AlertRow(
        alert.alert_id,
        alert.state,
        alert.kind,
        alert.rule,
        alert.severity,
        alert.account_id,
        alert.organization_id or alert.account_id,
        scope.kind,
        scope.id,
        scope.operation or "",
        scope.subject or "",
        scope.label or "",
        scope.category or "",
        alert.threshold,
        alert.observed,
        alert.limit,
        alert.unit,
        None if alert.reset_at is None else to_epoch_ms(alert.reset_at),
        alert.plan_version,
        alert.cause.event_id if alert.cause else "",
        *said,
    )


class AlertRows(RecordRows[AlertRow]):
    """The rows of one partition's alerts."""

    expires: ClassVar[bool] = True

    def row_of(self, record: LogRecord) -> AlertRow:
        """What fired and what cleared are two rows."""
        return alert_row(ALERT.validate_json(record.value or b""))
