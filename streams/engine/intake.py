"""The input of a partition on its way into the machine: nothing skipped, nothing twice, never more than is current."""

from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from .machine import InputRecord, Machine

TICK: Final = b"\x91\x03"
"""The value of a usage record that only carries its log time: the MessagePack array ``[3]``."""
CHUNK_RECORDS_MAX: Final = 32
CHUNK_BYTES_MAX: Final = 65_536
"""What the machine gets at a time: a few milliseconds of work, and a bounded size of what comes out."""


class UsageIntake:
    """Usage records that are fetched and not yet applied, without a hole that was not looked at.

    Records can get lost between fetch and delivery (a rebalance clears queues), so the first record of a batch must
    follow the last one. If it does not, the position is sought once; what then comes first is what the log has next
    (transactional producers leave holes).
    """

    def __init__(self, next_offset: int) -> None:
        self.applied = next_offset - 1
        """The last offset that the machine has taken in."""
        self.pending_bytes = 0
        self._pending: deque[InputRecord] = deque()
        self._next = next_offset
        self._seeking = False
        self._sought_to = -1
        self._seek_count = 0
        self._accounts_current_to = -1

    @property
    def next_offset(self) -> int:
        """The offset to fetch next."""
        return self._next

    @property
    def is_empty(self) -> bool:
        """Nothing waits to be applied."""
        return not self._pending

    def clear(self) -> None:
        """Forgets what is not applied: the partition is taken away for now."""
        self._pending.clear()
        self.pending_bytes = 0
        self._next = self.applied + 1
        self._seeking = False
        self._sought_to = -1

    def sought(self, seek_count: int) -> None:
        """``next_offset`` is sought: batches asked for since then have at least this seek count."""
        self._seeking = False
        self._sought_to = self._next
        self._seek_count = seek_count

    def fetched(
        self, records: Sequence[InputRecord], *, seek_count: int, follows_seek: bool
    ) -> Literal["taken", "seek", "ignored"]:
        """Takes in a fetched batch, unless it leaves a hole: then "seek" asks for a seek to ``next_offset``."""
        if records[0].offset > self._next:
            if self._seeking or seek_count < self._seek_count:
                return "ignored"
            if not follows_seek or self._sought_to != self._next:
                self._seeking = True
                return "seek"
        for record in records:
            if record.offset >= self._next:
                self._pending.append(record)
                self.pending_bytes += _size_bytes(record)
                self._next = record.offset + 1
        return "taken"

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
