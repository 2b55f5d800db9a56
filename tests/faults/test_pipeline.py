"""Whatever is killed or stopped, afterwards ledger, rollups and events agree to the micro-credit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.pipeline import SESSION_S, Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]
EVENTS = 6_000
PER_SECOND = 300.0


@pytest.fixture
async def pipeline(broker: Kafka, engine: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A pipeline on a broker and an engine of its own."""
    whole = Pipeline(broker, engine, fresh_prefix, tmp_path)
    try:
        yield whole
    finally:
        whole.close()


@pytest.mark.contract("8.1")
async def test_workers_sink_and_broker_killed_at_random_moments_lose_and_double_nothing(pipeline: Pipeline) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"moments drawn with seed {seed}")
    draw = random.Random(seed)
    await pipeline.start()
    publisher = pipeline.publisher()
    await publisher.start()
    sending = asyncio.create_task(pipeline.send(publisher, EVENTS, seed=seed, per_second=PER_SECOND))
    for _ in range(2):
        await asyncio.sleep(draw.uniform(1.5, 4.0))
        pipeline.workers["a"].kill()
        pipeline.start_worker("a")
    await asyncio.sleep(draw.uniform(1.0, 3.0))
    pipeline.sink.kill()
    pipeline.start_sink()
    await asyncio.sleep(draw.uniform(1.0, 3.0))
    pipeline.kafka.kill()
    await asyncio.to_thread(pipeline.kafka.start)
    await sending
    await publisher.close(60)
    stats = publisher.stats()
    assert stats.published == EVENTS
    evidence = await pipeline.check()
    assert evidence.log.totals.events_counted == EVENTS


async def test_a_worker_stopped_past_its_session_changes_nothing_when_it_wakes(pipeline: Pipeline) -> None:
    await pipeline.start(workers=("a", "b"))
    publisher = pipeline.publisher()
    await publisher.start()
    sending = asyncio.create_task(pipeline.send(publisher, EVENTS, seed=11, per_second=PER_SECOND))
    await asyncio.sleep(4)
    pipeline.workers["a"].pause()
    await asyncio.sleep(SESSION_S + 4)
    pipeline.workers["a"].resume()
    await sending
    await publisher.close(60)
    assert publisher.stats().published == EVENTS
    evidence = await pipeline.check()
    assert evidence.log.totals.events_counted == EVENTS
