"""Health of real workers: not ready while behind; stuck ones say so, end, and others count on (docs/health.md)."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from stack.kafka import Kafka
from stack.ports import free_port
from streams.watchdog import EXIT_STUCK
from tests.faults.engine_harness import PARTITIONS, System, Worker, eventually, producing
from tests.faults.stuck_worker import MARKER

pytestmark = [pytest.mark.broker, pytest.mark.processes]
LIMITS = {"SLUICEGATE_STUCK_MAX_S": "4", "SLUICEGATE_LOOP_BLOCKED_MAX_S": "3"}


@pytest.fixture
async def system(kafka: Kafka, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[System]:
    made = System(kafka.bootstrap, fresh_prefix, tmp_path)
    try:
        await made.prepare()
        yield made
    finally:
        made.kill_all()


async def send_marker(system: System) -> None:
    """To each partition, so that every owner meets it."""
    envelope = {"producer": "marker", "sequence": 1, "account": "account0", "events": [[MARKER.decode(), 1]]}
    async with producing(system.bootstrap) as producer:
        for partition in range(PARTITIONS):
            await producer.send(system.prefix + "usage", json.dumps(envelope).encode(), partition=partition)


def start(system: System, name: str, stuck_at: str = "", **settings: str) -> tuple[Worker, str]:
    """A worker and the address of its endpoint."""
    port = free_port()
    listen = f"127.0.0.1:{port}"
    environment = {**LIMITS, "SLUICEGATE_HEALTH_LISTEN": listen, "STUCK_AT": stuck_at, **settings}
    return system.start(name, module="tests.faults.stuck_worker", **environment), f"http://{listen}"


def status(url: str) -> int:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


@pytest.mark.parametrize(
    ("stuck_at", "words"),
    [
        ("loop", "the event loop has been blocked"),
        ("flush", "its flush has not gone on for"),
    ],
)
async def test_a_stuck_worker_says_so_and_ends_and_another_counts_on(system: System, stuck_at: str, words: str) -> None:
    victim, address = start(system, "victim", stuck_at)
    await eventually(lambda: status(f"{address}/readyz") == 200, "the victim to be ready", 40, victim)
    heir, heir_address = start(system, "heir")
    await eventually(lambda: status(f"{heir_address}/readyz") == 200, "the heir to be ready", 40, heir)
    events = await system.feed(400, 2_000, seed=4)
    await send_marker(system)
    assert await victim.ends() == EXIT_STUCK
    assert words in victim.log
    assert "apply_usage" in victim.log if stuck_at == "loop" else f"{system.prefix}usage/" in victim.log
    await heir.says("partitions [0, 1, 2, 3] of")
    await eventually(lambda: status(f"{heir_address}/readyz") == 200, "the heir to own and count all", 40, heir)
    await system.settled()
    await system.stop_cleanly()
    report = await system.verify()
    assert report.faults == []
    assert 0 < report.seen["events"] <= events + PARTITIONS


async def test_a_worker_whose_client_has_given_the_group_up_says_so_and_ends(system: System) -> None:
    victim = system.start("victim", "tests.faults.stuck_worker", STUCK_AT="group")
    assert await victim.ends() == EXIT_STUCK
    assert "STUCK: its part in the group has ended: " in victim.log


async def test_a_worker_is_ready_only_once_it_is_recovered_and_within_the_bound(system: System) -> None:
    await system.feed(600, 5_000, seed=6)
    patience = {"SLUICEGATE_STUCK_MAX_S": "60", "SLUICEGATE_LOOP_BLOCKED_MAX_S": "60"}
    worker, address = start(system, "slow", "slow", SLUICEGATE_READY_LAG_EVENTS_MAX="50", **patience)
    seen: list[str] = []

    def is_ready() -> bool:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"{address}/readyz", timeout=5, trust_env=False)
            assert httpx.get(f"{address}/livez", timeout=5, trust_env=False).status_code == 200
            states = [state["state"] for state in answer.json().get("states", [])]
            assert (answer.status_code == 200) == answer.json()["ready"]
            assert not answer.json()["ready"] or set(states) == {"ready"}
            seen.extend(states or ["nothing assigned"])
            return bool(answer.json()["ready"])
        return False

    await eventually(is_ready, "the worker to have caught up", 60, worker)
    assert seen[0] == "nothing assigned"
    assert "behind" in seen
