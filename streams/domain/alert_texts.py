"""Alerts in words for people: what is the case (requirements, section 5)."""

from collections.abc import Callable
from typing import Final

from sluicegate_schemas.alert_rules import AlertMeasure, AlertRule
from sluicegate_schemas.money import credits_text

from .alert_rule import Reading
from .scopes import ScopeNames

_Say = Callable[[AlertRule, ScopeNames, str, Reading], str]
SENTENCE_MAX: Final = 500


def sentence(rule: AlertRule, scope: ScopeNames, detail: str, reading: Reading) -> str:
    """What ``reading`` says, as one sentence."""
    return _SENTENCES[rule.measure](rule, scope, detail, reading)[:SENTENCE_MAX]


def _credits(reading: Reading) -> str:
    return f"{credits_text(reading.observed)} of {credits_text(reading.limit or 0)}"


def _percent(reading: Reading) -> str:
    return f"{reading.percent} %"


def _minutes(rule: AlertRule) -> str:
    minutes, seconds = divmod(rule.window_s or 0, 60)
    return f"{minutes} min" if not seconds else f"{rule.window_s} s"


def _budget(rule: AlertRule, scope: ScopeNames, detail: str, reading: Reading) -> str:
    whose = " ".join(word for word in (scope.id, scope.label) if word is not None)
    period = detail.partition(":")[0]
    return f"{whose} has used {_percent(reading)} of its budget of the {period}: {_credits(reading)} credits."


def _unrated(rule: AlertRule, scope: ScopeNames, detail: str, reading: Reading) -> str:
    kind, _, model = detail.partition(":")
    if not kind:
        return f"{scope.operation} is not on the rate card: it came {reading.observed} times, at no cost."
    name = f"model {model}" if model else "request without a model"
    return f"{scope.operation} has no price for a {name}: it came {reading.observed} times, at the default price."


_SENTENCES: Final[dict[AlertMeasure, _Say]] = {
    "credits_used_percent": lambda _, scope, __, reading: (
        f"{scope.id} has used {_percent(reading)} of its credits of the month: {_credits(reading)}."
    ),
    "credits_left_percent": lambda _, scope, __, reading: (
        f"{scope.id} has {_percent(reading)} of its credits of the month left: {_credits(reading)}."
    ),
    "minute_utilization_percent": lambda _, scope, __, reading: (
        f"{scope.id} is at {_percent(reading)} of its requests a minute: {reading.observed} of {reading.limit}."
    ),
    "concurrency_percent": lambda _, scope, __, reading: (
        f"{scope.id} is at {_percent(reading)} of its requests at a time: {reading.observed} of {reading.limit}."
    ),
    "throttled": lambda rule, scope, _, reading: (
        f"{scope.id} was answered 429 {reading.observed} times in {_minutes(rule)}."
    ),
    "creations_refused": lambda rule, scope, _, reading: (
        f"{scope.operation} of {scope.id} was refused {reading.observed} times in {_minutes(rule)}: quota reached."
    ),
    "budget_percent": _budget,
    "unrated": _unrated,
    "runs_out_before_reset": lambda _, scope, __, reading: f"{scope.id} will run out of credits before the reset.",
}
