"""Virtual time, kill -9 and SIGSTOP in it, and the moments at which a fault strikes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.errors import KafkaError

from tests.sim.client import KafkaClient
from tests.sim.kafka_twin import Producer
from tests.sim.log import NewRecord
from tests.sim.loop import Process
from tests.sim.strikes import Moment
from tests.sim.world import World


def test_a_killed_process_runs_no_finally_and_nothing_else() -> None:
    said: list[str] = []

    async def main() -> None:
        try:
            while True:
                await asyncio.sleep(0.1)
                said.append("lives")
        finally:
            if not world.network.is_over:
                said.append("finally")

    with World(1) as world:
        process = world.process("p")
        process.run(main)
        world.at(1_050, lambda: world.kill(process))
        world.run(5_000)
        assert said == ["lives"] * 10


def test_a_paused_process_does_later_what_came_due_meanwhile_and_others_go_on() -> None:
    said: list[tuple[str, int]] = []

    async def main(name: str) -> None:
        for _ in range(2):
            await asyncio.sleep(1.0)
            said.append((name, world.now_ms))

    with World(1) as world:
        paused, other = world.process("paused"), world.process("other")
        paused.run(lambda: main("paused"))
        other.run(lambda: main("other"))
        world.at(500, lambda: world.pause(paused, 3_000))
        world.run(10_000)
        assert said == [("other", 1_000), ("other", 2_000), ("paused", 3_500), ("paused", 4_500)]


def state_appends(moment: Moment, strike: Callable[[World, Process], None]) -> tuple[list[int], int]:
    """When a process that appends each second was told so, and how many records stand, if ``strike`` comes at 1.5 s."""
    told: list[int] = []

    async def main() -> None:
        producer = Producer()
        await producer.start()
        for _ in range(4):
            await asyncio.sleep(1.0)
            batch = producer.create_batch()
            batch.append(key=b"k", value=b"v", timestamp=None)
            await (await producer.send_batch(batch, "sim.state", partition=0))
            told.append(world.now_ms // 1000)

    with World(3) as world:
        process = world.process("p")
        process.run(main)
        world.at(1_500, lambda: world.when(process, moment, lambda: strike(world, process)))
        world.run(30_000)
        return told, world.end("state", 0)


def test_a_pause_before_sending_holds_the_append_back() -> None:
    told, stands = state_appends("sending", lambda world, process: world.pause(process, 10_000))
    assert told == [1, 12, 13, 14]
    assert stands == 4


def test_a_kill_before_sending_leaves_nothing_and_after_appending_leaves_what_nobody_was_told_of() -> None:
    assert state_appends("sending", lambda world, process: world.kill(process)) == ([1], 1)
    assert state_appends("appended", lambda world, process: world.kill(process)) == ([1], 2)


def test_lost_replies_are_retried_and_stand_once() -> None:
    failed = 0
    for seed in range(20):
        with World(seed) as world:

            async def main(world: World = world) -> None:
                client = KafkaClient()
                for number in range(20):
                    await client.append("sim.usage", 0, [NewRecord(None, b"%d" % number)])

            process = world.process("p")
            done = process.run(main)
            world.lose_replies(process, 2_000)
            world.run_until(done.done, limit_ms=300_000)
            assert [record.value for record in world.records("usage", 0)] == [b"%d" % number for number in range(20)]
            failed += world.seen["replies lost"]
    assert failed > 20


def test_a_broker_that_is_away_answers_nobody_and_forgets_nothing() -> None:
    async def main() -> None:
        await KafkaClient().append("sim.usage", 0, [NewRecord(None, b"1")])

    with World(1) as world:
        world.broker_down(5_000)
        done = world.process("p").run(main)
        world.run(4_900)
        assert not done.done()
        assert world.end("usage", 0) == 0
        world.run_until(done.done, limit_ms=2_000)
        assert world.end("usage", 0) == 1


def test_a_producer_starts_only_where_the_broker_can_be_reached() -> None:
    async def main() -> None:
        await Producer().start()

    with World(1) as world:
        world.broker_down(5_000)
        done = world.process("p").run(main)
        world.run_until(done.done, limit_ms=4_000)
        with pytest.raises(KafkaError):
            done.result()
