"""The records of the workers' topics as lines for people."""

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel

from sluicegate_schemas.alerts import AuditDrift, UsageAlert
from sluicegate_schemas.outputs import Decision, Lease, Reject, TrailEntry

from ..operator.logs import LogRecord
from ..operator.tailed import Shown, TailedRecord, read_record
from .text import amount, time_text


def tailed(record: LogRecord, read: Callable[[bytes], Shown]) -> tuple[TailedRecord, str]:
    """A record as it is shown: for JSON, and as a line for people."""
    shown, content = read_record(record, read)
    place = f"{record.topic}/{record.partition}/{record.offset}"
    if content is not None:
        said = _LINES[type(content)](content)
    else:
        said = "forgotten" if shown.readable else f"cannot be read ({len(record.value or b'')} bytes)"
    return shown, f"{time_text(shown.logged_at)}  {said}  [{place}]"


def _decision(one: Decision) -> str:
    until = f" until {time_text(one.until)}" if one.until is not None else ""
    observed, limit = amount(one.limit_name, one.observed), amount(one.limit_name, one.limit)
    return f"{one.verdict} {one.scope.text()} {one.limit_name} {observed} of {limit}{until}  {one.decision_id}"


def _lease(one: Lease) -> str:
    lent, limit = amount("credits", one.credits_micro), amount("credits", one.limit)
    return f"lease {one.scope.text()} {one.limit_name} to {one.node}: {lent} of {limit}  {one.lease_id}"


def _usage_alert(one: UsageAlert) -> str:
    return f"{one.severity} {one.state} {one.rule} {one.scope.text()}: {one.sentence}  {one.alert_id}"


def _drift(one: AuditDrift) -> str:
    return f"critical {one.state} audit_drift {one.organization_id or 'all'}: {one.sentence}  {one.alert_id}"


def _reject(one: Reject) -> str:
    field = f" {one.field}" if one.field else ""
    source = f"{one.source.topic}/{one.source.partition}/{one.source.offset}/{one.source.index}"
    return f"{one.reason}{field}: {one.detail}  from {source}"


def _trail(one: TrailEntry) -> str:
    reason = f" ({one.reason})" if one.reason else ""
    return f"{one.issued_by} {one.command} {one.subject} of {one.account_id}{reason}  {one.command_id}"


_LINES: Final[dict[type[BaseModel], Callable[..., str]]] = {
    Decision: _decision,
    Lease: _lease,
    UsageAlert: _usage_alert,
    AuditDrift: _drift,
    Reject: _reject,
    TrailEntry: _trail,
}
