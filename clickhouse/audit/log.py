"""What the audit reads from Kafka and writes there: the state's log to its end, and the alerts. It joins no group."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from sluicegate.brokers import Brokers
from sluicegate.consumers import stop_consumer
from sluicegate.topic_partitions import partitions_of
from sluicegate_schemas.alerts import AlertBase

POLL_MS: Final = 500
STALL_S: Final = 30.0
FETCH_BYTES: Final = 1_048_576
REQUEST_TIMEOUT_MS: Final = 10_000
AlertT = TypeVar("AlertT", bound=AlertBase)


def source_name(partition: TopicPartition) -> str:
    """A partition as ``topic/number``."""
    return f"{partition.topic}/{partition.partition}"


class StateLog:
    """Reads the state topic from its first record on, a stretch at a time. Raises KafkaError, TopicsMissingError."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self.topic = topic
        self._brokers = brokers
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}

    async def open(self) -> Sequence[str]:
        """Connects, at the first record or where it had come to before ``close``; returns the sources."""
        partitions = await partitions_of(self._brokers, [self.topic])
        consumer = _consumer(self._brokers)
        self._consumer = consumer
        await consumer.start()
        consumer.assign(partitions)
        if not self._next:
            self._next = dict(await consumer.beginning_offsets(partitions))
        for partition, offset in self._next.items():
            consumer.seek(partition, offset)
        return [source_name(partition) for partition in partitions]

    def rewind(self) -> None:
        """The next ``open`` begins at the first record again."""
        self._next = {}

    async def close(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    async def ends(self) -> dict[str, int]:
        """Where each source's log ends now."""
        assert self._consumer is not None
        ends = await self._consumer.end_offsets(list(self._next))
        return {source_name(partition): end for partition, end in ends.items()}

    async def catch_up(self, take: Callable[[str, ConsumerRecord], None]) -> dict[str, int]:
        """Hands every record up to the ends that the logs have now to ``take``; returns those ends.

        An end is the end of a flush, since a flush is one record batch: what is read up to there is a consistent cut.
        """
        consumer = self._consumer
        assert consumer is not None
        ends = await consumer.end_offsets(list(self._next))
        left = {partition: end for partition, end in ends.items() if self._next[partition] < end}
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        while left:
            fetched: Mapping[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(*left, timeout_ms=POLL_MS)
            if fetched:
                came_at = loop.time()
            elif loop.time() - came_at > STALL_S:
                raise KafkaTimeoutError(f"Kafka gave no record of {self.topic} for {STALL_S:g} s")
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < left[partition]:
                        take(source_name(partition), record)
                if records[-1].offset >= left[partition]:
                    consumer.seek(partition, left[partition])
            for partition, end in list(left.items()):
                self._next[partition] = min(await consumer.position(partition), end)
                if self._next[partition] >= end:
                    del left[partition]
            await asyncio.sleep(0)
        return {source_name(partition): end for partition, end in ends.items()}


async def read_alerts(
    brokers: Brokers, topic: str, read: Callable[[bytes | None], AlertT | None], take: Callable[[AlertT], None]
) -> None:
    """Hands the alerts on ``topic`` that ``read`` knows as its own to ``take``, in their order. Raises KafkaError,
    TopicsMissingError."""
    partitions = await partitions_of(brokers, [topic])
    consumer = _consumer(brokers)
    found: list[tuple[int, int, AlertT]] = []
    try:
        await consumer.start()
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        left = dict(await consumer.end_offsets(partitions))
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        while True:
            for partition, end in list(left.items()):
                if await consumer.position(partition) >= end:
                    del left[partition]
            if not left:
                break
            fetched = await consumer.getmany(*left, timeout_ms=POLL_MS)
            if fetched:
                came_at = loop.time()
            elif loop.time() - came_at > STALL_S:
                raise KafkaTimeoutError(f"Kafka gave no record of {topic} for {STALL_S:g} s")
            for records in fetched.values():
                found += [
                    (record.partition, record.offset, alert)
                    for record in records
                    if (alert := read(record.value)) is not None
                ]
    finally:
        await stop_consumer(consumer)
    for _, _, alert in sorted(found, key=lambda one: one[:2]):  # one alert's records are in one partition
        take(alert)


class AlertSender:
    """Writes alerts; connected with the first one."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self._brokers = brokers
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def send(self, alert: AlertBase) -> None:
        """Returns once the broker has it. Raises KafkaError; then it may be there or not, and is to be sent again."""
        if self._producer is None:
            producer = AIOKafkaProducer(**self._brokers.options(), acks="all", request_timeout_ms=REQUEST_TIMEOUT_MS)
            await producer.start()
            self._producer = producer
        value = alert.model_dump_json().encode()
        await self._producer.send_and_wait(self._topic, value, key=alert.alert_id.encode())

    async def close(self) -> None:
        """Disconnects."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def _consumer(brokers: Brokers) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **brokers.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # a position that the log does not hold is an error, not another position
        max_partition_fetch_bytes=FETCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
