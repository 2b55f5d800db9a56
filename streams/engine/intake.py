"""The input of a partition on its way into the machine: nothing skipped, nothing twice, never more than is current."""

from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from sluicegate_schemas.envelope import TICK

from .machine import InputRecord, Machine

CHUNK_RECORDS_MAX: Final = 128
CHUNK_BYTES_MAX: Final = 65_536
"""What the machine gets at a time: a few milliseconds of work, and a bounded size of what comes out."""


class UsageIntake:
    """Usage records that are fetched and not yet applied, without a hole that was not looked at.

    Records can get lost between fetch and delivery (a rebalance clears queues), so a batch must begin where the last
    one ended. If it does not, that position is sought. If the first batch read since then begins later still, the log
    has nothing between (transactional producers leave holes), unless retention removed it: so the start of the log is
    looked at while the batch is held.
    """

    def __init__(self, next_offset: int) -> None:
        self.applied = next_offset - 1
        """The last offset that the machine has taken in."""
        self.pending_bytes = 0
        self._pending: deque[InputRecord] = deque()
        self._held: list[InputRecord] = []
        self._next = next_offset
        self._seeking = False
        self._accounts_current_to = -1

    @property
    def next_offset(self) -> int:
        """The offset to fetch next."""
        return self._next

    @property
    def oldest_log_time_ms(self) -> int | None:
        """The append time of the first record that waits to be applied; None where none does."""
        try:
            return self._pending[0].log_time_ms
        except IndexError:  # asked first, it might be applied meanwhile: metrics are read from another thread
            return None

    @property
    def is_empty(self) -> bool:
        """Nothing waits to be applied."""
        return not self._pending

    def clear(self) -> None:
        """Forgets what is not applied: the partition is taken away for now."""
        self._pending.clear()
        self._held = []
        self.pending_bytes = 0
        self._next = self.applied + 1
        self._seeking = False

    def sought(self) -> None:
        """The seek that was asked for is done."""
        self._seeking = False

    def fetched(
        self, records: Sequence[InputRecord], follows_seek_to: int | None
    ) -> Literal["taken", "seek", "look", "ignored"]:
        """Takes in a fetched batch, unless it leaves a hole.

        "seek": seek ``next_offset``, then call ``sought``. "look": look at the start of the log, then call
        ``log_starts``. ``follows_seek_to``: it is the first batch read since a seek to that offset.
        """
        if self._held:
            if records[0].offset > self._held[-1].offset + 1:
                return "ignored"
            self._hold([record for record in records if record.offset > self._held[-1].offset])
            return "taken"
        if records[0].offset > self._next:
            if follows_seek_to is not None and follows_seek_to <= self._next:
                self._hold(records)
                return "look"
            if self._seeking:
                return "ignored"
            self._seeking = True
            return "seek"
        self._take(records)
        return "taken"

    def log_starts(self, start: int) -> bool:
        """The log's first offset as of now. False if records that were not taken in are gone."""
        held, self._held = self._held, []
        self.pending_bytes -= sum(map(_size_bytes, held))
        if held and start > self._next:
            return False
        self._take(held)
        return True

    def _hold(self, records: Sequence[InputRecord]) -> None:
        self._held += records
        self.pending_bytes += sum(map(_size_bytes, records))

    def _take(self, records: Sequence[InputRecord]) -> None:
        for record in records:
            if record.offset >= self._next:
                self._pending.append(record)
                self.pending_bytes += _size_bytes(record)
                self._next = record.offset + 1

    def accounts_current_as_of_now(self) -> int:
        """A mark to hand to ``accounts_current`` once all operator commands that stand now are applied."""
        return self._next - 1

    def accounts_current(self, mark: int) -> None:
        """All operator commands that stood when ``mark`` was taken are applied."""
        self._accounts_current_to = mark

    def apply(self, machine: Machine) -> Literal["done", "full", "needs accounts"]:
        """Lets the machine take in one chunk. "full": it wants a flush before it goes on.

        A chunk ends with a tick, at which the machine is told that time passes: by the log alone, so that a replay does
        the same.
        """
        chunk: list[InputRecord] = []
        size_bytes = 0
        current = self._pending[0].offset <= self._accounts_current_to
        for record in self._pending:
            if chunk and (
                size_bytes >= CHUNK_BYTES_MAX
                or len(chunk) >= CHUNK_RECORDS_MAX
                or chunk[-1].value == TICK
                or (record.offset <= self._accounts_current_to) != current
            ):
                break
            chunk.append(record)
            size_bytes += len(record.value or b"")
        consumed = machine.apply_usage(chunk, accounts_current=current)
        for record in chunk[:consumed]:
            self._pending.popleft()
            self.pending_bytes -= _size_bytes(record)
            self.applied = record.offset
        if consumed < len(chunk):
            return "needs accounts" if machine.needs_accounts and not current else "full"
        if chunk[-1].value == TICK:
            machine.advance(machine.log_time_ms)
        return "done"


def _size_bytes(record: InputRecord) -> int:
    return len(record.value or b"") + len(record.key or b"") + 64
