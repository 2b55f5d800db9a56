"""Holds the state log to its promise of one writer, without transactions (design: one writer).

Each produce reply must start where the last one ended. A jump, or an end of the log that moved while the owner was
quiet, means that somebody else wrote. A higher epoch there: that one owns the partition now. Only lower ones: a former
owner that was paused wrote void records; their keys need their true values again, before compaction keeps the void
ones and drops the true.
"""

from collections.abc import Iterable

from sluicegate_schemas.state import CLAIM_KEY, EPOCH_BYTES, HEADER_KEY

from .actions import Action, Drop, ReadState
from .fold import Epochs, LogRecord, record_epoch


class Fence:
    """Watches one owner's stretch of a state log. ``next_offset`` is where the next append must start."""

    def __init__(self, epoch: int, next_offset: int) -> None:
        self.epoch = epoch
        self.next_offset = next_offset
        self.jumps = 0
        self.foreign_records = 0
        self._foreign: list[tuple[int, bytes]] | None = None
        self._epochs: Epochs | None = None
        self._rows: dict[bytes, bytes | None] = {}

    @property
    def is_judging(self) -> bool:
        """Somebody else wrote, and it is not yet known who: nothing may be sent because of the last append."""
        return self._foreign is not None

    @property
    def is_reading(self) -> bool:
        """A range that was asked for is not yet read: no append may begin."""
        return self._foreign is not None or self._epochs is not None

    def appended(self, base_offset: int | None, count: int) -> list[Action]:
        """An append of ``count`` records is acknowledged; None where the broker can no longer tell its offset."""
        if base_offset is None:
            return [Drop("the broker no longer knows where the last append to the state stands", "append")]
        start, self.next_offset = self.next_offset, base_offset + count
        return self._look_at(start, base_offset)

    def end_seen(self, end: int) -> list[Action]:
        """The log ends there, and no append is under way."""
        start, self.next_offset = self.next_offset, end
        return self._look_at(start, end)

    def _look_at(self, start: int, end: int) -> list[Action]:
        if end < start:
            return [Drop(f"the log of the state shrank from {start} to {end}", "log")]
        if end == start:
            return []
        self.jumps += 1
        self._foreign = []
        return [ReadState(start, end)]

    def state_records(self, records: Iterable[LogRecord]) -> None:
        """The next records of the range that was asked for. Raises StateFormatError."""
        for record in records:
            key, value = record.key, record.value
            if self._foreign is not None:
                self._foreign.append((record_epoch(key, value, record.headers), key or b""))
            elif self._epochs is not None:
                verdict = self._epochs.feed(key, value, record.headers)
                if verdict.valid and key in self._rows and key not in (HEADER_KEY, CLAIM_KEY):
                    self._rows[key] = None if value is None else value[EPOCH_BYTES:]

    def state_read(self) -> list[Action]:
        """The range is read; once ``is_reading`` is false ``take_repairs`` has what must be written again."""
        if self._foreign is None:
            self._epochs = None
            return []
        foreign, self._foreign = self._foreign, None
        if any(epoch >= self.epoch for epoch, _ in foreign):
            return [Drop("another worker claimed the partition after us")]
        self.foreign_records += len(foreign)
        self._epochs = Epochs()
        self._rows = dict.fromkeys(key for _, key in foreign)
        return [ReadState(None, self.next_offset)]

    def take_repairs(self) -> dict[bytes, bytes | None]:
        """The true payloads of the keys with void records, None where a key has none."""
        rows, self._rows = self._rows, {}
        return rows


class QuietCheck:
    """When an owner that appends nothing looks at the end of the log, and whether what it saw still tells something."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._quiet_since = float("-inf")
        self._looking = False
        self._looked_after_flush = -1

    def appended(self, now: float) -> None:
        """An append is acknowledged."""
        self._quiet_since = now

    def due(self, now: float) -> bool:
        """Whether to look, unless a look is under way."""
        return not self._looking and now - self._quiet_since >= self._interval_s

    def look(self, now: float, flush_number: int) -> None:
        """A look begins, after the flush with this number."""
        self._looking = True
        self._looked_after_flush = flush_number
        self._quiet_since = now

    def looked(self, flush_number: int) -> bool:
        """The look is done. False if a flush has begun since: the end may be the owner's own."""
        self._looking = False
        return flush_number == self._looked_after_flush

    def failed(self) -> None:
        """The end could not be asked."""
        self._looking = False
