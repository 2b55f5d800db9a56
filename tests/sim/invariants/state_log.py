"""The state log as it grows: one writer by claims and epochs, whole flushes, headers that tell the truth.

Folds the log by itself, so that a wrong fold of the workers is noticed. ``StateWatch`` is handed every batch at the
moment of its append and knows from then on what is durable.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple
from zlib import crc32

import msgspec

from streams.domain.settings import DomainSettings

from .. import rows as state
from ..log import LogRecord
from ..rows import entitled_part
from .grants import GrantWatch
from .leases import LeaseWatch

_SNAPSHOTS_MAX = 2


class Cut(NamedTuple):
    """A flush that stands: everything up to these offsets is in the state."""

    epoch: int
    flush: int
    usage_offset: int
    accounts_offset: int
    log_time_ms: int


class CellRecord(NamedTuple):
    """A valid record of a rollup cell in the state log."""

    offset: int
    epoch: int
    key: bytes
    payload: bytes | None


class StateWatch:
    """One state partition."""

    def __init__(
        self,
        partition: int,
        note: Callable[[str], None],
        seen: Counter[str],
        draw: random.Random,
        settings: DomainSettings,
    ) -> None:
        self.partition = partition
        lives_ms = settings.lease_ttl_ms + settings.lease_request_ms + settings.lease_late_ms
        self.grants = GrantWatch(self._fault, seen)
        self.leases = LeaseWatch(lives_ms, self._fault, seen)
        self.rows: dict[bytes, bytes] = {}
        self.removed_cells: dict[bytes, bytes] = {}
        self.cuts: list[Cut] = []
        self.claims: set[int] = set()
        self.cells: list[CellRecord] = []
        self.void_offsets: set[int] = set()
        self.snapshots: dict[int, tuple[dict[bytes, bytes], dict[bytes, bytes]]] = {}
        """(rows, removed cells) at a few cuts, by their place in ``cuts``."""
        self.ever: set[tuple[bytes, bytes]] = set()
        """Every valid (key, what of its row an entitlement repeats) of organizations and keys."""
        self.usage_offset = self.accounts_offset = -1
        self._note = note
        self._seen = seen
        self._draw = draw
        self._top_epoch = 0
        self._crc_xor = 0
        self._accounts_micro = self._cells_micro = 0

    def _fault(self, text: str) -> None:
        self._note(f"state of partition {self.partition}: {text}")

    def batch(self, records: Sequence[LogRecord]) -> None:
        """A batch was appended."""
        epochs = {_epoch(record) for record in records}
        epoch = max(epochs)
        if len(epochs) != 1:
            self._fault(f"a batch holds records of {len(epochs)} epochs")
        if records[0].key == b"_claim" and len(records) == 1:
            if epoch in self.claims:
                self._fault(f"epoch {epoch} was claimed twice")
            self.claims.add(epoch)
            self._seen["claims" if epoch > self._top_epoch else "void claims"] += 1
            self._top_epoch = max(self._top_epoch, epoch)
        elif epoch < self._top_epoch:
            self._seen["void flushes"] += 1
            self.void_offsets.update(record.offset for record in records)
        elif epoch not in self.claims:
            self._fault(f"a flush of epoch {epoch}, which nobody claimed")
            self._top_epoch = epoch
        elif records[-1].key != b"_head":
            self._fault(f"the batch at offset {records[0].offset} does not end with a header")
        else:
            self._flush(epoch, records)

    def _flush(self, epoch: int, records: Sequence[LogRecord]) -> None:
        ledgers_changed = False
        for record in records[:-1]:
            key = record.key or b""
            if key == b"_claim":
                continue
            if key == b"_head":
                self._fault(f"a second header at offset {record.offset}")
                continue
            payload = None if record.value is None else record.value[8:]
            before = self.rows.get(key)
            if key[:2] == b"c|":
                self._cell(record.offset, epoch, key, before, payload)
                ledgers_changed = True
            elif key[:2] == b"l|":
                self._ledger(key, before, payload)
                ledgers_changed = True
            elif key[:2] == b"j|":
                self.grants.grant(key, before, payload)
            elif key[:2] == b"u|":
                self.leases.budget(key, payload)
            elif key[:2] == b"e|":
                self.leases.row(key, payload)
            elif key[:2] in (b"o|", b"k|") and payload is not None:
                self.ever.add((key, entitled_part(payload)))
            if before is not None:
                self._crc_xor ^= crc32(before, crc32(key))
            if payload is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = payload
                self._crc_xor ^= crc32(payload, crc32(key))
        self._header(epoch, records[-1])
        if ledgers_changed and self._accounts_micro != self._cells_micro:
            self._fault(f"accounts used {self._accounts_micro} micro-credits, rollup cells {self._cells_micro}")

    def _cell(self, offset: int, epoch: int, key: bytes, before: bytes | None, payload: bytes | None) -> None:
        self.cells.append(CellRecord(offset, epoch, key, payload))
        if payload is None:
            if before is not None:
                self.removed_cells[key] = before
                self._seen["cells evicted"] += 1
            return
        if key in self.removed_cells and before is None:
            self._fault(f"the cell {key!r} came back after it was evicted")
        row = state.cell_row(payload)
        if min(row.amounts) < 0:
            self._fault(f"the cell {key!r} is negative: {row}")
        self._cells_micro += row.credits_micro - (0 if before is None else state.cell_row(before).credits_micro)

    def _ledger(self, key: bytes, before: bytes | None, payload: bytes | None) -> None:
        if payload is None:
            self._seen["ledgers evicted"] += 1
            return
        row = state.ledger_row(payload)
        used_before = 0 if before is None else state.ledger_row(before).used_micro
        if sum(row.breakdown_micro) != row.used_micro:
            self._fault(f"the breakdown of {key!r} sums to {sum(row.breakdown_micro)}, used is {row.used_micro}")
        if min(row.breakdown_micro) < 0 or row.used_micro < used_before:
            self._fault(f"{key!r} fell from {used_before} to {row.used_micro}")
        if key.startswith(b"l|account|"):
            self._accounts_micro += row.used_micro - used_before
            self.grants.ledger(key, before, row)

    def _header(self, epoch: int, record: LogRecord) -> None:
        assert record.value is not None
        flush, usage, accounts, log_time_ms, _, count, crc_xor, outbox, _ = msgspec.msgpack.decode(record.value[8:])
        last = self.cuts[-1] if self.cuts else Cut(0, 0, -1, -1, 0)
        if flush != last.flush + 1:
            self._fault(f"flush {flush} follows flush {last.flush}")
        if usage < last.usage_offset or accounts < last.accounts_offset or log_time_ms < last.log_time_ms:
            self._fault(f"flush {flush} goes back: {(usage, accounts, log_time_ms)} after {last[2:]}")
        if (count, crc_xor) != (len(self.rows), self._crc_xor):
            self._fault(f"flush {flush} counts {count} rows with checksum {crc_xor}, there are {len(self.rows)}")
        if (totals := self.rows.get(b"t|totals")) is not None:
            applied = state.totals_row(totals).usage_offset
            if applied != usage:
                self._fault(f"flush {flush} says usage is applied up to {usage}, its rows say {applied}")
        self.usage_offset, self.accounts_offset = usage, accounts
        self.cuts.append(Cut(epoch, flush, usage, accounts, log_time_ms))
        self.grants.flushed()
        self.leases.flushed(len(self.cuts), log_time_ms, self.rows)
        self._seen["flushes"] += 1
        self._seen["flushes with outbox"] += bool(outbox)
        if len(self.snapshots) < _SNAPSHOTS_MAX and self._draw.random() < 0.03:
            self.snapshots[len(self.cuts)] = dict(self.rows), dict(self.removed_cells)


def _epoch(record: LogRecord) -> int:
    if record.value is not None:
        return int.from_bytes(record.value[:8], "big")
    return int.from_bytes(dict(record.headers)["e"], "big")


def fold(records: Sequence[LogRecord]) -> dict[bytes, bytes]:
    """The rows that stand at the end of what a reader sees of a state log."""
    rows: dict[bytes, bytes] = {}
    top_epoch = 0
    for record in records:
        epoch = _epoch(record)
        if epoch < top_epoch:
            continue
        top_epoch = epoch
        assert record.key is not None
        if record.value is None:
            rows.pop(record.key, None)
        elif record.key[:1] != b"_":
            rows[record.key] = record.value[8:]
    return rows


def unrepaired(records: Sequence[LogRecord]) -> list[bytes]:
    """The keys whose newest record is void: compaction will keep it, and remove the true one before it."""
    newest_is_void: dict[bytes, bool] = {}
    top_epoch = 0
    for record in records:
        epoch = _epoch(record)
        newest_is_void[record.key or b""] = epoch < top_epoch
        top_epoch = max(top_epoch, epoch)
    return [key for key, is_void in newest_is_void.items() if is_void]
