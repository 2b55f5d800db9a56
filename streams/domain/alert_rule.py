"""When a rule's threshold is reached, and when it is armed again: whole numbers alone (requirements, section 5)."""

from typing import Final, NamedTuple

from sluicegate_schemas.alert_rules import AlertRule

from .period import DAY_MS

_COUNTS: Final = frozenset({"throttled", "creations_refused", "unrated"})
"""The measures whose threshold is a number, not a share of a limit."""


class Reading(NamedTuple):
    """What a rule's measure shows now.

    ``limit`` is None for what is only counted. ``reset_ms`` is when the limit begins anew: another one is another
    period, in which a threshold is crossed anew.
    """

    observed: int
    limit: int | None = None
    reset_ms: int | None = None

    @property
    def percent(self) -> int:
        """How much of the limit was observed, rounded down; a limit of nothing is full."""
        return self.observed * 100 // self.limit if self.limit else 100


def is_reached(rule: AlertRule, threshold: int, reading: Reading) -> bool:
    """Whether ``reading`` is at, above or below the threshold, as the rule compares."""
    left, right = _sides(rule, threshold, reading)
    match rule.compare:
        case "at_least":
            return left >= right
        case "above":
            return left > right
        case "below":
            return left < right


def may_fire(rule: AlertRule, reading: Reading, now_ms: int) -> bool:
    """Whether as many days are left to the reset as the rule asks for."""
    left_ms = 0 if reading.reset_ms is None else reading.reset_ms - now_ms
    if rule.days_left_min is not None and left_ms < rule.days_left_min * DAY_MS:
        return False
    return rule.days_left_above is None or left_ms > rule.days_left_above * DAY_MS


def is_rearmed(rule: AlertRule, threshold: int, reading: Reading) -> bool:
    """Whether a rule that fired may fire again: its next crossing is another alert."""
    if is_reached(rule, threshold, reading):
        return False
    if rule.measure in _COUNTS:
        return True
    if rule.compare == "below":
        left, right = _sides(rule, threshold + rule.rearm_points, reading)
        return left >= right
    left, right = _sides(rule, max(0, threshold - rule.rearm_points), reading)
    return left <= right


def _sides(rule: AlertRule, threshold: int, reading: Reading) -> tuple[int, int]:
    if rule.measure in _COUNTS or reading.limit is None:
        return reading.observed, threshold
    if reading.limit == 0:  # nothing of nothing: all of it is used, and none is left
        return (0 if rule.compare == "below" else 100), threshold
    return reading.observed * 100, threshold * reading.limit
