"""Makes a plan that fails as small as it gets: delta debugging over its faults and its traffic (Zeller, 1999)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from .plan import Plan

PLAYS_MAX: Final = 300

_T = TypeVar("_T")


def kind_of(fault: str) -> str:
    """What a violation is about, without the names and numbers that change when a plan shrinks."""
    return re.sub(r"[\d'\"`(\[{].*", "", fault.partition("\n")[0]).strip()[:60]


class _Spent(Exception):  # noqa: N818 - no error: the search ends where its plays are used up
    """No play is left."""


class Shrinker:
    """Searches for a smaller plan that still fails. ``fails`` plays a plan and says whether it does."""

    def __init__(self, fails: Callable[[Plan], bool], plays_max: int = PLAYS_MAX) -> None:
        self.plays = 0
        self._fails = fails
        self._plays_max = plays_max

    def shrink(self, plan: Plan) -> Plan:
        """The smallest plan found. Without one of its elements it no longer fails, unless the plays were used up."""
        self._best = plan
        try:
            size = -1
            while size != (size := len(self._best.faults) + len(self._best.traffic)):
                self._minimize(self._best.faults, lambda kept: replace(self._best, faults=tuple(kept)))
                self._minimize(self._best.traffic, lambda kept: replace(self._best, traffic=tuple(kept)))
        except _Spent:
            pass
        return self._best

    def _still_fails(self, plan: Plan) -> bool:
        if self.plays >= self._plays_max:
            raise _Spent
        self.plays += 1
        if self._fails(plan):
            self._best = plan
            return True
        return False

    def _minimize(self, elements: Sequence[_T], with_only: Callable[[Sequence[_T]], Plan]) -> None:
        """Drops ever smaller runs of ``elements`` while the plan still fails without them."""
        if not elements or self._still_fails(with_only(())):
            return
        parts = 2
        while len(elements) >= 2:
            length = -(-len(elements) // parts)
            for start in range(0, len(elements), length):
                rest = [*elements[:start], *elements[start + length :]]
                if len(rest) < len(elements) and self._still_fails(with_only(rest)):
                    elements, parts = rest, max(parts - 1, 2)
                    break
            else:
                if length == 1:
                    return
                parts = min(2 * parts, len(elements))


def shrink(plan: Plan, fails: Callable[[Plan], bool], plays_max: int = PLAYS_MAX) -> Plan:
    """See ``Shrinker``."""
    return Shrinker(fails, plays_max).shrink(plan)
