"""Dead letters, as an operator sees them: listed, and asked to be replayed. Works beside a running dispatcher."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from pydantic import ValidationError

from sluicegate.brokers import Brokers
from sluicegate.consumers import stop_consumer
from sluicegate.topic_partitions import partitions_of
from sluicegate_schemas.deliveries import DELIVERY_RECORD, Delivery, delivery_key, replay_key

STALL_S: Final = 30.0
POLL_MS: Final = 500


async def dead_letters(brokers: Brokers, topic: str) -> list[Delivery]:
    """The dead letters that ``topic`` holds, the oldest first. Raises KafkaError, TopicsMissingError."""
    await partitions_of(brokers, [topic])
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(**brokers.options(), group_id=None, enable_auto_commit=False, auto_offset_reset="none")
    found: dict[bytes, Delivery] = {}
    try:
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        while await consumer.position(partition) < end:
            records = (await consumer.getmany(timeout_ms=POLL_MS)).get(partition, [])
            if records:
                came_at = loop.time()
            elif loop.time() - came_at > STALL_S:
                raise KafkaTimeoutError(f"Kafka gave no record of {topic} for {STALL_S:g} s")
            for record in records:
                found.pop(record.key or b"", None)
                if (letter := _dead_letter(record.key, record.value)) is not None:
                    found[record.key or b""] = letter
    finally:
        await stop_consumer(consumer)
    return list(found.values())


def _dead_letter(key: bytes | None, value: bytes | None) -> Delivery | None:
    if value is None or key is None:
        return None
    try:
        record = DELIVERY_RECORD.validate_json(value)
    except ValidationError:
        return None
    if not isinstance(record, Delivery) or record.state != "dead":
        return None
    return record if key == delivery_key(record.endpoint, record.webhook_id).encode() else None


async def ask_replays(brokers: Brokers, topic: str, letters: Iterable[Delivery]) -> None:
    """Asks the dispatcher to try ``letters`` again, at once or when it starts. Raises KafkaError."""
    producer = AIOKafkaProducer(**brokers.options(), enable_idempotence=True)
    await producer.start()
    try:
        for letter in letters:
            key = replay_key(letter.endpoint, letter.webhook_id).encode()
            await producer.send_and_wait(topic, letter.model_dump_json().encode(), key=key, partition=0)
    finally:
        await producer.stop()


def chosen(
    letters: Sequence[Delivery], *, endpoint: str | None = None, webhook_ids: Sequence[str] | None = None
) -> list[Delivery]:
    """Those of ``endpoint`` (None: of all) with one of ``webhook_ids`` (None: any)."""
    return [
        letter
        for letter in letters
        if (endpoint is None or letter.endpoint == endpoint)
        and (webhook_ids is None or letter.webhook_id in webhook_ids)
    ]
