"""State records to rows of usage_minute and usage_label: pure, one object a state partition.

The rows are exact whatever runs the log is read in, how often, and from which stored position: a row's key is the cell
and the partition, its version the record's epoch and offset, and a record behind a higher epoch is void (design:
claims). Only rows that may be wrong otherwise are ever set to zero, see ``_Accepted``.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from sluicegate_schemas.state import (
    DECODE_HEADER,
    DECODE_LABEL_LEDGER,
    DECODE_ROLLUP_CELL,
    EPOCH_BYTES,
    HEADER_KEY,
    LABEL_LEDGER_PREFIX,
    ROLLUP_TABLE,
    RollupCell,
    parse_rollup_key,
    rollup_version,
)
from streams.engine.fold import Epochs, StateFormatError

from .cursor import LogRecord
from .label_rows import NOTHING_USED, LabelRow, label_row

ACCEPTED_CELLS_MAX: Final = 40_000
"""Two of the largest flushes: an owner repairs a void record at its next flush or its next look at the log's end."""
_PREFIXES: Final = (ROLLUP_TABLE + b"|", LABEL_LEDGER_PREFIX)
"""Of the rows that are taken in: cells, and the ledgers of labels."""


class UsageRow(NamedTuple):
    """A row of usage_minute, in the order of its columns; ``minute`` in seconds since the epoch."""

    org_id: str
    minute: int
    api_key_id: str
    operation: str
    source: str
    chunk: int
    category: str
    requests: int
    errors: int
    throttled: int
    units: int
    credits_micro: int
    events: int
    rated_version: int
    version: int


class UsageCut(NamedTuple):
    """What a stretch of the log came to: one row a cell (its newest), one a label's ledger and hour, and the log times
    (ms) of the first and last flush header in it; None where it held none."""

    rows: list[UsageRow]
    labels: list[LabelRow]
    oldest_log_time_ms: int | None
    newest_log_time_ms: int | None


class _Accepted:
    """The cells and ledgers last taken as valid, with the epoch that wrote them; the oldest are forgotten.

    A repair tombstone undoes a void record of a row that the owner does not have. Mostly that cell was evicted long
    ago and its row is right, and the void record was seen as such; a zero would then delete true counts. Only where the
    void record itself was taken for valid (compaction had removed the claim before it) must the row become zero.
    """

    def __init__(self) -> None:
        self._epochs: OrderedDict[bytes, int] = OrderedDict()

    def add(self, key: bytes, epoch: int) -> None:
        self._epochs[key] = epoch
        self._epochs.move_to_end(key)
        if len(self._epochs) > ACCEPTED_CELLS_MAX:
            self._epochs.popitem(last=False)

    def remove(self, key: bytes) -> int:
        """The epoch that the cell was taken with; -1 if unknown."""
        return self._epochs.pop(key, -1)


class StateRows:
    """Turns one state partition's records, in log order, into rows.

    ``source`` is ``topic/partition``; ``top_epoch`` is the one stored with the position that is gone on from.
    """

    def __init__(self, source: str, top_epoch: int = 0) -> None:
        self._source = source
        self._epochs = Epochs(top_epoch)
        self._accepted = _Accepted()
        self._rows: dict[bytes, UsageRow] = {}
        self._labels: dict[tuple[bytes, int], LabelRow] = {}
        self._oldest_log_time_ms: int | None = None
        self._newest_log_time_ms: int | None = None

    def __len__(self) -> int:
        """How many rows wait to be taken."""
        return len(self._rows) + len(self._labels)

    @property
    def top_epoch(self) -> int:
        """The highest epoch so far: belongs to the position that is stored."""
        return self._epochs.top_epoch

    def skip(self, top_epoch: int) -> None:
        """Another reader dealt with the records up to a later position, whose ``top_epoch`` this is."""
        self._epochs.top_epoch = max(self._epochs.top_epoch, top_epoch)
        self._accepted = _Accepted()

    def feed(self, records: Iterable[LogRecord]) -> None:
        """Takes in the next records. Raises StateFormatError, naming the offset, for one that no worker wrote."""
        for record in records:
            try:
                self._feed(record)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise StateFormatError(f"{self._source}, offset {record.offset}: {error}") from error

    def _feed(self, record: LogRecord) -> None:
        key, value = record.key, record.value
        valid, epoch, repair = self._epochs.feed(key, value, record.headers)
        if not valid or key is None:
            return
        if key == HEADER_KEY and value is not None:
            self._newest_log_time_ms = DECODE_HEADER(value[EPOCH_BYTES:]).log_time_ms
            if self._oldest_log_time_ms is None:
                self._oldest_log_time_ms = self._newest_log_time_ms
        elif key.startswith(_PREFIXES):
            if value is not None:
                self._accepted.add(key, epoch)
                self._put(key, value[EPOCH_BYTES:], epoch, record)
            elif 0 <= self._accepted.remove(key) < epoch and repair:
                self._put(key, None, epoch, record)

    def _put(self, key: bytes, payload: bytes | None, epoch: int, record: LogRecord) -> None:
        """None: the row becomes zero."""
        if key.startswith(LABEL_LEDGER_PREFIX):
            ledger = NOTHING_USED if payload is None else DECODE_LABEL_LEDGER(payload)
            row = label_row(key, ledger, epoch, record.offset, record.timestamp)
            self._labels[key, row.hour] = row
        else:
            cell = RollupCell("") if payload is None else DECODE_ROLLUP_CELL(payload)
            self._rows[key] = self._usage_row(key, cell, epoch, record.offset)

    def _usage_row(self, key: bytes, cell: RollupCell, epoch: int, offset: int) -> UsageRow:
        org_id, api_key_id, operation, minute, chunk = parse_rollup_key(key)
        return UsageRow(
            org_id,
            minute * 60,
            api_key_id,
            operation,
            self._source,
            chunk,
            cell.category,
            cell.requests,
            cell.errors,
            cell.throttled,
            cell.units,
            cell.credits_micro,
            cell.events,
            cell.rated_version,
            rollup_version(epoch, offset),
        )

    def take(self) -> UsageCut:
        """What came since the last call."""
        rows, labels = list(self._rows.values()), list(self._labels.values())
        cut = UsageCut(rows, labels, self._oldest_log_time_ms, self._newest_log_time_ms)
        self._rows, self._labels = {}, {}
        self._oldest_log_time_ms = self._newest_log_time_ms = None
        return cut
