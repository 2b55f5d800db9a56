"""Twins of aiokafka's producer, consumer and admin client, as ``streams.engine`` uses them, in simulated processes.

They raise what aiokafka raises, retry what it retries (an idempotent producer for ever), and lose what it loses.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from aiokafka.errors import DuplicateSequenceNumber, KafkaError, KafkaTimeoutError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from sluicegate_schemas.partitioning import murmur2
from sluicegate_schemas.state import CLAIM_KEY
from sluicegate_schemas.topics import STATE

from .log import BATCH_OVERHEAD_BYTES, Fetched, LogRecord, NewRecord
from .network import REQUEST_TIMEOUT_S, Connection, connect

RETRY_S = 0.1
FETCH_WAIT_S = 0.5
"""How long an empty fetch waits at the broker. Real fetches wait less and ask again: the same, with more to do."""
FETCHED_RECORDS_MAX = 200


class Batch:
    """Twin of the batch builder that ``create_batch`` returns."""

    def __init__(self, bytes_max: int) -> None:
        self.records: list[NewRecord] = []
        self._bytes_max = bytes_max
        self._size_bytes = BATCH_OVERHEAD_BYTES

    def append(self, *, key: bytes | None, value: bytes | None, timestamp: None, headers: Any = ()) -> bool | None:
        """None where the record does not fit any more."""
        record = NewRecord(key, value, tuple(headers))
        if self.records and self._size_bytes + record.size_bytes > self._bytes_max:
            return None
        self._size_bytes += record.size_bytes
        self.records.append(record)
        return True

    def size(self) -> int:
        return self._size_bytes


class Sent(NamedTuple):
    """What a future of the producer ends with; ``offset`` -1 where the broker no longer knows it."""

    offset: int
    timestamp: int


class Producer:
    """Twin of an idempotent ``AIOKafkaProducer``: one batch at a time for each partition, retried until it stands."""

    def __init__(self, *, linger_ms: int = 0, max_batch_size: int = 16_384, **_: Any) -> None:
        self._connection = connect()
        self._linger_s = linger_ms / 1000
        self._batch_bytes_max = max_batch_size
        self._id = 0
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._stopping = False

    async def start(self) -> None:
        """Raises KafkaConnectionError."""
        self._id = await self._connection.request(self._connection.broker.new_producer_id)

    async def stop(self) -> None:
        """Ends once everything that waits is sent, which may be never."""
        for lane in list(self._lanes.values()):
            await lane.emptied()

    def create_batch(self) -> Batch:
        return Batch(self._batch_bytes_max)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[Sent]":
        """The future ends when the batch stands in the log."""
        return self._lane(topic, partition).put(batch.records, is_whole=True)

    async def send(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int | None = None
    ) -> "asyncio.Future[Sent]":
        """Queues one record; the future ends when it stands in the log."""
        if partition is None:
            count = self._connection.broker.partitions(topic)
            partition = (
                int(self._connection.draw.random() * count) if key is None else (murmur2(key) & 0x7FFFFFFF) % count
            )
        return self._lane(topic, partition).put([NewRecord(key, value)], is_whole=False)

    async def send_and_wait(self, topic: str, value: bytes | None = None, **where: Any) -> Sent:
        return await (await self.send(topic, value, **where))

    def _lane(self, topic: str, partition: int) -> "_Lane":
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(self._connection, topic, partition, self._id, self._linger_s)
        return lane


class _Lane:
    """What a producer sends to one partition."""

    def __init__(self, connection: Connection, topic: str, partition: int, producer: int, linger_s: float) -> None:
        self._connection = connection
        self._topic = topic
        self._partition = partition
        self._producer = producer
        self._linger_s = linger_s
        self._waiting: deque[tuple[list[NewRecord], asyncio.Future[Sent], bool]] = deque()
        self._is_state = topic.endswith(STATE.name)
        self._sequence = 0
        self._is_busy = False
        self._emptied: asyncio.Event | None = None

    def put(self, records: list[NewRecord], *, is_whole: bool) -> "asyncio.Future[Sent]":
        loop = self._connection.loop
        future: asyncio.Future[Sent] = loop.create_future()
        self._waiting.append((records, future, is_whole))
        if not self._is_busy:
            self._is_busy = True
            if self._linger_s and not is_whole:
                loop.call_later(self._linger_s, self._next)
            else:
                self._next()
        return future

    async def emptied(self) -> None:
        """Waits until nothing waits."""
        while self._is_busy:
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    def _next(self) -> None:
        waiting = self._waiting
        if not waiting:
            self._is_busy = False
            if self._emptied is not None:
                self._emptied.set()
                self._emptied = None
            return
        records, future, is_whole = waiting.popleft()
        futures = [future]
        if not is_whole:
            records = list(records)
            while waiting and not waiting[0][2]:
                more, future, _ = waiting.popleft()
                records += more
                futures.append(future)
        if self._is_state and records[0].key == CLAIM_KEY:
            self._connection.claiming()
        first, self._sequence = self._sequence, self._sequence + len(records)
        produce = partial(self._connection.broker.produce, self._topic, self._partition, records, self._producer, first)
        self._try(produce, futures)

    def _try(self, produce: Callable[[], Any], futures: "list[asyncio.Future[Sent]]") -> None:
        answer = self._connection.append(produce) if self._is_state else self._connection.request(produce)
        answer.add_done_callback(partial(self._replied, produce, futures))

    def _replied(
        self, produce: Callable[[], Any], futures: "list[asyncio.Future[Sent]]", answer: "asyncio.Future[Any]"
    ) -> None:
        error = answer.exception()
        if error is None or isinstance(error, DuplicateSequenceNumber):
            base, timestamp = (-1, -1) if error else answer.result()
            for place, future in enumerate(futures):
                if not future.done():
                    future.set_result(Sent(base if base < 0 else base + place, timestamp))
        elif isinstance(error, KafkaError) and error.retriable and not self._connection.is_over:
            self._connection.loop.call_later(RETRY_S, self._try, produce, futures)
            return
        else:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._next()


class Consumer:
    """Twin of an ``AIOKafkaConsumer`` outside any group. It fetches ahead; what a seek made stale is thrown away."""

    def __init__(self, **_: Any) -> None:
        self._connection = connect()
        self._positions: dict[TopicPartition, int | None] = {}
        self._buffers: dict[TopicPartition, list[LogRecord]] = {}
        self._next_positions: dict[TopicPartition, int] = {}
        self._in_flight: asyncio.Future[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._backoff_until = 0.0
        self.closed = False

    async def start(self) -> None:
        """Raises KafkaConnectionError."""
        await self._connection.request(_nothing)

    async def stop(self) -> None:
        self.closed = True
        self._wake()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys((TopicPartition(*tp) for tp in partitions), None)
        self._buffers.clear()
        self._in_flight = None

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._buffers.pop(tp, None)
        self._in_flight = None

    async def position(self, tp: TopicPartition) -> int:
        """The offset that comes next."""
        if self._positions[tp] is None:
            self._positions[tp] = (await self.beginning_offsets([tp]))[tp]
        position = self._positions[tp]
        assert position is not None
        return position

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Raises KafkaTimeoutError after the request timeout."""
        return {tp: await self._ask(partial(self._connection.broker.end, *tp)) for tp in partitions}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Raises KafkaTimeoutError after the request timeout."""
        return {tp: await self._ask(partial(self._connection.broker.start, *tp)) for tp in partitions}

    async def _ask(self, question: Callable[[], Any]) -> Any:
        loop = self._connection.loop
        deadline = loop.time() + REQUEST_TIMEOUT_S
        while True:
            try:
                return await self._connection.request(question, deadline - loop.time())
            except KafkaError as error:
                if not error.retriable:
                    raise
            if loop.time() + RETRY_S >= deadline or self._connection.is_over:
                raise KafkaTimeoutError
            await asyncio.sleep(RETRY_S)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[LogRecord]]:
        """What is there of ``partitions`` (default: all), or nothing after ``timeout_ms``."""
        loop = self._connection.loop
        deadline = loop.time() + timeout_ms / 1000
        while not self.closed:
            drained = self._drain(partitions or tuple(self._positions), max_records)
            self._fetch()
            if drained or loop.time() >= deadline:
                return drained
            self._waiter = loop.create_future()
            timer = loop.call_at(deadline, self._wake)
            await self._waiter
            timer.cancel()
        return {}

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _drain(
        self, partitions: tuple[TopicPartition, ...], records_max: int | None
    ) -> dict[TopicPartition, list[LogRecord]]:
        drained = {}
        for tp in partitions:
            if not (run := self._buffers.get(tp)):
                continue
            if records_max is not None and len(run) > records_max:
                run, self._buffers[tp] = run[:records_max], run[records_max:]
                self._positions[tp] = run[-1].offset + 1
            else:
                del self._buffers[tp]
                self._positions[tp] = self._next_positions[tp]
            drained[tp] = run
            if records_max is not None and (records_max := records_max - len(run)) <= 0:
                break
        return drained

    def _fetch(self) -> None:
        if self._in_flight is not None or self.closed:
            return
        connection = self._connection
        if (wait_s := self._backoff_until - connection.loop.time()) > 0:
            connection.loop.call_later(wait_s, self._wake)
            return
        wanted = {tp: position or 0 for tp, position in self._positions.items() if tp not in self._buffers}
        if not wanted:
            return
        fetch = partial(connection.broker.fetch, wanted, FETCHED_RECORDS_MAX, FETCH_WAIT_S)
        self._in_flight = answer = connection.request(fetch, FETCH_WAIT_S + REQUEST_TIMEOUT_S)
        answer.add_done_callback(partial(self._fetched, wanted))

    def _fetched(self, wanted: dict[TopicPartition, int], answer: "asyncio.Future[Any]") -> None:
        if answer is not self._in_flight:
            answer.exception()
            return
        self._in_flight = None
        if answer.exception() is not None:
            self._backoff_until = self._connection.loop.time() + RETRY_S
            self._wake()
            return
        found: dict[TopicPartition, Fetched] = answer.result()
        for tp, (records, position, _) in found.items():
            if records:
                self._buffers[tp] = list(records)
                self._next_positions[tp] = position
            else:
                self._positions[tp] = position
        self._wake()


class PlainConsumer(Consumer):
    """Twin of the engine's ``PlainConsumer``: each run is one batch."""

    async def getmany(self, *partitions: TopicPartition, **options: Any) -> dict[TopicPartition, Any]:
        return {tp: [run] for tp, run in (await super().getmany(*partitions, **options)).items()}


class Admin:
    """Twin of ``AIOKafkaAdminClient``."""

    def __init__(self, **_: Any) -> None:
        self._connection = connect()

    async def start(self) -> None:
        """Raises KafkaConnectionError."""
        await self._connection.request(_nothing)

    async def close(self) -> None:
        """Nothing is left to do."""

    async def list_consumer_group_offsets(
        self, group: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """-1 where the group has committed nothing. Raises KafkaError."""
        wanted = list(partitions)
        committed = await self._connection.request(lambda: dict(self._connection.group(group).committed))
        return {tp: OffsetAndMetadata(committed.get(tp, -1), "") for tp in wanted}


def _nothing() -> None:
    """What a bootstrap asks."""
