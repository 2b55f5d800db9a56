"""The broker's logs: partitions with offsets, batches, holes, compaction, retention and producers' sequences.

Only what a reader or writer can tell from outside is modelled, and there as Kafka does it (``test_twin_agrees``).
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.errors import (
    KafkaStorageError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownTopicOrPartitionError,
)

RECORD_OVERHEAD_BYTES: Final = 20
BATCH_OVERHEAD_BYTES: Final = 61
_BATCHES_REMEMBERED: Final = 5


class NewRecord(NamedTuple):
    """A record on its way to the log; ``value`` None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        """What it adds to a batch, about."""
        key, value, headers = self
        size_bytes = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        return size_bytes + sum(len(name) + len(content) + 2 for name, content in headers) if headers else size_bytes


class LogRecord(NamedTuple):
    """A record of the log, with the names that aiokafka's have."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class TopicSettings(NamedTuple):
    """How a topic is kept. Times are in ms of virtual time."""

    partitions: int = 1
    is_compacted: bool = False
    compaction_lag_ms: int = 0
    batch_bytes_max: int = 1_048_588


class _Producer:
    """What the broker remembers of a producer id in one partition."""

    __slots__ = ("batches", "next_sequence")

    def __init__(self) -> None:
        self.next_sequence = 0
        self.batches: deque[tuple[int, int]] = deque(maxlen=_BATCHES_REMEMBERED)


class PartitionLog:
    """One partition. ``live`` is what a reader sees now, ``history`` all that was ever appended."""

    def __init__(self, topic: str, number: int, settings: TopicSettings) -> None:
        self.topic = topic
        self.number = number
        self.settings = settings
        self.start = 0
        self.end = 0
        self.live: list[LogRecord] = []
        self.history: list[LogRecord] = []
        self.waiting: list[Callable[[], None]] = []
        """Called once, at the next append."""
        self.watchers: list[Callable[[Sequence[LogRecord]], None]] = []
        """Called at each append."""
        self._batches: list[tuple[int, float]] = []
        self._producers: dict[int, _Producer] = {}

    def append(self, records: Iterable[NewRecord], timestamp_ms: int, now_s: float) -> int:
        """Appends one batch; returns its first offset."""
        base, topic, number = self.end, self.topic, self.number
        make = tuple.__new__  # as LogRecord(…) does, in half the time
        added = [
            make(LogRecord, (topic, number, offset, timestamp_ms, *record))
            for offset, record in enumerate(records, base)
        ]
        self.end += len(added)
        self.live += added
        self.history += added
        self._batches.append((base, now_s))
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            wake()
        for watch in self.watchers:
            watch(added)
        return base

    def known(self, producer: int, sequence: int) -> int | None:
        """The offset at which the producer's batch already stands; None where it is the next one.

        Raises OutOfOrderSequenceNumber where one before it is missing, or where it stands too far back to be known.
        """
        remembered = self._producers.get(producer)
        if remembered is None or sequence == remembered.next_sequence:
            return None
        for first, base in remembered.batches:
            if first == sequence:
                return base
        raise OutOfOrderSequenceNumber

    def remember(self, producer: int, sequence: int, count: int, base: int) -> None:
        """A batch of the producer was appended."""
        remembered = self._producers.setdefault(producer, _Producer())
        remembered.next_sequence = sequence + count
        remembered.batches.append((sequence, base))

    def index(self, offset: int) -> int:
        """Where in ``live`` the first record at or after ``offset`` is."""
        live = self.live
        if len(live) == self.end and (not live or live[0].offset == 0):
            return max(0, min(offset, len(live)))
        return bisect_left(live, offset, key=_offset)

    def leave_hole(self) -> None:
        """An offset that holds no record: the end of somebody's transaction."""
        self.end += 1
        self._batches.append((self.end - 1, 0.0))

    def compact(self, now_s: float) -> int:
        """Removes what the newest record of its key replaces; returns how many records went.

        As the log cleaner: never the newest batch, nothing younger than the lag, whole batches only, the oldest first.
        """
        clean_before = 0
        for place, (base, appended_s) in enumerate(self._batches):
            if place == len(self._batches) - 1 or (now_s - appended_s) * 1000 < self.settings.compaction_lag_ms:
                clean_before = base
                break
        cut = self.index(clean_before)
        newest = {record.key: record.offset for record in self.live[:cut]}
        kept = [record for record in self.live[:cut] if record.key is not None and newest[record.key] == record.offset]
        self.live[:cut] = kept
        return cut - len(kept)

    def retain_from(self, offset: int) -> None:
        """Retention: records before ``offset`` are gone."""
        self.start = max(self.start, min(offset, self.end))
        del self.live[: self.index(self.start)]


def _offset(record: LogRecord) -> int:
    return record.offset


class SimBroker:
    """All logs, and what the broker does to a request once it has arrived."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_start_ms: int) -> None:
        self._loop = loop
        self._logs: dict[str, list[PartitionLog]] = {}
        self._producer_ids = 0
        self.wall_start_ms = wall_start_ms
        """UTC at loop time 0."""
        self.clock_ahead_ms = 0
        """How far the broker's clock is ahead: it may jump, and the log's time with it."""
        self.is_down = False
        self.boots = 1
        self.disk_full_until = 0.0

    def now_ms(self) -> int:
        """The broker's clock, UTC."""
        return self.wall_start_ms + self.clock_ahead_ms + int(self._loop.time() * 1000)

    def create_topic(self, name: str, settings: TopicSettings) -> None:
        """Makes a topic, unless it is there."""
        if name not in self._logs:
            self._logs[name] = [PartitionLog(name, number, settings) for number in range(settings.partitions)]

    def topics(self) -> list[str]:
        """The names of all topics, in the order of their making."""
        return list(self._logs)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._logs[topic])

    def log(self, topic: str, partition: int) -> PartitionLog:
        """One partition. Raises UnknownTopicOrPartitionError."""
        try:
            return self._logs[topic][partition]
        except (KeyError, IndexError):
            raise UnknownTopicOrPartitionError from None

    # What tests and invariants ask and do, without a network between.

    def append(self, topic: str, partition: int, records: Iterable[NewRecord]) -> int:
        """Appends one batch by whatever means; returns its first offset."""
        return self.log(topic, partition).append(records, self.now_ms(), self._loop.time())

    def records(self, topic: str, partition: int, start: int = 0, end: int | None = None) -> list[LogRecord]:
        """What a reader sees now from ``start`` up to ``end``."""
        log = self.log(topic, partition)
        last = len(log.live) if end is None else log.index(end)
        return log.live[log.index(start) : last]

    def start(self, topic: str, partition: int) -> int:
        """The first offset."""
        return self.log(topic, partition).start

    def end(self, topic: str, partition: int) -> int:
        """The offset that comes next."""
        return self.log(topic, partition).end

    def history(self, topic: str, partition: int) -> list[LogRecord]:
        """Everything ever appended."""
        return self.log(topic, partition).history

    def compact(self, topic: str, partition: int) -> int:
        """See ``PartitionLog.compact``."""
        return self.log(topic, partition).compact(self._loop.time())

    # Requests.

    def new_producer_id(self) -> int:
        """For an idempotent producer."""
        self._producer_ids += 1
        return self._producer_ids

    def produce(
        self, topic: str, partition: int, records: Sequence[NewRecord], producer: int, sequence: int
    ) -> tuple[int, int]:
        """(first offset, log time) of a batch, appended now or by an earlier try. Raises BrokerResponseError."""
        log = self.log(topic, partition)
        size_bytes = BATCH_OVERHEAD_BYTES + sum(record.size_bytes for record in records)
        if size_bytes > log.settings.batch_bytes_max:
            raise MessageSizeTooLargeError
        if self._loop.time() < self.disk_full_until:
            raise KafkaStorageError
        if (base := log.known(producer, sequence)) is not None:
            return base, log.history[-1].timestamp
        timestamp_ms = self.now_ms()
        base = log.append(records, timestamp_ms, self._loop.time())
        log.remember(producer, sequence, len(records), base)
        return base, timestamp_ms

    def fetch(
        self, wanted: dict[tuple[str, int], int], records_max: int, wait_s: float
    ) -> "dict[tuple[str, int], Fetched] | asyncio.Future[dict[tuple[str, int], Fetched]]":
        """From each partition what stands from a position on; waits while there is nothing at all."""
        found = self._find(wanted, records_max)
        if found or wait_s <= 0:
            return found
        return _LongPoll(self, self._loop, wanted, records_max, wait_s).answer

    def _find(self, wanted: dict[tuple[str, int], int], records_max: int) -> "dict[tuple[str, int], Fetched]":
        found = {}
        for (topic, partition), position in wanted.items():
            log = self.log(topic, partition)
            if position < log.start or position > log.end:
                found[topic, partition] = Fetched([], log.start, is_reset=True)
            elif position < log.end:
                first = log.index(position)
                run = log.live[first : first + records_max]
                is_last = first + len(run) == len(log.live)
                found[topic, partition] = Fetched(run, log.end if is_last else run[-1].offset + 1)
        return found


class Fetched(NamedTuple):
    """What a fetch found in a partition, and the position after it. ``is_reset``: the position asked for was outside
    of the log, so reading goes on at its start."""

    records: Sequence[LogRecord]
    position: int
    is_reset: bool = False


class _LongPoll:
    """A fetch that waits at the broker until something is appended, or its time is over."""

    __slots__ = ("_asked", "_broker", "_timer", "answer")

    def __init__(self, broker: SimBroker, loop: Any, wanted: Any, records_max: int, wait_s: float) -> None:
        self.answer = loop.create_future()
        self._broker = broker
        self._asked = wanted, records_max
        wake = self._wake
        self._timer = loop.call_later(wait_s, wake)
        for topic, partition in wanted:
            broker.log(topic, partition).waiting.append(wake)

    def _wake(self) -> None:
        if not self.answer.done():
            self._timer.cancel()
            self.answer.set_result(self._broker._find(*self._asked))
