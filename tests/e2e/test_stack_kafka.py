"""The embedded Kafka: a real broker whose data outlives it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from stack.errors import PortInUseError, StackError
from stack.kafka import Kafka

pytestmark = pytest.mark.broker


async def create_topic(kafka: Kafka, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})])
    finally:
        await admin.close()


async def send(kafka: Kafka, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", max_request_size=16_000_000) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def read(kafka: Kafka, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, max_partition_fetch_bytes=16_777_216)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while len(values) < end:
            values.append((await asyncio.wait_for(consumer.getone(), 20)).value)
        return values
    finally:
        await consumer.stop()


async def test_what_was_acknowledged_is_there_after_a_stop_and_after_kill_9(broker: Kafka, fresh_prefix: str) -> None:
    await create_topic(broker, fresh_prefix)
    await send(broker, fresh_prefix, [b"before the stop"])
    bootstrap = broker.bootstrap
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    await send(broker, fresh_prefix, [b"before the kill"])
    broker.kill()
    assert not broker.running
    await asyncio.to_thread(broker.start)
    assert broker.bootstrap == bootstrap
    assert await read(broker, fresh_prefix) == [b"before the stop", b"before the kill"]


async def test_another_launcher_may_go_on_with_the_folder_on_another_port(broker: Kafka, fresh_prefix: str) -> None:
    await create_topic(broker, fresh_prefix)
    await send(broker, fresh_prefix, [b"kept"])
    await asyncio.to_thread(broker.stop)
    other = Kafka(broker.data)
    try:
        await asyncio.to_thread(other.start)
        assert await read(other, fresh_prefix) == [b"kept"]
    finally:
        other.kill()


async def test_a_large_record_passes(kafka: Kafka, fresh_prefix: str) -> None:
    await create_topic(kafka, fresh_prefix)
    value = b"x" * 12_000_000
    await send(kafka, fresh_prefix, [value])
    assert await read(kafka, fresh_prefix) == [value]


async def test_no_topic_appears_by_itself(kafka: Kafka, fresh_prefix: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, request_timeout_ms=500) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(fresh_prefix, b"into nowhere")
        assert fresh_prefix not in await known_topics(kafka)


async def known_topics(kafka: Kafka) -> set[str]:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
        return set(await consumer.topics())


def test_a_port_in_use_is_refused_before_anything_is_written(kafka: Kafka, tmp_path: Path) -> None:
    second = Kafka(tmp_path / "second", port=kafka.port)
    with pytest.raises(PortInUseError, match=rf"Port {kafka.port} is in use.*--kafka-port"):
        second.start()
    assert not (tmp_path / "second").exists()


def test_a_java_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICEGATE_JAVA", "/bin/true")
    with pytest.raises(StackError, match=r"does not answer like Java.*SLUICEGATE_JAVA"):
        Kafka(tmp_path).start()
