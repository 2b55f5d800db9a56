"""The state's own books, from its log: ledgers, rollup cells, and what the cells sum to.

Pure. The log is folded by the rule of recovery and sink (``streams.engine.fold``). What is kept is bounded: open cells
as the workers keep them, the newest evicted ones for their names, and sums that grow coarser with age.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from sluicegate_schemas.state import (
    DECODE_ROLLUP_CELL,
    EPOCH_BYTES,
    ROLLUP_TABLE,
    RollupCell,
    parse_rollup_key,
    rollup_version,
)
from streams.engine.fold import Epochs, Headers, StateFormatError

from .differences import DAY_S, NOTHING, Amounts, month_of
from .spans import Spans

OFFSET_MASK: Final = 2**64 - 1
_CELL_PREFIX: Final = ROLLUP_TABLE + b"|"
_LEDGER_PREFIX: Final = b"l|organization|"
_ACCOUNT_PREFIX: Final = b"l|account|"
_ORGANIZATION_PREFIX: Final = b"o|"
_TOTALS_KEY: Final = b"t|totals"


class BooksFullError(Exception):
    """More open cells or sums than may be kept: the audit cannot go on within its memory."""


class LedgerRow(msgspec.Struct, array_like=True, frozen=True):
    """``l|organization|id|month`` and ``l|account|id|month``, by its positions."""

    account_id: str
    organization_id: str | None
    total_micro: int | None
    used_micro: int
    breakdown_micro: list[int]
    requests: int
    corrections_micro: dict[str, int]


class _OrganizationRow(msgspec.Struct, array_like=True, frozen=True):
    """``o|id``, by its positions."""

    account_id: str


class _TotalsRow(msgspec.Struct, array_like=True, frozen=True):
    """``t|totals``, by its positions."""

    usage_offset: int = -1
    counted: int = 0


_DECODE_LEDGER: Final = msgspec.msgpack.Decoder(LedgerRow).decode
_DECODE_ORGANIZATION: Final = msgspec.msgpack.Decoder(_OrganizationRow).decode
_DECODE_TOTALS: Final = msgspec.msgpack.Decoder(_TotalsRow).decode


class Cell(NamedTuple):
    """A rollup cell as its newest valid record has it; ``version`` as in ClickHouse."""

    version: int
    category: str
    amounts: Amounts
    rated_version: int = 0
    epoch: int = 0
    """The writer's, where the record was read from the log."""

    @property
    def offset(self) -> int:
        """Where that record stands."""
        return self.version & OFFSET_MASK


class Sum:
    """What the cells of one source, organization and span sum to; ``newest_offset``: of the last change, -1 if unknown
    (it was there before the audit began)."""

    __slots__ = ("amounts", "newest_offset")

    def __init__(self) -> None:
        self.amounts = NOTHING
        self.newest_offset = -1


class Source:
    """One state partition."""

    def __init__(self) -> None:
        self.next_offset = 0
        """Everything below it is folded."""
        self.open: dict[bytes, Cell] = {}
        self.evicted: OrderedDict[bytes, Cell] = OrderedDict()
        self.ledgers: dict[tuple[str, str], LedgerRow] = {}
        self.accounts: dict[tuple[str, str], LedgerRow] = {}
        """What accounts have and have used, by account and month."""
        self.payers: dict[str, str] = {}
        """The accounts of organizations that pay by another than their own."""
        self.counted = 0
        self.events = 0
        """Of all cells that are summed, evicted ones included."""
        self.events_before: int | None = 0
        """Events that were counted before what is summed begins; None until ``settle`` has said so, and until then
        evicted cells are left to ``adopt``."""
        self._epochs = Epochs()
        self._rows_by_prefix = ((_LEDGER_PREFIX, self.ledgers), (_ACCOUNT_PREFIX, self.accounts))

    def cell(self, key: bytes) -> Cell | None:
        """The cell of a row key, while it is open or remembered."""
        return self.open.get(key) or self.evicted.get(key)

    def feed(self, key: bytes, value: bytes | None, headers: Headers, offset: int) -> tuple[Cell | None, Cell] | None:
        """Takes in the next record; (before, after) of the cell that it changes. Raises StateFormatError."""
        valid, epoch, repair = self._epochs.feed(key, value, headers)
        self.next_offset = offset + 1
        if not valid:
            return None
        if key.startswith(_CELL_PREFIX):
            version = rollup_version(epoch, offset)
            if value is not None:
                before = self.cell(key)
                self.evicted.pop(key, None)
                row = DECODE_ROLLUP_CELL(value[EPOCH_BYTES:])
                after = self.open[key] = Cell(version, row.category, amounts_of(row), row.rated_version, epoch)
                return before, after
            before = self.open.pop(key, None)
            if before is None:
                return None
            if self.events_before is None:  # the log may hold its records still, or not: ClickHouse has it either way
                return before, Cell(version, "", NOTHING)
            # As in the sink: only a void record that was taken for valid is undone.
            after = Cell(version, "", NOTHING, epoch=epoch) if repair and before.epoch < epoch else before
            self.evicted[key] = after
            return before, after
        ledgers = next((rows for prefix, rows in self._rows_by_prefix if key.startswith(prefix)), None)
        if ledgers is not None:
            _, _, name, month = key.decode().split("|")
            if value is None:
                ledgers.pop((name, month), None)
            else:
                ledgers[name, month] = _DECODE_LEDGER(value[EPOCH_BYTES:])
        elif key.startswith(_ORGANIZATION_PREFIX) and value is not None:
            organization_id = key[len(_ORGANIZATION_PREFIX) :].decode()
            account_id = _DECODE_ORGANIZATION(value[EPOCH_BYTES:]).account_id
            if account_id != organization_id:
                self.payers[organization_id] = account_id
        elif key == _TOTALS_KEY and value is not None:
            self.counted = _DECODE_TOTALS(value[EPOCH_BYTES:]).counted
        return None


def amounts_of(cell: RollupCell) -> Amounts:
    """The amounts of a cell's row."""
    return Amounts(cell.requests, cell.errors, cell.throttled, cell.units, cell.credits_micro, cell.events)


class Books:
    """All partitions of the state topic. ``sources`` are ``topic/partition``; with ``adopts`` evicted cells come by
    ``adopt``, until ``settle``."""

    def __init__(
        self,
        sources: Sequence[str],
        now_s: int,
        *,
        open_max: int,
        evicted_max: int,
        sums_max: int,
        adopts: bool = False,
    ) -> None:
        self.sources = {name: Source() for name in sources}
        for source in self.sources.values():
            source.events_before = None if adopts else 0
        self.spans = Spans.at(now_s)
        self._open_max, self._evicted_max, self._sums_max = open_max, evicted_max, sums_max
        self._sums: dict[int, dict[tuple[str, str], Sum]] = {}
        self._sums_count = 0
        self.credits_micro: dict[tuple[str, str], int] = {}
        """(organization, month) → what its cells cost."""

    def feed(self, source: str, offset: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Takes in the next record of ``source``; one that was taken in before changes nothing.

        Raises StateFormatError, and BooksFullError.
        """
        if key is None:
            raise StateFormatError(f"{source}, offset {offset}: a state record has no key")
        partition = self.sources[source]
        if offset < partition.next_offset:
            return  # read again after a lost connection
        try:
            change = partition.feed(key, value, headers, offset)
            if change is not None:
                organization_id, _, _, minute, _ = parse_rollup_key(key)
                before, after = change
                if after is not before:
                    amounts = after.amounts if before is None else after.amounts.minus(before.amounts)
                    self._add(source, organization_id, minute * 60, amounts, offset)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateFormatError(f"{source}, offset {offset}: {error}") from error
        self._bound(partition)

    def adopt(self, source: str, organization_id: str, start_s: int, amounts: Amounts) -> None:
        """Adds what evicted cells sum to, as ClickHouse has it when the audit begins."""
        self._add(source, organization_id, start_s, amounts, -1)

    def adopt_cell(self, source: str, key: bytes, cell: Cell) -> None:
        """``adopt`` for one cell, whose name is remembered. One that the log holds is left as it is."""
        partition = self.sources[source]
        if partition.cell(key) is None:
            organization_id, _, _, minute, _ = parse_rollup_key(key)
            partition.evicted[key] = cell
            self._add(source, organization_id, minute * 60, cell.amounts, -1)
            self._bound(partition)

    def settle(self, *, nothing_older: bool) -> None:
        """What was evicted is adopted: from here on the events counted must be the events of the cells, all of them
        where ``nothing_older`` than the reach was ever counted."""
        for source in self.sources.values():
            source.events_before = 0 if nothing_older else source.counted - source.events

    def _add(self, source: str, organization_id: str, time_s: int, amounts: Amounts, offset: int) -> None:
        if time_s < self.spans.reach_s:
            return
        sums = self._sums.setdefault(self.spans.start_s(time_s), {})
        held = sums.get((source, organization_id))
        if held is None:
            held = sums[source, organization_id] = Sum()
            self._sums_count += 1
            if self._sums_count > self._sums_max:
                raise BooksFullError(f"more than {self._sums_max} sums of organizations and times are needed")
        held.amounts = held.amounts.plus(amounts)
        held.newest_offset = max(held.newest_offset, offset)
        self.sources[source].events += amounts.events
        month = organization_id, month_of(time_s)
        self.credits_micro[month] = self.credits_micro.get(month, 0) + amounts.credits_micro

    def _bound(self, partition: Source) -> None:
        if len(partition.open) > self._open_max:
            raise BooksFullError(f"a state partition has more than {self._open_max} open rollup cells")
        while len(partition.evicted) > self._evicted_max:
            partition.evicted.popitem(last=False)

    def advance(self, now_s: int) -> None:
        """Time passes: sums grow coarser, and what is older than the reach is forgotten."""
        before, self.spans = self.spans, Spans.at(max(now_s, self.spans.minutes_s + 3_600))
        if self.spans == before:
            return
        moved = [start_s for start_s in self._sums if self.spans.start_s(start_s) != start_s]
        for start_s in moved:
            target = self._sums.setdefault(self.spans.start_s(start_s), {})
            for name, held in self._sums.pop(start_s).items():
                into = target.get(name)
                if into is None:
                    target[name] = held
                else:
                    into.amounts = into.amounts.plus(held.amounts)
                    into.newest_offset = max(into.newest_offset, held.newest_offset)
                    self._sums_count -= 1
        for start_s in [start_s for start_s in self._sums if start_s < self.spans.reach_s]:
            self._sums_count -= len(self._sums.pop(start_s))
        reach_month = month_of(self.spans.reach_s)
        for name in [name for name in self.credits_micro if name[1] < reach_month]:
            del self.credits_micro[name]

    def sums(self, start_s: int, end_s: int) -> Iterator[tuple[int, str, str, Sum]]:
        """(start of the span, source, organization, sum) of the spans that begin in the range."""
        starts = (
            [start for start in self._sums if start_s <= start < end_s]
            if len(self._sums) < (end_s - start_s) // 60
            else [start for start in range(start_s, end_s, 60) if start in self._sums]
        )
        for start in sorted(starts):
            for (source, organization_id), held in self._sums[start].items():
                yield start, source, organization_id, held

    def days(self) -> set[int]:
        """The days (epoch seconds) that hold anything."""
        return {start_s // DAY_S * DAY_S for start_s in self._sums}

    def open_minutes(self) -> set[int]:
        """The minutes (epoch seconds) that have open cells."""
        return {parse_rollup_key(key)[3] * 60 for source in self.sources.values() for key in source.open}
