"""Forecasts beside what came of them."""

from collections.abc import Iterable
from typing import NamedTuple


class Outcome(NamedTuple):
    """One organization's month: what was forecast on a day of it, and what it was, in micro-credits."""

    day: int
    projected_micro: int
    low_micro: int
    high_micro: int
    straight_line_micro: float
    actual_micro: int


class Score(NamedTuple):
    """Mean absolute errors in percent of what it was, and how many intervals held it, in percent."""

    forecasts: int
    error_percent: float
    straight_line_error_percent: float
    coverage_percent: float


def score(outcomes: Iterable[Outcome]) -> Score:
    """Of at least one outcome."""
    known = [one for one in outcomes if one.actual_micro > 0]
    count = len(known)
    return Score(
        count,
        100 * sum(abs(one.projected_micro / one.actual_micro - 1) for one in known) / count,
        100 * sum(abs(one.straight_line_micro / one.actual_micro - 1) for one in known) / count,
        100 * sum(one.low_micro <= one.actual_micro <= one.high_micro for one in known) / count,
    )
