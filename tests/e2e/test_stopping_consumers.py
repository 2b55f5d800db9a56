"""Whoever follows a topic outlives the end of its consumer, even while the broker is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer

from sluicegate.consumers import stop_consumer
from stack.kafka import Kafka

pytestmark = pytest.mark.broker


@pytest.fixture
async def failing(kafka: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer one of whose fetches has failed, and waits to be tried again."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    await asyncio.sleep(0)  # its fetching begins, and forgets what was pending before
    consumer._fetcher._pending_tasks.add(asyncio.create_task(asyncio.sleep(60)))
    yield consumer
    await consumer._client.close()


async def test_a_consumer_that_is_stopped_while_a_fetch_waits_does_not_end_its_follower(
    failing: AIOKafkaConsumer,
) -> None:
    await stop_consumer(failing)
    assert not failing._client._conns


async def test_whoever_is_cancelled_while_a_consumer_stops_is_cancelled(failing: AIOKafkaConsumer) -> None:
    async def follow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await stop_consumer(failing)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_aiokafka_lets_the_cancellation_of_a_waiting_fetch_out(failing: AIOKafkaConsumer) -> None:
    """The reason for ``stop_consumer``: once this fails, it can go."""
    with pytest.raises(asyncio.CancelledError):
        await failing.stop()
