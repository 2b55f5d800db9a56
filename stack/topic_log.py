"""Reads whole topics, from their first record to the end that they had when the reading began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from sluicegate import Brokers, topic_partitions
from sluicegate.consumers import stop_consumer
from sluicegate.errors import TopicsMissingError
from stack.errors import StackError

STALL_LIMIT_S: Final = 60.0
POLL_MS: Final = 500


async def partitions_of(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of ``topics`` (full names).

    :raises StackError: a topic does not exist.
    """
    try:
        return await topic_partitions.partitions_of(Brokers(bootstrap), topics)
    except TopicsMissingError as error:
        raise StackError(str(error), next_step="Start with an empty data folder") from error


async def read_topic(
    bootstrap: str, topic: str, positions: dict[int, int] | None = None
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Every record of ``topic``, in order within each partition.

    :param positions: the next offset by partition, kept current, so that a later reading goes on where this one ended.
    :raises StackError: the topic does not exist, or nothing came for ``STALL_LIMIT_S`` although more is there.
    """
    consumer: AIOKafkaConsumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    try:
        await consumer.start()
        partitions = await partitions_of(bootstrap, [topic])
        consumer.assign(partitions)
        positions = {} if positions is None else positions
        for partition in partitions:
            if partition.partition in positions:
                consumer.seek(partition, positions[partition.partition])
        left = {partition: end for partition, end in (await consumer.end_offsets(partitions)).items() if end > 0}
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        while left:
            for partition, end in list(left.items()):
                if await consumer.position(partition) >= end:
                    del left[partition]
            batches = await consumer.getmany(timeout_ms=POLL_MS) if left else {}
            if batches:
                came_at = loop.time()
            elif loop.time() - came_at > STALL_LIMIT_S:
                raise StackError(f"Kafka gave no record of {topic} for {STALL_LIMIT_S:g} s")
            for partition, records in batches.items():
                for record in records:
                    if record.offset < left.get(partition, 0):
                        yield record
                        positions[record.partition] = record.offset + 1
    except (KafkaError, OSError) as error:
        raise StackError(f"The topic {topic} could not be read: {error!r}", kept="Its records were kept") from error
    finally:
        await stop_consumer(consumer)


async def first_offsets(bootstrap: str, topic: str, since_ms: int | None = None) -> dict[int, int]:
    """The first offset of each partition of ``topic``, or the first one logged at ``since_ms`` or later (the end where
    there is none)."""
    consumer: AIOKafkaConsumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        await consumer.start()
        partitions = await partitions_of(bootstrap, [topic])
        if since_ms is None:
            first = await consumer.beginning_offsets(partitions)
        else:
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            first = {at: one.offset for at, one in found.items() if one is not None}
            if missing := [at for at in partitions if at not in first]:
                first |= await consumer.end_offsets(missing)
        return {partition.partition: offset for partition, offset in first.items()}
    except (KafkaError, OSError) as error:
        raise StackError(f"The beginning of {topic} could not be asked for: {error!r}") from error
    finally:
        await stop_consumer(consumer)


async def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """One past the last offset of each partition of ``topic``."""
    consumer: AIOKafkaConsumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        await consumer.start()
        partitions = await partitions_of(bootstrap, [topic])
        return {partition.partition: end for partition, end in (await consumer.end_offsets(partitions)).items()}
    except (KafkaError, OSError) as error:
        raise StackError(f"The end of {topic} could not be asked for: {error!r}") from error
    finally:
        await stop_consumer(consumer)
