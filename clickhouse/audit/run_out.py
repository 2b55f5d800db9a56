"""Which accounts will run out of credits before the reset: an alert fires once per crossing, and clears once. Pure.

It fires where the forecast reaches the total before the month's end, and clears where it falls ``rearm_points`` percent
below the total, as the workers' alerts do. What is open is on the alerts topic itself: a new process reads it first, so
a restart fires nothing twice, and its ids are those that any other process would give.
"""

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import ValidationError

from sluicegate_schemas.alert_rules import AlertRule
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.money import credits_text
from sluicegate_schemas.outputs import Scope

from ..projection import HOURS_A_DAY, Projection

logger = logging.getLogger(__name__)

MEASURE: Final = "runs_out_before_reset"
ALERTS_OPEN_MAX: Final = 10_000
"""Further crossings fire once others have cleared."""
_ID_PREFIX: Final = "runs_out/"
_ID: Final = re.compile(r"runs_out/[^/]+/[^/]+/[^/]+/[0-9]{1,9}").fullmatch
_SENTENCE_MAX: Final = 500


class Standing(NamedTuple):
    """An account's month as the ledger has it, in micro-credits."""

    total_micro: int
    used_micro: int


class Look(NamedTuple):
    """What is known at one moment: the month (``2026-03``) and its reset, the catalogue in force, and by account the
    ledger and the projection."""

    now: datetime
    month: str
    reset_at: datetime
    catalogue: Catalogue
    standings: Mapping[str, Standing]
    projections: Mapping[str, Projection]


def read_alert(value: bytes | None) -> UsageAlert | None:
    """A record of the alerts topic; None where it is no alert of a forecast."""
    if value is None or b'"' + _ID_PREFIX.encode() not in value:
        return None
    try:
        alert = UsageAlert.model_validate_json(value)
    except ValidationError:
        logger.warning("a record of the alerts topic looks like a forecast's and cannot be read; it is passed over")
        return None
    return alert if _ID(alert.alert_id) else None


class RunOutBook:
    """The open alerts, and how often each rule has crossed for an account's month before."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], UsageAlert] = {}
        self._crossings: dict[tuple[str, str, str], int] = {}

    @property
    def open(self) -> tuple[UsageAlert, ...]:
        """What fired and has not cleared."""
        return tuple(self._open.values())

    def restore(self, alert: UsageAlert) -> None:
        """Takes in a record that was sent before, in the topic's order."""
        _, rule, account_id, month, crossing = alert.alert_id.split("/")
        scope = rule, account_id, month
        self._crossings[scope] = max(self._crossings.get(scope, 0), int(crossing))
        held = self._open.get((rule, account_id))
        if alert.state == "fired":
            self._open[rule, account_id] = alert
        elif held is not None and held.alert_id == alert.alert_id:
            del self._open[rule, account_id]

    def changes(self, look: Look) -> list[UsageAlert]:
        """The records to send, without what costs most; they count as sent once ``restore`` has them."""
        rules = {rule.name: rule for rule in look.catalogue.alert_rules if rule.measure == MEASURE}
        self._crossings = {scope: count for scope, count in self._crossings.items() if scope[2] >= look.month}
        records = []
        for (name, account_id), alert in self._open.items():
            if reason := _over(look, rules.get(name), account_id, alert):
                records.append(_cleared(look, alert, reason))
        room = ALERTS_OPEN_MAX - len(self._open)
        for rule in rules.values():
            for account_id, standing in look.standings.items():
                if (rule.name, account_id) in self._open or not _runs_out(look, account_id, standing):
                    continue
                if room <= 0:
                    return records
                room -= 1
                crossing = self._crossings.get((rule.name, account_id, look.month), 0) + 1
                records.append(_fired(look, rule, account_id, standing, crossing))
        return records


def _runs_out(look: Look, account_id: str, standing: Standing) -> bool:
    """Whether the forecast, of a day's usage at least, reaches what is left. Nothing left is another alert's matter."""
    found = look.projections.get(account_id)
    if found is None or found.history_hours < HOURS_A_DAY or standing.used_micro >= standing.total_micro:
        return False
    return found.exhausted_at is not None and found.exhausted_at < look.reset_at


def _over(look: Look, rule: AlertRule | None, account_id: str, alert: UsageAlert) -> str:
    """Why an open alert is over; empty while it is not."""
    if rule is None:
        return f"The rule {alert.rule} is not in force any more."
    if alert.reset_at is not None and alert.reset_at <= look.now:
        return "The month is another."
    standing = look.standings.get(account_id)
    if standing is None:
        return f"{account_id} has no limit of credits any more."
    if standing.used_micro >= standing.total_micro:
        return ""
    found = look.projections.get(account_id)
    coming_micro = 0 if found is None else found.projected_micro - found.used_micro
    expected_micro = standing.used_micro + coming_micro
    if expected_micro * 100 > standing.total_micro * (100 - rule.rearm_points):
        return ""
    return (
        f"{account_id} is expected to use {credits_text(expected_micro)} of {credits_text(standing.total_micro)} "
        "credits by the reset."
    )


def _fired(look: Look, rule: AlertRule, account_id: str, standing: Standing, crossing: int) -> UsageAlert:
    found = look.projections[account_id]
    at = found.exhausted_at
    assert at is not None
    early = found.exhausted_early or at
    late = "after the reset" if found.exhausted_late is None else f"{found.exhausted_late:%Y-%m-%d %H:%M}"
    says = (
        f"{account_id} will run out of credits before the reset, about {at:%Y-%m-%d %H:%M} UTC (80 % between "
        f"{early:%Y-%m-%d %H:%M} and {late}): {credits_text(standing.used_micro)} of "
        f"{credits_text(standing.total_micro)} are used."
    )
    return UsageAlert(
        alert_id=f"{_ID_PREFIX}{rule.name}/{account_id}/{look.month}/{crossing}",
        state="fired",
        sentence=says[:_SENTENCE_MAX],
        advice=rule.advice,
        fired_at=look.now,
        at=look.now,
        rule=rule.name,
        severity=rule.severity,
        account_id=account_id,
        organization_id=None,
        scope=Scope(kind="account", id=account_id),
        threshold=rule.threshold,
        observed=standing.used_micro + max(0, found.projected_micro - found.used_micro),
        limit=standing.total_micro,
        unit="credits_micro",
        reset_at=look.reset_at,
        plan_version=look.catalogue.version,
        cause=None,
    )


def _cleared(look: Look, fired: UsageAlert, reason: str) -> UsageAlert:
    return fired.model_copy(
        update={"state": "cleared", "sentence": reason, "advice": "", "at": look.now, "costliest": ()}
    )


def with_costliest(alert: UsageAlert, costliest: tuple[str, ...]) -> UsageAlert:
    """The alert with the operations that cost most named in its advice."""
    if "{costliest}" not in alert.advice:
        return alert
    advice = alert.advice.replace("{costliest}", ", ".join(costliest) or "nothing has cost credits yet")
    return alert.model_copy(update={"advice": advice[:_SENTENCE_MAX], "costliest": costliest})
