"""How often something happened in a rolling window: bounded counts that a new owner has again.

A window is cut into ``SLOTS`` slots, of whole seconds of log time; it counts the current slot and those before it that
lie in it whole. So it is never longer than it says, and at most one slot shorter.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from .period import SECOND_MS
from .tables import ChangedRows, OccurrencesRow, row_key

SLOTS: Final = 60


class WindowName(NamedTuple):
    """What is counted (an alert rule's measure), over how long, and of whom (a scope's text)."""

    measure: str
    window_s: int
    scope: str


def _slot(window_s: int, now_ms: int) -> int:
    return now_ms // SECOND_MS * SLOTS // window_s


class Occurrences:
    """Counts by name. Above ``names_max`` names of one measure and length, the one silent longest is forgotten."""

    def __init__(self, changed: ChangedRows, names_max: int) -> None:
        self._changed = changed.rows
        self._names_max = names_max
        self._windows: dict[tuple[str, int], OrderedDict[str, OccurrencesRow]] = {}
        self.fresh: dict[WindowName, None] = {}
        """What was counted, or recovered, since somebody looked, who takes it out."""

    def __len__(self) -> int:
        return sum(map(len, self._windows.values()))

    def add(self, name: WindowName, times: int, now_ms: int) -> None:
        """It happened ``times`` times by ``now_ms``."""
        windows = self._windows.setdefault((name.measure, name.window_s), OrderedDict())
        row = windows.get(name.scope)
        if row is None:
            row = windows[name.scope] = OccurrencesRow({})
            if len(windows) > self._names_max:
                scope, _ = windows.popitem(last=False)
                self._forget(name._replace(scope=scope))
        else:
            windows.move_to_end(name.scope)
        slot = _slot(name.window_s, now_ms)
        if slot in row.slots:
            row.slots[slot] += times
        else:
            row.slots = {one: count for one, count in row.slots.items() if one > slot - SLOTS} | {slot: times}
        self._changed[row_key("y", name.measure, str(name.window_s), name.scope)] = row
        self.fresh[name] = None

    def count(self, name: WindowName, now_ms: int) -> int:
        """How often it happened in the window that ends at ``now_ms``."""
        windows = self._windows.get((name.measure, name.window_s))
        row = None if windows is None else windows.get(name.scope)
        floor = _slot(name.window_s, now_ms) - SLOTS
        return 0 if row is None else sum(count for slot, count in row.slots.items() if slot > floor)

    def expire(self, now_ms: int, at_most: int) -> None:
        """Forgets windows that hold nothing any more, ``at_most`` so many."""
        for (measure, window_s), windows in self._windows.items():
            floor = _slot(window_s, now_ms) - SLOTS
            while windows and at_most > 0:
                scope, row = next(iter(windows.items()))
                if max(row.slots) > floor:
                    break
                del windows[scope]
                self._forget(WindowName(measure, window_s, scope))
                at_most -= 1

    def _forget(self, name: WindowName) -> None:
        self._changed[row_key("y", name.measure, str(name.window_s), name.scope)] = None
        self.fresh.pop(name, None)

    def names(self) -> Iterator[WindowName]:
        """All that is counted."""
        for (measure, window_s), windows in self._windows.items():
            for scope in windows:
                yield WindowName(measure, window_s, scope)

    def restore(self, measure: str, window_s: str, scope: str, row: OccurrencesRow) -> None:
        """Takes in a recovered row."""
        name = WindowName(measure, int(window_s), scope)
        self._windows.setdefault((measure, name.window_s), OrderedDict())[scope] = row
        self.fresh[name] = None

    def resume(self) -> None:
        """All rows are back: those that were silent longest come first."""
        for identity, windows in self._windows.items():
            self._windows[identity] = OrderedDict(
                sorted(windows.items(), key=lambda item: (max(item[1].slots), item[0]))
            )
