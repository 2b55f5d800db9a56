"""Alert rules as rows of the catalogue (requirements, section 5)."""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .bounds import LabelName, Record, Sentence

Severity = Literal["info", "warning", "critical"]
AlertMeasure = Literal[
    "credits_used_percent",
    "credits_left_percent",
    "minute_utilization_percent",
    "concurrency_percent",
    "throttled",
    "creations_refused",
    "budget_percent",
    "unrated",
    "runs_out_before_reset",
]
"""What a rule looks at, each of its own scope: credits and the projection of an account, the minute bucket and the
throttled requests of a key, requests at a time and refused creations of an organization, a budget, an operation or
model that the rate card lacks."""
COUNTED_IN_WINDOWS: Final[frozenset[AlertMeasure]] = frozenset({"throttled", "creations_refused"})
"""The measures that count what happened in a rolling window."""
_OF_A_MONTH: Final[frozenset[AlertMeasure]] = frozenset({"credits_used_percent", "credits_left_percent"})
ALERT_RULES_MAX = 100


class AlertRule(Record):
    """Fires when ``measure`` reaches ``threshold`` ("above": passes it; "below": falls under it), once per crossing.

    ``window_s`` is the rolling time that a count is taken over. ``days_left_min`` holds a rule on credits back unless
    so many days are left to the month's reset, ``days_left_above`` unless more are (fractions count). A rule of
    percents is armed again ``rearm_points`` below (above) its threshold; a rule of counts when its window holds none
    above the threshold any more. A budget has thresholds of its own: of the rules of ``budget_percent``, the one with
    the highest ``threshold`` that a budget's does not lie below speaks for it.
    """

    name: LabelName
    measure: AlertMeasure
    compare: Literal["at_least", "above", "below"] = "at_least"
    threshold: Annotated[int, Field(ge=0, le=10**9)]
    severity: Severity
    window_s: Annotated[int, Field(ge=1, le=86_400)] | None = None
    days_left_min: Annotated[int, Field(ge=0, le=31)] | None = None
    days_left_above: Annotated[int, Field(ge=0, le=31)] | None = None
    rearm_points: Annotated[int, Field(ge=0, le=100)] = 5
    advice: Sentence
    """What to do. ``{costliest}`` stands for the operations that cost most."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.measure in COUNTED_IN_WINDOWS) != (self.window_s is not None):
            raise ValueError(f"window_s goes with the measures {', '.join(sorted(COUNTED_IN_WINDOWS))}, and no other")
        if self.measure not in _OF_A_MONTH and (self.days_left_min, self.days_left_above) != (None, None):
            raise ValueError(f"days left go with the measures {', '.join(sorted(_OF_A_MONTH))}, and no other")
        if self.compare == "below" and self.measure != "credits_left_percent":
            raise ValueError("below goes with the measure credits_left_percent, and no other")
        return self


def _distinct(rules: tuple[AlertRule, ...]) -> tuple[AlertRule, ...]:
    names = [rule.name for rule in rules]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ValueError(f"two rules have the name {name}")
    return rules


AlertRules = Annotated[tuple[AlertRule, ...], Field(max_length=ALERT_RULES_MAX), AfterValidator(_distinct)]
