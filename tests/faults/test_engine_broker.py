"""The broker dies and comes back: workers wait, recover and go on (requirements, section 8)."""

import asyncio
from pathlib import Path

import pytest

from stack.kafka import Kafka
from tests.faults.engine_harness import System

pytestmark = [pytest.mark.broker, pytest.mark.processes]


async def test_a_broker_killed_under_load_costs_no_envelope(broker: Kafka, fresh_prefix: str, tmp_path: Path) -> None:
    system = System(broker.bootstrap, fresh_prefix, tmp_path)
    try:
        await system.prepare()
        worker = system.start("patient")
        await worker.says("READY")
        events = await system.feed(2_000, 1_000, seed=6)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        events += await system.feed(2_000, 1_000, seed=7)
        await system.settled(120)
        await system.stop_cleanly()
        report = await system.verify()
        print(dict(report.seen))
        assert report.faults == []
        assert 0 < report.seen["events"] < events
    finally:
        system.kill_all()
