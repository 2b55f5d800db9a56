"""A bad network between a worker and its broker: afterwards ledger, rollups and events agree to the micro-credit.

The worker "a" reaches the broker through a proxy; "b", the sink and the publisher reach it directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stack.clickhouse import ClickHouse
from tests.faults.proxied_kafka import ProxiedKafka
from tests.faults.proxy import Proxy
from tests.faults.scene import PARTITIONS, Traffic, WorkerLog, start_two, until
from tests.pipeline import SESSION_S, Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]

SHARE = PARTITIONS // 2


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedKafka]:
    """A broker that the tests of this file share, each with its own prefix and proxy."""
    broker = ProxiedKafka(tmp_path_factory.mktemp("proxied"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
async def proxy(proxied: ProxiedKafka) -> AsyncIterator[Proxy]:
    async with Proxy(proxied.proxied_port, proxied.proxy_port) as between:
        yield between


@pytest.fixture
async def pipeline(
    proxied: ProxiedKafka, proxy: Proxy, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> AsyncIterator[Pipeline]:
    """A pipeline whose worker "a" is behind the proxy."""
    whole = Pipeline(proxied, clickhouse, fresh_prefix, tmp_path)
    whole.environment_of["worker-a"] = {"SLUICEGATE_BOOTSTRAP_SERVERS": proxied.proxy_bootstrap}
    try:
        yield whole
    finally:
        whole.close()


async def test_a_worker_cut_off_past_its_session_gives_way_and_comes_back(pipeline: Pipeline, proxy: Proxy) -> None:
    await start_two(pipeline)
    async with Traffic(pipeline) as traffic:
        cut, other = WorkerLog(pipeline, "a"), WorkerLog(pipeline, "b")
        proxy.hold()
        await until("the other worker owns all", lambda: other.owned() == PARTITIONS)
        await asyncio.sleep(2)
        proxy.heal()
        await until("the worker has its share again", lambda: cut.owned() == SHARE)
    evidence = await pipeline.check()
    assert evidence.log.totals.events_counted == traffic.sent
    assert pipeline.restarts == 0


async def test_lost_replies_half_open_connections_and_a_slow_network_change_no_total(
    pipeline: Pipeline, proxy: Proxy
) -> None:
    await start_two(pipeline)
    async with Traffic(pipeline) as traffic:
        log = WorkerLog(pipeline, "a")
        proxy.lose("replies")
        await until("replies are lost in mid flush", lambda: proxy.seen.lost_bytes["replies"] > 0)
        await asyncio.sleep(2)
        proxy.heal()
        await until("the worker has its share again", lambda: "given up" not in log.text() or log.owned() == SHARE)

        log = WorkerLog(pipeline, "a")
        proxy.half_open()
        proxy.reset()
        await asyncio.sleep(SESSION_S + 2)
        proxy.heal()
        await until("the worker has its share again", lambda: log.owned() == SHARE)

        log = WorkerLog(pipeline, "a")
        proxy.delay(0.1)
        proxy.throttle(200_000)
        await asyncio.sleep(6)
        assert " READY " not in log.text(), "a slow network is no reason for a rebalance"
        proxy.heal()
    evidence = await pipeline.check()
    assert evidence.log.totals.events_counted == traffic.sent
    assert pipeline.restarts == 0
