"""Alert rules as rows of the catalogue (requirements, section 5)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

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
ALERT_RULES_MAX = 100


class AlertRule(Record):
    """Fires when ``measure`` reaches ``threshold`` ("above": passes it; "below": falls under it), once per crossing.

    ``window_s`` is the rolling time that a count is taken over; ``days_left_min`` holds a rule back unless so many days
    (fractions count) are left to the month's reset. A rule of percents is armed again ``rearm_points`` below (above)
    its threshold; a rule of counts when its window holds none above the threshold any more.
    """

    name: LabelName
    measure: AlertMeasure
    compare: Literal["at_least", "above", "below"] = "at_least"
    threshold: Annotated[int, Field(ge=0, le=10**9)]
    severity: Severity
    window_s: Annotated[int, Field(ge=1, le=86_400)] | None = None
    days_left_min: Annotated[int, Field(ge=0, le=31)] | None = None
    rearm_points: Annotated[int, Field(ge=0, le=100)] = 5
    advice: Sentence
    """What to do. ``{costliest}`` stands for the operations that cost most."""

    @model_validator(mode="after")
    def _window(self) -> "AlertRule":
        if (self.measure == "throttled") != (self.window_s is not None):
            raise ValueError("window_s goes with the measure throttled, and with no other")
        return self


AlertRules = Annotated[tuple[AlertRule, ...], Field(max_length=ALERT_RULES_MAX)]
