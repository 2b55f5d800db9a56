"""The follower on a real broker: catching up, following, and outliving the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluicegate import Brokers, Follower, FollowerSettings, Gate
from sluicegate.clock import epoch_ms
from sluicegate.follower import Change, Outcome
from sluicegate_schemas.wire_decision import WireDecision
from stack.kafka import Kafka
from tests.gating import (
    SECRET,
    TopicRecord,
    catalogue_record,
    credit_block,
    decision_record,
    key_record,
    organization_record,
)

pytestmark = pytest.mark.broker
STANDING = (catalogue_record(), organization_record(), key_record())


async def create_topics(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        counts = {"catalog": 1, "entitlements": 3, "decisions": 4}
        await admin.create_topics(
            [
                NewTopic(prefix + name, count, 1, topic_configs={"cleanup.policy": "compact"})
                for name, count in counts.items()
            ]
        )
    finally:
        await admin.close()


@asynccontextmanager
async def writer(bootstrap: str, prefix: str) -> AsyncIterator[Callable[..., asyncio.Task[None]]]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()

    async def write(*records: TopicRecord) -> None:
        for topic, key, value in records:
            await producer.send_and_wait(prefix + topic, value, key=key)

    try:
        yield lambda *records: asyncio.create_task(write(*records))
    finally:
        await producer.stop()


def follower(kafka: Kafka, prefix: str, on_change: Callable[[Change], None] | None = None) -> Follower:
    return Follower(
        Brokers(kafka.bootstrap), FollowerSettings(topic_prefix=prefix, retry_ms_max=500), on_change=on_change
    )


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


@pytest.mark.contract("3.13")
async def test_a_cold_gate_reads_what_stands_then_follows(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    await create_topics(kafka.bootstrap, prefix)
    async with writer(kafka.bootstrap, prefix) as write:
        await write(*STANDING, credit_block(until_ms=epoch_ms() + 3_600_000))
        async with follower(kafka, prefix) as following:
            gate = Gate(following)
            assert gate.check(SECRET, "documents.list").status == 503
            assert await following.wait_ready(20)
            assert gate.check(SECRET, "documents.list").status == 200
            assert gate.check(SECRET, "search.knn").status == 403
            await write(credit_block(verdict="allow", until_ms=None, rank=(1, 2)))
            await until(lambda: gate.check(SECRET, "search.knn").status == 200)
            await write(decision_record(until_ms=epoch_ms() + 60_000))
            await until(lambda: gate.check(SECRET, "documents.list").status == 429)
            _, key, _ = key_record()
            await write(("entitlements", key, None))
            await until(lambda: gate.check(SECRET, "documents.list").status == 401)


async def test_what_stands_in_a_long_log_is_known_before_it_is_ready(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    await create_topics(kafka.bootstrap, prefix)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    await producer.start()
    try:
        for counter in range(1, 3_001):
            topic, key, value = decision_record(rank=(1, counter), verdict="block" if counter % 2 else "allow")
            await producer.send(prefix + topic, value, key=key)
        await producer.flush()
    finally:
        await producer.stop()
    async with follower(kafka, prefix) as following:
        assert await following.wait_ready(20)
        assert following.view.outcomes == {Outcome.APPLIED: 3_000}
        assert following.view.block("requests_per_minute:key:key_heron_1") is None


async def test_poison_is_counted_and_the_follower_goes_on(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    await create_topics(kafka.bootstrap, prefix)
    async with writer(kafka.bootstrap, prefix) as write, follower(kafka, prefix) as following:
        await write(
            ("decisions", b"x", b"\xff\x00"), ("entitlements", b"y", b"{}"), ("catalog", b"1", b"[" * 50_000), *STANDING
        )
        await until(lambda: following.view.outcomes.total() == 6)
        assert following.view.outcomes == {Outcome.MALFORMED: 3, Outcome.APPLIED: 3}


async def test_a_decision_is_in_force_within_a_tenth_of_a_second(kafka: Kafka, fresh_prefix: str) -> None:
    """The median of 40, while other partitions are busy too."""
    prefix = f"{fresh_prefix}."
    await create_topics(kafka.bootstrap, prefix)
    arrived: dict[str, float] = {}

    def note(change: Change) -> None:
        if isinstance(change.record, WireDecision):
            arrived[change.record.decision_id] = time.monotonic()

    async with writer(kafka.bootstrap, prefix) as write, follower(kafka, prefix, on_change=note) as following:
        assert await following.wait_ready(20)
        sent: dict[str, float] = {}
        for number in range(40):
            name = f"d-{number}"
            sent[name] = time.monotonic()
            await write(decision_record(name=f"key_{number}", decision_id=name))
        await until(lambda: len(arrived) == 40)
    latencies_ms = sorted((arrived[name] - sent[name]) * 1000 for name in sent)
    assert latencies_ms[20] < 100, latencies_ms


async def test_silence_of_the_topics_is_not_staleness(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    await create_topics(kafka.bootstrap, prefix)
    following = follower(kafka, prefix)
    assert following.staleness_ms is None
    async with following:
        assert await following.wait_ready(20)
        first = epoch_ms()
        await until(lambda: epoch_ms() > first + 1_500)
        staleness_ms = following.staleness_ms
        assert staleness_ms is not None
        assert staleness_ms < 1_000


async def test_missing_topics_are_waited_for(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    async with follower(kafka, prefix) as following:
        await until(lambda: following.reconnects >= 2)
        assert not following.ready
        await create_topics(kafka.bootstrap, prefix)
        assert await following.wait_ready(20)


@pytest.mark.contract("3.14")
@pytest.mark.processes
async def test_a_broker_that_dies_leaves_what_is_known_in_force(broker: Kafka) -> None:
    await create_topics(broker.bootstrap, "t.")
    block_until_ms = epoch_ms() + 3_600_000
    async with follower(broker, "t.") as following:
        async with writer(broker.bootstrap, "t.") as write:
            await write(*STANDING, credit_block(until_ms=block_until_ms))
        gate = Gate(following)
        await until(lambda: gate.check(SECRET, "search.knn").status == 403)
        await asyncio.to_thread(broker.kill)
        await until(lambda: (following.staleness_ms or 0) > 1_500)
        assert gate.check(SECRET, "search.knn").status == 403
        assert gate.check(SECRET, "documents.list").status == 200
        await asyncio.to_thread(broker.start)
        async with writer(broker.bootstrap, "t.") as write:
            await write(credit_block(verdict="allow", until_ms=None, rank=(1, 2)))
        await until(lambda: gate.check(SECRET, "search.knn").status == 200, 40)
        await until(lambda: (following.staleness_ms or 10**9) < 1_000)
