"""Reads topics for people: from any place, to where they end now or for as long as somebody looks.

No group and no commits, so that looking changes nothing. Full topic names throughout; every function raises
TopicsMissingError, and KafkaError where the broker is away, or silent for ``STALL_LIMIT_S`` though it has more.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from sluicegate_schemas.partitioning import partition_of

from ..brokers import Brokers
from ..consumers import stop_consumer
from ..topic_partitions import partitions_of

STALL_LIMIT_S: Final = 30.0
_POLL_MS: Final = 200
_FETCH_BYTES_MAX: Final = 16 * 1024 * 1024

LogRecord: TypeAlias = ConsumerRecord[bytes, bytes]
Offsets: TypeAlias = Mapping[TopicPartition, int]


@asynccontextmanager
async def reader(brokers: Brokers) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that begins where it is told to."""
    consumer = AIOKafkaConsumer(
        **brokers.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_POLL_MS,
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await stop_consumer(consumer)


async def read_all(brokers: Brokers, topic: str, *, account_id: str | None = None) -> AsyncIterator[LogRecord]:
    """Every record that stands in ``topic`` now, with ``account_id`` in that account's partition."""
    partitions = await partitions_of(brokers, [topic])
    if account_id is not None:
        partitions = [partitions[partition_of(account_id, len(partitions))]]
    async with reader(brokers) as consumer:
        consumer.assign(partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        async for record in read_between(consumer, begins, ends):
            yield record


async def read_between(consumer: AIOKafkaConsumer, begins: Offsets, ends: Offsets) -> AsyncIterator[LogRecord]:
    """The records of ``begins``' partitions from there until ``ends``, those of one partition in their order."""
    left = {partition for partition in begins if begins[partition] < ends[partition]}
    if not left:
        return
    consumer.assign(sorted(left))
    for partition in left:
        consumer.seek(partition, begins[partition])
    loop = asyncio.get_running_loop()
    came_at = loop.time()
    while left := {partition for partition in left if await consumer.position(partition) < ends[partition]}:
        found = await consumer.getmany(*left, timeout_ms=_POLL_MS)
        if found:
            came_at = loop.time()
        elif loop.time() - came_at > STALL_LIMIT_S:
            raise KafkaTimeoutError(f"no record came for {STALL_LIMIT_S:g} s")
        for partition, records in found.items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record


async def follow(brokers: Brokers, topic: str, since_ms: int | None, *, live: bool) -> AsyncIterator[LogRecord]:
    """The records of ``topic`` that were logged at ``since_ms`` (epoch ms) or later, None: from its end on; for ever,
    or without ``live`` until where it ends now. Only records of one partition come in their order."""
    partitions = await partitions_of(brokers, [topic])
    async with reader(brokers) as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        begins = dict(ends)
        if since_ms is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            begins |= {partition: at.offset for partition, at in found.items() if at is not None}
        async for record in read_between(consumer, begins, ends):
            yield record
        if not live:
            return
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, ends[partition])
        while True:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    yield record
