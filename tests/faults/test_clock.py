"""Clocks that jump, of a worker and of API nodes: the log's time is the broker's, so the state stays exact."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import pytest

from sluicegate import Publisher
from sluicegate_schemas.bounds import CLOCK_AHEAD_MS_MAX, to_epoch_ms
from sluicegate_schemas.outputs import Decision
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from streams.health import complaint
from tests.faults.probe import Probe, publish_probes
from tests.faults.scene import Traffic, WorkerLog, until
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]

SHIM: Final = Path(__file__).parent / "clock_shim"
HOUR_S: Final = 3_600
HOUR_MS: Final = HOUR_S * 1_000
DAY_MS: Final = 24 * HOUR_MS
JUMP_S: Final = 3.0
RATE_BLOCK_MS_MAX: Final = CLOCK_AHEAD_MS_MAX + 60_000
"""An accepted event is at most so far ahead of the log, and its debt is paid within a period of its bucket."""


class Clock:
    """The wall clock of a process that is started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(SHIM), "SLUICEGATE_TESTS_CLOCK": str(self._path)}

    def set(self, ahead_s: int) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(str(ahead_s), "ascii")
        draft.replace(self._path)


@pytest.fixture
async def pipeline(kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    whole = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        yield whole
    finally:
        whole.close()


def publish_at(publisher: Publisher, ahead_ms: int, count: int) -> None:
    """``count`` events of a node whose clock is so far ahead."""
    now_ms = time.time_ns() // 1_000_000 + ahead_ms
    for _ in range(count):
        assert publisher.publish(
            org_id="org_heron",
            api_key_id="key_heron_1",
            operation="search.knn",
            started_at_ms=now_ms - 20,
            ts_ms=now_ms,
            duration_ms=20,
            status=200,
        )


async def test_a_worker_whose_clock_jumps_counts_and_decides_as_ever(pipeline: Pipeline, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    pipeline.environment_of["worker-a"] = clock.environment
    await pipeline.start()
    await publish_probes(pipeline)
    calls = pipeline.publisher()
    async with Traffic(pipeline) as traffic, calls, Probe(pipeline, calls) as probe:
        for ahead_s in (6 * HOUR_S, -6 * HOUR_S):
            clock.set(ahead_s)
            await until(
                "the worker's clock has jumped",
                lambda: "s ago, more than" in (complaint(tmp_path / "worker-a") or ""),
            )
            await asyncio.sleep(JUMP_S)
        log = WorkerLog(pipeline, "a")
        pipeline.workers["a"].kill()
        pipeline.start_worker("a")
        await until("a worker that starts with a wrong clock owns all", lambda: log.owned() == 8)
        clock.set(0)
        from_ms = time.time_ns() // 1_000_000
        await asyncio.sleep(JUMP_S)
        until_ms = time.time_ns() // 1_000_000
        await until(
            "decisions come", lambda: (found := probe.latency(from_ms, until_ms)).samples > 5 and not found.missing
        )
    evidence = await pipeline.check()
    assert evidence.log.totals.events_counted == traffic.sent + probe.sent
    assert not evidence.log.rejects
    assert_no_block_stands_for_long(evidence.log.decisions.values(), "key_probe_")


async def test_events_of_a_node_whose_clock_jumps_are_counted_or_rejected_as_stated(pipeline: Pipeline) -> None:
    await pipeline.start()
    publisher = pipeline.publisher()
    async with publisher:
        publish_at(publisher, 0, 100)
        publish_at(publisher, 6 * HOUR_MS, 70)
        publish_at(publisher, CLOCK_AHEAD_MS_MAX - 30_000, 40)
        publish_at(publisher, -6 * HOUR_MS, 50)
        publish_at(publisher, -8 * DAY_MS, 30)
        publish_at(publisher, 0, 100)
    evidence = await pipeline.check()
    assert evidence.log.rejects == Counter({"too_far_ahead": 70, "too_far_behind": 30})
    assert evidence.log.totals.events_counted == 290
    assert_no_block_stands_for_long(evidence.log.decisions.values(), "key_heron_1")


def assert_no_block_stands_for_long(decisions: Iterable[Decision], keys: str) -> None:
    """Rate blocks of the keys whose names begin so. (Others may be called far beyond their limits: debts are true.)"""
    blocks = [one for one in decisions if one.limit_name != "credits" and one.scope.id.startswith(keys)]
    for block in blocks:
        if block.until is not None:
            assert to_epoch_ms(block.until) - to_epoch_ms(block.decided_at) <= RATE_BLOCK_MS_MAX
    assert blocks, "the keys were blocked at times"
