"""Reads a topic to its end, and appends to it: the operator's way to Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from ..brokers import Brokers
from ..consumers import stop_consumer
from ..topic_partitions import partitions_of

_FETCH_WAIT_MS: Final = 200


async def read_to_end(brokers: Brokers, topic: str) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Every record that stands in ``topic`` now; those of one partition in their order.

    Raises TopicsMissingError, and KafkaError where the broker is away.
    """
    partitions = await partitions_of(brokers, [topic])
    consumer = AIOKafkaConsumer(
        **brokers.options(), group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=_FETCH_WAIT_MS
    )
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        behind = {partition for partition in partitions if ends[partition] > 0}
        while behind := {partition for partition in behind if await consumer.position(partition) < ends[partition]}:
            for records in (await consumer.getmany(*behind, timeout_ms=_FETCH_WAIT_MS)).values():
                for record in records:
                    yield record
    finally:
        await stop_consumer(consumer)


class Appender:
    """Appends records, each acknowledged by all replicas before ``flush`` returns."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._sent: list[asyncio.Future[object]] = []

    async def partitions(self, topic: str) -> int:
        """The number of partitions of ``topic``."""
        return len(await self._producer.partitions_for(topic))

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Appends one record; waits where the buffer is full."""
        self._sent.append(await self._producer.send(topic, value, key=key, partition=partition))

    async def append_one(self, topic: str, partition: int, key: bytes, value: bytes) -> int:
        """Appends one record, acknowledged when this returns its offset. Raises KafkaError."""
        return int((await self._producer.send_and_wait(topic, value, key=key, partition=partition)).offset)

    async def flush(self) -> None:
        """Waits until all are acknowledged; raises the first KafkaError of those that are not."""
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)


@asynccontextmanager
async def appender(brokers: Brokers) -> AsyncIterator[Appender]:
    """An appender that sends each record once, in order, also over retries."""
    producer = AIOKafkaProducer(**brokers.options(), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        yield Appender(producer)
    finally:
        await producer.stop()
