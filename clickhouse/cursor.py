"""Where a reader stands in one partition, and the guard that it never passes over a record.

After a rebalance Faust may still hand over runs that it had queued before a seek. Taking such a run would pass over the
records before it. Yet compaction and transactions leave true holes in a log, so a run that starts too high is refused,
the partition is sought again, and the hole is believed once the same offset comes first a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class LogRecord(Protocol):
    """What is read of a Kafka record; aiokafka's ``ConsumerRecord`` is one."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


RecordT = TypeVar("RecordT", bound=LogRecord)


@dataclass(frozen=True, slots=True)
class SeekTo:
    """The run was refused: read again from ``offset``."""

    offset: int


class Cursor:
    """``next_offset`` is the lowest offset that was not taken yet."""

    __slots__ = ("_hole_ends_at", "next_offset")

    def __init__(self, next_offset: int) -> None:
        self.next_offset = next_offset
        self._hole_ends_at: int | None = None

    def advance(self, next_offset: int) -> None:
        """Somebody else brought everything below ``next_offset`` home; never moves back."""
        self.next_offset = max(self.next_offset, next_offset)

    def take(self, run: Sequence[RecordT]) -> Sequence[RecordT] | SeekTo:
        """The records of ``run`` (in offset order, not empty) that are new and follow on, or ``SeekTo``."""
        first, last = run[0].offset, run[-1].offset
        if first > self.next_offset and first != self._hole_ends_at:
            self._hole_ends_at = first
            return SeekTo(self.next_offset)
        fresh = run if first >= self.next_offset else [record for record in run if record.offset >= self.next_offset]
        if fresh:
            self.next_offset = last + 1
            self._hole_ends_at = None
        return fresh
