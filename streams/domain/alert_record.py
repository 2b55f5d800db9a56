"""Alerts as they are published: when one fires, and when it clears."""

from sluicegate_schemas.alert_rules import AlertRule
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Scope

from .alert_measures import UNITS
from .alert_rule import Reading
from .alert_texts import SENTENCE_MAX, sentence
from .policy import Moment
from .scopes import ScopeNames
from .tables import COUNT_MAX, AlertRow

_NOTHING_YET = "nothing has cost credits yet"


def fired(
    moment: Moment, row: AlertRow, rule: AlertRule, detail: str, reading: Reading, costliest: tuple[str, ...]
) -> UsageAlert:
    """The record of an alert that fires now."""
    says = sentence(rule, ScopeNames(*row.scope), detail, reading)
    advice = rule.advice.replace("{costliest}", ", ".join(costliest) or _NOTHING_YET)[:SENTENCE_MAX]
    named = costliest if "{costliest}" in rule.advice else ()
    return _record(moment, row, rule.name, "fired", says, advice, reading, named)


def cleared(
    moment: Moment, row: AlertRow, rule_name: str, rule: AlertRule | None, detail: str, reading: Reading | None
) -> UsageAlert:
    """The record of an alert that clears now; ``rule`` is None where the catalogue has it no more, ``reading`` where
    there is nothing to measure any more."""
    if rule is None:
        says = f"The rule {rule_name} is not in force any more."
    elif reading is None:
        says = "Nothing is left to measure: the month or the limit is another."
    else:
        says = sentence(rule, ScopeNames(*row.scope), detail, reading)
    return _record(moment, row, rule_name, "cleared", says, "", reading or Reading(0, row.limit, row.reset_ms), ())


def _record(
    moment: Moment,
    row: AlertRow,
    rule_name: str,
    state: str,
    says: str,
    advice: str,
    reading: Reading,
    costliest: tuple[str, ...],
) -> UsageAlert:
    return UsageAlert.model_validate(
        {
            "alert_id": row.alert_id,
            "state": state,
            "sentence": says,
            "advice": advice,
            "fired_at": from_epoch_ms(row.fired_at_ms),
            "at": from_epoch_ms(moment.now_ms),
            "rule": rule_name,
            "severity": row.severity,
            "account_id": row.account_id,
            "organization_id": row.organization_id,
            "scope": Scope.model_validate(ScopeNames(*row.scope)._asdict()),
            "threshold": row.threshold,
            "observed": min(reading.observed, COUNT_MAX),
            "limit": reading.limit,
            "unit": UNITS[row.measure],
            "reset_at": None if reading.reset_ms is None else from_epoch_ms(reading.reset_ms),
            "costliest": costliest,
            "plan_version": moment.version,
            "cause": None,
        }
    )
