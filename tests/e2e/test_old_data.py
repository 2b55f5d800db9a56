"""A data folder of earlier runs is checked whole, or not at all, and then it is said why."""

import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from sluicegate_schemas import topics
from stack.errors import StackError
from stack.kafka import Kafka
from stack.kept import AGE_MAX, CLICKHOUSE_DAYS, TOPICS_KEPT, require_whole
from streams.settings import Settings
from streams.topics import ensure_topics

MIGRATION = Path(__file__).parents[2] / "clickhouse" / "migrations" / "001_usage.sql"
pytestmark = pytest.mark.broker


@pytest.fixture
async def prefix(kafka: Kafka, fresh_prefix: str) -> str:
    """The launcher's topics under a prefix of their own, with one usage record."""
    name = f"{fresh_prefix}."
    await ensure_topics(Settings(bootstrap_servers=kafka.bootstrap, topic_prefix=name), TOPICS_KEPT)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for topic in (topics.USAGE, topics.REJECTS):
            await producer.send_and_wait(name + topic.name, b"{}", partition=3)
    finally:
        await producer.stop()
    return name


@pytest.fixture
async def admin(kafka: Kafka) -> AIOKafkaAdminClient:
    """An administrator of the broker."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def test_the_launchers_topics_lose_nothing_that_the_check_needs(prefix: str, admin: AIOKafkaAdminClient) -> None:
    async def setting(topic: topics.Topic, name: str) -> str:
        resource = ConfigResource(ConfigResourceType.TOPIC, prefix + topic.name, configs={name: None})
        (answer,) = await admin.describe_configs([resource])
        return str(answer.resources[0][4][0][1])

    assert await setting(topics.USAGE, "retention.ms") == "-1"
    assert await setting(topics.REJECTS, "retention.ms") == "-1"
    assert await setting(topics.DECISIONS, "min.compaction.lag.ms") == str(2**63 - 1)
    assert await setting(topics.USAGE, "max.message.bytes") == topics.USAGE.settings["max.message.bytes"]


async def test_a_whole_log_may_be_checked(kafka: Kafka, prefix: str) -> None:
    await require_whole(kafka.bootstrap, prefix)


@pytest.mark.parametrize("topic", [topics.USAGE, topics.REJECTS], ids=lambda topic: topic.name)
async def test_a_log_that_lost_its_beginning_is_not_checked(
    kafka: Kafka, prefix: str, admin: AIOKafkaAdminClient, topic: topics.Topic
) -> None:
    await admin.delete_records({TopicPartition(prefix + topic.name, 3): RecordsToDelete(before_offset=1)})
    with pytest.raises(StackError, match=rf"{topic.name} of this data folder no longer begins at its first record"):
        await require_whole(kafka.bootstrap, prefix)


async def test_usage_that_clickhouse_may_have_forgotten_is_not_checked(kafka: Kafka, prefix: str) -> None:
    now_ms, age_ms = time.time_ns() // 1_000_000, int(AGE_MAX.total_seconds() * 1000)
    await require_whole(kafka.bootstrap, prefix, now_ms=now_ms + age_ms - 600_000)
    with pytest.raises(StackError, match=rf"older than {AGE_MAX.days} days"):
        await require_whole(kafka.bootstrap, prefix, now_ms=now_ms + age_ms + 600_000)


def test_clickhouse_keeps_minutes_as_long_as_is_said() -> None:
    assert f"TTL minute + INTERVAL {CLICKHOUSE_DAYS} DAY" in MIGRATION.read_text("utf-8")
