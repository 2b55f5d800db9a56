"""The engine's own way to Kafka, beside Faust's consumer: one batch at a time, ranges of a log, ends of logs."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import ConsumerRecord

from sluicegate.brokers import Brokers
from sluicegate.consumers import stop_consumer
from sluicegate_schemas.state import OutboxRecord

from .actions import StateRecord
from .plain_consumer import PlainConsumer

REQUEST_TIMEOUT_MS = 10_000
_HEADROOM_BYTES = 100_000
_CONSUMER_OPTIONS: Final[dict[str, Any]] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "fetch_max_wait_ms": 50,
}
_RUN_BYTES_MAX: Final = 1 << 20
_ClientT = TypeVar("_ClientT")


class BatchTooLargeError(Exception):
    """Records that must stay together do not fit into one record batch; nothing was sent."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes")
        self.size_bytes = size_bytes


class Broker:
    """Producers and readers of one worker. ``renew`` gives the producers new ids after a lost send."""

    def __init__(self, brokers: Brokers, batch_bytes_max: int, urgent_topic: str = "") -> None:
        """``urgent_topic`` has a producer of its own: one sends one request at a time to a broker, and what is urgent
        would wait for the reply to what is not."""
        self._urgent_topic = urgent_topic
        self._options = brokers.options()
        self._batch_bytes_max = batch_bytes_max
        self._asker: AIOKafkaConsumer | None = None
        self._state_producer: AIOKafkaProducer | None = None
        self._output_producer: AIOKafkaProducer | None = None
        self._urgent_producer: AIOKafkaProducer | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connects, unless it is connected. Raises KafkaError; then call it again."""
        if self._asker is None:
            asker = self.consumer()
            await _start(asker)
            self._asker = asker
        if self._state_producer is None:
            await self._start_producers()

    async def stop(self) -> None:
        """Sends what waits, and disconnects."""
        for client in (self._urgent_producer, self._output_producer, self._state_producer, self._asker):
            if client is not None:
                await client.stop()
        if self._closing:
            await asyncio.wait(self._closing, timeout=REQUEST_TIMEOUT_MS / 1000)
        self._asker = self._state_producer = self._output_producer = self._urgent_producer = None

    async def renew(self) -> None:
        """Goes on with new producer ids; the old producers end once what they hold is settled."""
        for old in (self._state_producer, self._output_producer, self._urgent_producer):
            if old is not None:
                task = asyncio.ensure_future(_stop_quietly(old.stop()))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        await self._start_producers()

    async def _start_producers(self) -> None:
        started: list[AIOKafkaProducer] = []
        for batch_bytes_max, linger_ms in ((self._batch_bytes_max, 0), (1_000_000, 2), (1_000_000, 0)):
            producer = self._producer(batch_bytes_max, linger_ms)
            try:
                await _start(producer)
            except BaseException:
                for other in started:
                    await _stop_quietly(other.stop())
                raise
            started.append(producer)
        self._state_producer, self._output_producer, self._urgent_producer = started

    def _producer(self, batch_bytes_max: int, linger_ms: int) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
            max_batch_size=batch_bytes_max,
            max_request_size=self._batch_bytes_max + _HEADROOM_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        """A consumer outside any group, not started."""
        return AIOKafkaConsumer(**self._options, **_CONSUMER_OPTIONS, request_timeout_ms=REQUEST_TIMEOUT_MS, **options)

    async def append(self, topic: str, partition: int, records: Iterable[StateRecord]) -> int | None:
        """Appends ``records`` as one record batch; returns the offset of its first record.

        None where the broker knows that the batch is in the log, but no longer where. Raises BatchTooLargeError, and
        KafkaError where the batch may or may not be or come to be in the log.
        """
        producer = _connected(self._state_producer)
        batch = producer.create_batch()
        for record in records:
            if batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers)) is None:
                raise BatchTooLargeError(batch.size())
        reply = await (await producer.send_batch(batch, topic, partition=partition))
        return reply.offset if reply.offset >= 0 else None

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None
    ) -> "asyncio.Future[Any]":
        """Queues a record, in order within its topic; the future ends when the broker has it. Raises KafkaError."""
        producer = _connected(self._urgent_producer if topic == self._urgent_topic else self._output_producer)
        future: asyncio.Future[Any] = await producer.send(topic, value=value, key=key, partition=partition)
        return future

    async def send_together(self, topic: str, partition: int, records: Sequence[OutboxRecord]) -> list[int]:
        """Appends ``records`` in their order, in as few batches as hold them, and waits until they stand in the log;
        returns their offsets, negative where the broker no longer knows. Raises KafkaError."""
        producer = _connected(self._output_producer)
        batch, count, sent = producer.create_batch(), 0, list[tuple[int, asyncio.Future[Any]]]()
        for record in records:
            if batch.append(key=record.key, value=record.value, timestamp=None) is None:
                sent.append((count, await producer.send_batch(batch, topic, partition=partition)))
                batch, count = producer.create_batch(), 0
                batch.append(key=record.key, value=record.value, timestamp=None)
            count += 1
        sent.append((count, await producer.send_batch(batch, topic, partition=partition)))
        offsets: list[int] = []
        for size, future in sent:
            first = (await future).offset
            offsets += range(first, first + size) if first >= 0 else [-1] * size
        return offsets

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(first offset, end) of a partition. Raises KafkaError."""
        asker, tp = _connected(self._asker), TopicPartition(topic, partition)
        ends, starts = await asyncio.gather(asker.end_offsets([tp]), asker.beginning_offsets([tp]))
        return starts[tp], ends[tp]

    async def end(self, topic: str, partition: int) -> int:
        """The end of a partition. Raises KafkaError."""
        tp = TopicPartition(topic, partition)
        return int((await _connected(self._asker).end_offsets([tp]))[tp])

    async def read(
        self, topic: str, partition: int, start: int, end: int, take: Callable[[Iterable[ConsumerRecord]], None]
    ) -> None:
        """Hands the records from ``start`` up to ``end`` to ``take``, in runs. Raises KafkaError and what ``take``
        raises."""
        if start >= end:
            return
        tp = TopicPartition(topic, partition)
        async with Reading(self._plain_consumer()) as consumer:
            consumer.assign([tp])
            consumer.seek(tp, start)
            while await consumer.position(tp) < end:
                for batches in (await consumer.getmany(tp, timeout_ms=200)).values():
                    run = chain.from_iterable(batches)
                    is_last = await consumer.position(tp) > end
                    take((record for record in run if record.offset < end) if is_last else run)
                    await asyncio.sleep(0)

    def _plain_consumer(self) -> PlainConsumer:
        return PlainConsumer(
            **self._options,
            **_CONSUMER_OPTIONS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=_RUN_BYTES_MAX,
            fetch_max_bytes=_RUN_BYTES_MAX,
        )


def _connected(client: _ClientT | None) -> _ClientT:
    """The client; raises KafkaConnectionError where the worker has stopped it, whoever still asks."""
    if client is None:
        raise KafkaConnectionError("the worker's connections are closed")
    return client


class Reading:
    """Starts a consumer, and stops it whatever happens."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await self._consumer.start()
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        return self._consumer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_consumer(self._consumer)


async def _start(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Starts ``client``; one that cannot start is closed, never to be used."""
    try:
        await client.start()
    except BaseException:
        await _stop_quietly(client.stop())
        raise


async def _stop_quietly(stopping: Coroutine[Any, Any, None]) -> None:
    with suppress(Exception):  # a client given up: a producer's sends have their own futures
        await stopping
