"""Workers that die, pause and move: every envelope is counted once (requirements, section 8)."""

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.kafka import Kafka
from tests.faults.engine_harness import SESSION_S, System, Worker, eventually
from tests.faults.engine_verifier import Report

ALL_PARTITIONS = "partitions [0, 1, 2, 3] of"
pytestmark = [pytest.mark.broker, pytest.mark.processes]


@pytest.fixture
async def system(kafka: Kafka, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[System]:
    made = System(kafka.bootstrap, fresh_prefix, tmp_path)
    try:
        await made.prepare()
        yield made
    finally:
        made.kill_all()


def assert_exact(report: Report, events: int) -> None:
    print(dict(report.seen))
    assert report.faults == []
    assert report.seen["duplicates"] > 0
    assert report.seen["rejects"] > 0
    assert 0 < report.seen["events"] < events


def owned(worker: Worker) -> int:
    """How many partitions the worker owned when it was last ready."""
    ready = re.findall(r"READY generation \d+, partitions \[(.*?)\]", worker.log)
    return len(re.findall(r"\d+", ready[-1])) if ready else 0


async def test_a_worker_killed_twice_counts_each_envelope_once(system: System) -> None:
    draw = random.Random(11)
    feeding = asyncio.create_task(system.feed(6_000, 800, seed=1))
    for number in range(2):
        worker = system.start(f"victim{number}")
        await worker.says("READY")
        await asyncio.sleep(draw.uniform(0.6, 1.8))
        worker.kill()
    survivor = system.start("survivor")
    await eventually(lambda: "is not ready" in survivor.health(), "a sign of life", 40, survivor)
    await survivor.says("READY")
    await eventually(lambda: not survivor.health(max_age_s=3), "the survivor to be well", 40, survivor)
    events = await feeding
    await system.settled()
    await system.stop_cleanly()
    report = await system.verify()
    assert_exact(report, events)
    assert report.seen["claims"] >= 12


async def test_an_owner_paused_between_snapshot_and_send_is_fenced(system: System) -> None:
    zombie = system.start("zombie", COUNTING_STOP_AFTER="3000")
    heir = system.start("heir")
    for worker in (zombie, heir):
        await eventually(lambda: owned(worker) == 2, f"{worker.name} to own half", 40)  # noqa: B023 (awaited at once)
    feeding = asyncio.create_task(system.feed(9_000, 700, seed=2))
    await eventually(lambda: zombie.is_stopped, "the zombie to stop itself", 40)
    recoveries = heir.log.count(ALL_PARTITIONS)
    await heir.says(ALL_PARTITIONS, times=recoveries + 1)
    await asyncio.sleep(SESSION_S / 4)
    zombie.send(signal.SIGCONT)
    await zombie.says("given up")
    await zombie.says("READY", times=2)
    events = await feeding
    await system.settled()
    await system.stop_cleanly()
    report = await system.verify()
    assert_exact(report, events)
    assert report.seen["void records"] > 0


async def test_three_workers_that_come_and_go_count_each_envelope_once(system: System) -> None:
    draw = random.Random(5)
    live = [system.start(f"first{number}") for number in range(3)]
    await eventually(lambda: sum(map(owned, live)) == 4 and min(map(owned, live)) == 1, "three owners", 60)
    feeding = asyncio.create_task(system.feed(10_000, 500, seed=3))
    for number, end in enumerate((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)):
        leaver = live.pop(draw.randrange(len(live)))
        marks = {worker: worker.log.count("READY") for worker in live}
        leaver.send(end)
        for worker in live:
            await worker.says("READY", times=marks[worker] + 1)
        if end == signal.SIGSTOP:
            leaver.send(signal.SIGCONT)
            live.append(leaver)
        else:
            live.append(system.start(f"next{number}"))
            await live[-1].says("READY")
    events = await feeding
    await system.settled(120)
    await system.stop_cleanly()
    assert_exact(await system.verify(), events)
