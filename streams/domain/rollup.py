"""Rollup cells: one minute of one organization, key and operation (requirements, section 7)."""

from typing import Final

from sluicegate_schemas.state import ENCODE, RollupCell, parse_rollup_key, rollup_key

from .tables import COUNT_MAX, ChangedRows

OVERFLOW: Final = "overflow"
"""The operation that stands for all that found no room."""


class Cell:
    """One rollup cell; see ``state.RollupCell`` for its fields."""

    __slots__ = (
        "category", "credits_micro", "errors", "events", "is_evicted", "key", "minute", "rated_version", "requests",
        "throttled", "units",
    )  # fmt: skip

    def __init__(self, key: bytes, minute: int, category: str) -> None:
        self.key = key
        self.minute = minute
        self.category = category
        self.requests = self.errors = self.throttled = self.units = self.credits_micro = self.events = 0
        self.rated_version = 0
        self.is_evicted = False

    def encode(self) -> bytes:
        """The payload of its row."""
        return ENCODE(
            RollupCell(
                self.category,
                min(self.requests, COUNT_MAX),
                self.errors,
                self.throttled,
                min(self.units, COUNT_MAX),
                self.credits_micro,
                self.events,
                self.rated_version,
            )
        )


class Cells:
    """The open cells of a partition.

    A cell is removed when its minute is long past and the sink holds its last change. Then a late event makes another
    row for the same minute: the row key carries the offset that made it.
    """

    def __init__(self, changed: ChangedRows, cells_max: int) -> None:
        self._changed = changed.rows
        self._cells_max = cells_max
        self._open = 0
        self._minutes: dict[int, dict[tuple[str, str, str], Cell]] = {}
        self._changed_minutes: set[int] = set()
        self._taken: list[set[int]] = []
        self._ends: dict[int, int] = {}
        """The end of the state log after the last flush that changed a minute; absent while that is not known."""
        self._durable_until = 0

    def __len__(self) -> int:
        return self._open

    def find(self, organization_id: str, api_key_id: str, operation: str, minute: int) -> Cell | None:
        """The open cell of these names."""
        cells = self._minutes.get(minute)
        return None if cells is None else cells.get((organization_id, api_key_id, operation))

    def make(
        self, organization_id: str, api_key_id: str, operation: str, minute: int, offset: int, category: str
    ) -> Cell:
        """The open cell of these names; where there is none, one made by the usage record at ``offset``.

        Above ``cells_max`` (the sink is away, or somebody invents operations) what has no cell yet is counted under its
        organization's operation ``OVERFLOW``, without key: all sums stay exact, the detail is lost.
        """
        cells = self._minutes.setdefault(minute, {})
        cell = cells.get((organization_id, api_key_id, operation))
        if cell is None and self._open >= self._cells_max:
            api_key_id, operation, category = "", OVERFLOW, ""
            cell = cells.get((organization_id, api_key_id, operation))
        if cell is None:
            key = rollup_key(organization_id, api_key_id, operation, minute, offset)
            cell = cells[organization_id, api_key_id, operation] = Cell(key, minute, category)
            self._open += 1
        return cell

    def mark(self, cell: Cell) -> None:
        """Something in ``cell`` changed."""
        self._changed[cell.key] = cell
        self._changed_minutes.add(cell.minute)

    def taken(self) -> None:
        """The changed rows were taken for a flush."""
        self._taken.append(self._changed_minutes)
        self._changed_minutes = set()

    def flushed(self, state_offset_end: int) -> None:
        """The oldest flush that is under way is in the state log, which ends at ``state_offset_end`` now."""
        minutes = self._taken.pop(0) if self._taken else set()
        for minute in minutes:
            if minute in self._minutes:
                self._ends[minute] = state_offset_end
        for minute in self._minutes:  # what was recovered lies before anything written since
            self._ends.setdefault(minute, state_offset_end)

    def durable_until(self, state_offset: int) -> None:
        """The sink holds all state records below ``state_offset``."""
        self._durable_until = max(self._durable_until, state_offset)

    def evict(self, minute_floor: int, at_most: int) -> bool:
        """Removes the cells of the minutes before ``minute_floor`` that the sink holds, ``at_most`` so many; returns
        whether some are left. A sink that was away for long sets all of them free at once, and a flush is one batch.
        """
        under_way = self._changed_minutes.union(*self._taken)
        for minute in sorted(minute for minute in self._minutes if minute < minute_floor):
            end = self._ends.get(minute)
            if end is None or end > self._durable_until or minute in under_way:
                continue
            cells = self._minutes[minute]
            while cells:
                if at_most <= 0:
                    return True
                at_most -= 1
                _, cell = cells.popitem()
                cell.is_evicted = True
                self._changed[cell.key] = None
                self._open -= 1
            del self._minutes[minute], self._ends[minute]
        return False

    def restore(self, key: bytes, row: RollupCell) -> None:
        """Takes in a recovered row."""
        organization_id, api_key_id, operation, minute, _ = parse_rollup_key(key)
        cell = Cell(key, minute, row.category)
        cell.requests, cell.errors, cell.throttled = row.requests, row.errors, row.throttled
        cell.units, cell.credits_micro, cell.events = row.units, row.credits_micro, row.events
        cell.rated_version = row.rated_version
        cells = self._minutes.setdefault(minute, {})
        self._open += (organization_id, api_key_id, operation) not in cells
        cells[organization_id, api_key_id, operation] = cell
