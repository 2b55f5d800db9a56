"""How often something happened in rolling windows: bounded counts that a new owner has again.

A window is cut into ``SLOTS`` slots, of whole seconds of log time; it counts the current slot and those before it that
lie in it whole. So it is never longer than it says, and at most one slot shorter.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from .period import SECOND_MS
from .tables import ChangedRows, OccurrencesRow, row_key

SLOTS: Final = 60


class Tally:
    """How often ``measure`` happened to ``scope`` (its text), by length of window in seconds and by slot."""

    __slots__ = ("key", "measure", "newest_s", "scope", "windows")

    def __init__(self, measure: str, scope: str) -> None:
        self.key = row_key("y", measure, scope)
        self.measure = measure
        self.scope = scope
        self.windows: dict[int, dict[int, int]] = {}
        self.newest_s = 0
        """The second in which it happened last."""

    def count(self, window_s: int, now_ms: int) -> int:
        """How often in the window that ends at ``now_ms``."""
        floor = now_ms // SECOND_MS * SLOTS // window_s - SLOTS
        return sum(times for slot, times in self.windows.get(window_s, {}).items() if slot > floor)

    def is_over(self, now_ms: int) -> bool:
        """Whether no window holds anything any more."""
        return all(not self.count(window_s, now_ms) for window_s in self.windows)

    def encode(self) -> bytes:
        """The payload of its row."""
        return OccurrencesRow(self.newest_s, self.windows).encode()


class Occurrences:
    """Tallies by measure and scope. Above ``names_max`` of one measure, the one silent longest is forgotten."""

    def __init__(self, changed: ChangedRows, names_max: int) -> None:
        self._changed = changed.rows
        self._names_max = names_max
        self._tallies: defaultdict[str, OrderedDict[str, Tally]] = defaultdict(OrderedDict)
        """The one silent longest first."""
        self.fresh: dict[Tally, None] = {}
        """What was counted, or recovered, since somebody looked, who takes it out."""

    def __len__(self) -> int:
        return sum(map(len, self._tallies.values()))

    def __iter__(self) -> Iterator[Tally]:
        for tallies in self._tallies.values():
            yield from tallies.values()

    def add(self, measure: str, scope: str, windows_s: Iterable[int], times: int, now_ms: int) -> None:
        """It happened ``times`` times by ``now_ms``, and counts in windows of these lengths."""
        tallies = self._tallies[measure]
        tally = tallies.get(scope)
        if tally is None:
            tally = tallies[scope] = Tally(measure, scope)
            if len(tallies) > self._names_max:
                self._forget(next(iter(tallies.values())))
        second = now_ms // SECOND_MS
        if tally.newest_s != second:
            tally.newest_s = second
            tallies.move_to_end(scope)
        for window_s in windows_s:
            slots, slot = tally.windows.setdefault(window_s, {}), second * SLOTS // window_s
            if slot in slots:
                slots[slot] += times
            else:
                for old in [one for one in slots if one <= slot - SLOTS]:
                    del slots[old]
                slots[slot] = times
        self._changed[tally.key] = tally
        self.fresh[tally] = None

    def count(self, measure: str, scope: str, window_s: int, now_ms: int) -> int:
        """How often it happened in the window that ends at ``now_ms``."""
        tally = self._tallies[measure].get(scope)
        return 0 if tally is None else tally.count(window_s, now_ms)

    def expire(self, now_ms: int, at_most: int) -> None:
        """Forgets what no window holds any more, ``at_most`` so many."""
        for tallies in self._tallies.values():
            while tallies and at_most > 0:
                oldest = next(iter(tallies.values()))
                if not oldest.is_over(now_ms):
                    break
                self._forget(oldest)
                at_most -= 1

    def _forget(self, tally: Tally) -> None:
        del self._tallies[tally.measure][tally.scope]
        self._changed[tally.key] = None
        self.fresh.pop(tally, None)

    def restore(self, measure: str, scope: str, row: OccurrencesRow) -> None:
        """Takes in a recovered row."""
        tally = self._tallies[measure][scope] = Tally(measure, scope)
        tally.newest_s, tally.windows = row.newest_s, row.windows
        self.fresh[tally] = None

    def resume(self) -> None:
        """All rows are back: those that were silent longest come first."""
        for measure, tallies in self._tallies.items():
            self._tallies[measure] = OrderedDict(sorted(tallies.items(), key=lambda item: (item[1].newest_s, item[0])))
