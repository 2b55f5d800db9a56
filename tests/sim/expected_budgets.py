"""Budgets: what was used of each in its window, days and months of UTC by the events' own time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sluicegate_schemas.accounts import BudgetPut, BudgetRemove
from sluicegate_schemas.bounds import from_epoch_ms

from .plan import DAY_MS


class BudgetPlace(NamedTuple):
    """Which budget."""

    organization_id: str
    period: str
    kind: str
    target: str

    @property
    def decision_key(self) -> str:
        """The record key of its verdicts."""
        scope = {"key": self.target, "label": f"{self.organization_id}:{self.target}"}
        return f"budget_{self.period}:{self.kind}:{scope.get(self.kind, self.organization_id)}"


@dataclass(slots=True)
class Budget:
    """One budget; ``used_micro`` by window."""

    put: BudgetPut
    used_micro: dict[int, int]


def place_of(command: BudgetPut | BudgetRemove) -> BudgetPlace:
    """Which budget a command is about."""
    if command.api_key_id is not None:
        kind, target = "key", command.api_key_id
    elif command.label is not None:
        kind, target = "label", f"{command.label.name}={command.label.value}"
    else:
        kind, target = "organization", ""
    return BudgetPlace(command.organization_id, command.period, kind, target)


def window_of(period: str, ms: int) -> int:
    """The day or month that ``ms`` lies in, counted from 1970."""
    if period == "day":
        return ms // DAY_MS
    at = from_epoch_ms(ms)
    return (at.year - 1970) * 12 + at.month - 1


class ExpectedBudgets:
    """Of one partition."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.all: dict[BudgetPlace, Budget] = {}
        self.most_micro: dict[tuple[str, int], int] = {}
        """By decision key and window: the largest amount that the budget ever had."""
        self.outside_micro: defaultdict[tuple[str, int], int] = defaultdict(int)
        """By decision key and window: what was used of it without a lease of it."""

    def put(self, command: BudgetPut, used_micro: int) -> None:
        """Sets a budget; a new one of a month counts what its month has used."""
        place = place_of(command)
        known = self.all.get(place)
        if known is None:
            self.outside_micro[place.decision_key, window_of(command.period, self.now_ms)] += used_micro
            self.all[place] = Budget(command, {window_of(command.period, self.now_ms): used_micro})
        else:
            known.put = command

    def remove(self, command: BudgetRemove) -> bool:
        """Ends one; returns whether there was one."""
        return self.all.pop(place_of(command), None) is not None

    def spend(
        self,
        organization_id: str,
        api_key_id: str | None,
        labels: Mapping[str, str],
        ms: int,
        micro: int,
        limits: Collection[str | None] = (),
    ) -> None:
        """Counts a cost at ``ms`` in the budgets that it concerns; a window that is over takes nothing more, nor does
        one that is further ahead than the next. ``limits`` are those of whose leases it is."""
        targets = {("organization", ""), ("key", api_key_id)}
        targets |= {("label", f"{name}={value}") for name, value in labels.items()}
        for place, budget in self.all.items():
            if place.organization_id == organization_id and (place.kind, place.target) in targets:
                window, now = window_of(place.period, ms), window_of(place.period, self.now_ms)
                if now <= window <= now + 1:
                    budget.used_micro[window] = budget.used_micro.get(window, 0) + micro
                    if place.decision_key not in limits:
                        self.outside_micro[place.decision_key, window] += micro

    def look(self) -> None:
        """After a record: how much the budgets are, in the windows that something may be lent for."""
        for place, budget in self.all.items():
            now = window_of(place.period, self.now_ms)
            for window in (now, now + 1):
                most = self.most_micro.get((place.decision_key, window), 0)
                self.most_micro[place.decision_key, window] = max(most, budget.put.credits_micro)

    def used_micro(self, place: BudgetPlace) -> int:
        """What the present window has used."""
        return self.all[place].used_micro.get(window_of(place.period, self.now_ms), 0)
