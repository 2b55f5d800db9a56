"""How a new owner comes to its state: read the log, claim, read up to the claim, fold, check (design: claims)."""

from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from sluicegate_schemas.state import CLAIM_KEY, ENCODE, HEADER_KEY, Claim

from .actions import Action, Append, Drop, LookAtSources, ReadState, Stop
from .flush import FlushWriter
from .fold import Fold, LogRecord
from .machine import Machine
from .refusals import source_lost, state_damaged, unknown_row


class Recovered(NamedTuple):
    """The state as of the claim, and where everything goes on from there."""

    fold: Fold
    writer: FlushWriter
    state_next: int
    usage_next: int
    accounts_next: int

    @property
    def flush_number(self) -> int:
        """Of the last flush in the log; 0 before the first."""
        return self.fold.header.flush if self.fold.header else 0

    def restore(self, partition: int, machine: Machine) -> list[Action]:
        """Hands ``machine`` its rows and lets it resume. What to do instead of going on, where it can't read one."""
        restore = machine.restore
        for key, payload in self.fold.items():
            try:
                restore(key, payload)
            except ValueError as error:
                return [Stop(unknown_row(partition, key, str(error)))]
        machine.resume(self.writer.epoch, self.flush_number, self.fold.header.log_time_ms if self.fold.header else 0)
        return []


class _Step(Enum):
    READING = auto()
    CLAIMING = auto()
    READING_TAIL = auto()
    CHECKING_SOURCES = auto()


class Recovery:
    """One recovery of one partition. Nothing may leave the worker before it ends with ``Recovered``.

    ``nonce`` is 32 random bits, so that two claims never tie; ``wall_ms`` only tells people when.
    """

    def __init__(
        self, partition: int, *, owner: str, generation: int, nonce: int, wall_ms: int, accept_lost_source: bool
    ) -> None:
        self.epoch = 0
        self._partition = partition
        self._generation = generation
        self._nonce = nonce
        self._claim = ENCODE(Claim(owner, generation, wall_ms))
        self._accept_lost_source = accept_lost_source
        self._fold = Fold()
        self._step = _Step.READING
        self._end = -1

    def begin(self) -> list[Action]:
        """What to do first."""
        return [ReadState(None, None)]

    def state_records(self, records: Iterable[LogRecord]) -> None:
        """The next records of the log, in order. Raises StateFormatError."""
        self._fold.feed_all(records)

    def state_read(self, end: int) -> list[Action]:
        """The log is read up to ``end``."""
        if self._step is _Step.READING:
            self._end = end
            self.epoch = max((self._fold.top_epoch >> 32) + 1, self._generation) << 32 | self._nonce
            self._step = _Step.CLAIMING
            return [Append([FlushWriter(self.epoch, self._claim, {}).claim_record])]
        if self._fold.top_epoch > self.epoch:
            return [Drop("another worker with a higher epoch claimed the partition first")]
        self._step = _Step.CHECKING_SOURCES
        return [LookAtSources()]

    def claimed(self, base_offset: int) -> list[Action]:
        """The claim stands in the log at ``base_offset``; what came before it meanwhile is still to be read."""
        start, self._end = self._end, base_offset + 1
        if base_offset < start:
            return [Drop(f"the log of the state shrank from {start} to {base_offset}", "log")]
        self._step = _Step.READING_TAIL
        return [ReadState(start, base_offset)] if base_offset > start else self.state_read(base_offset)

    def sources(self, *, usage: tuple[int, int], accounts: tuple[int, int]) -> Recovered | list[Action]:
        """(first offset, end) of the partition in both input topics: what the state asks for must still be there."""
        fold, checksums = self._fold, self._fold.checksums()
        if (damage := fold.check(checksums)) is not None:
            return [Stop(state_damaged(self._partition, damage))]
        header = fold.header
        wanted = {"usage": 0, "accounts": 0}
        if header is not None:
            wanted = {"usage": header.usage_offset + 1, "accounts": header.accounts_offset + 1}
        for topic, (start, end) in (("usage", usage), ("accounts", accounts)):
            position = wanted[topic]
            if position > end or (position < start and not self._accept_lost_source):
                return [Stop(source_lost(topic, self._partition, position, start, end))]
            wanted[topic] = max(position, start)
        writer = FlushWriter(self.epoch, self._claim, checksums)
        writer.repairs = {key: None if key in (HEADER_KEY, CLAIM_KEY) else fold.payload(key) for key in fold.void_keys}
        return Recovered(fold, writer, self._end, wanted["usage"], wanted["accounts"])
