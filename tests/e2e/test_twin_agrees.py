"""The simulator's Kafka is held against the real one: the same operations, and what was seen must be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition

from stack.kafka import Kafka
from tests.kafka_kits import BATCH_BYTES_MAX, LIMIT_S, Kit, Pair, RealKit, TwinKit, read
from tests.sim.world import World


async def send_batch(kit: Kit, topic: str, pairs: list[Pair]) -> int:
    """Appends one batch; returns its first offset."""
    batch = kit.producer.create_batch()
    for key, value in pairs:
        batch.append(key=key, value=value, timestamp=None, headers=[])
    return int((await (await kit.producer.send_batch(batch, topic, partition=0))).offset)


def pairs(*keys: str, value: bytes | None = b"value") -> list[Pair]:
    return [(key.encode(), value) for key in keys]


async def offsets(kit: Kit) -> list[Any]:
    """A batch stands together, single records follow each other."""
    topic = await kit.topic("offsets")
    seen: list[Any] = [await send_batch(kit, topic, pairs("a", "b", "c"))]
    sent = [await kit.producer.send(topic, value=bytes([n]), key=None, partition=0) for n in range(4)]
    seen += [(await future).offset for future in sent]
    return [*seen, await send_batch(kit, topic, pairs("a", "d")), await read(kit, topic)]


async def log_time(kit: Kit) -> list[Any]:
    """All records of a batch have one time, the broker's, and it does not fall."""
    topic = await kit.topic("time")
    for _ in range(3):
        await send_batch(kit, topic, pairs("a", "b"))
    tp, consumer = TopicPartition(topic, 0), kit.consumer()
    await consumer.start()
    consumer.assign([tp])
    consumer.seek(tp, 0)
    times: list[int] = []
    while len(times) < 6:
        for run in (await consumer.getmany(tp, timeout_ms=200)).values():
            times += [record.timestamp for record in run]
    await consumer.stop()
    return [[times[n] == times[n + 1] for n in (0, 2, 4)], times == sorted(times)]


async def retries(kit: Kit) -> list[Any]:
    """A batch that is sent again stands once; what is remembered of it, and what is not."""
    topic = await kit.topic("retries")
    producer = await kit.new_producer_id()
    seen: list[Any] = [await kit.produce_raw(topic, producer, 0, pairs("a", "b")) for _ in range(2)]
    seen += [await kit.produce_raw(topic, producer, sequence, pairs("x")) for sequence in range(2, 8)]
    seen += [await kit.produce_raw(topic, producer, sequence, pairs("x")) for sequence in (7, 3)]
    seen.append(await kit.produce_raw(topic, producer, 0, pairs("a", "b")))
    seen.append(await kit.produce_raw(topic, producer, 20, pairs("late")))
    other = await kit.new_producer_id()
    seen.append(await kit.produce_raw(topic, other, 5, pairs("a producer that nobody knows begins anywhere")))
    return [*seen, await read(kit, topic)]


async def too_large(kit: Kit) -> list[Any]:
    """A batch that is too large is refused, and leaves nothing."""
    topic = await kit.topic("large")
    producer = await kit.new_producer_id()
    fits, does_not = b"v" * (BATCH_BYTES_MAX // 2), b"v" * (BATCH_BYTES_MAX + 1)
    seen: list[Any] = [
        await kit.produce_raw(topic, producer, 0, [(b"a", fits)]),
        await kit.produce_raw(topic, producer, 1, [(b"a", does_not)]),
        await kit.produce_raw(topic, producer, 1, [(b"a", fits), (b"b", fits)]),
        await kit.produce_raw(topic, producer, 1, [(b"b", fits)]),
    ]
    return [*seen, [key for _, key, _ in await read(kit, topic)]]


async def compaction(kit: Kit) -> list[Any]:
    """The newest of each key stays at its offset, tombstones too, and nothing of the newest segment goes."""
    topic = await kit.topic("compact", is_compacted=True)
    await send_batch(kit, topic, pairs("a", "b", "c", "a"))
    await kit.next_segment()
    await send_batch(kit, topic, [*pairs("b", value=b"new"), *pairs("c", value=None), *pairs("d")])
    await kit.next_segment()
    await send_batch(kit, topic, pairs("d", "e", "e"))
    await kit.compacted(topic, 8)
    return [await read(kit, topic), await read(kit, topic, 1)]


async def holes(kit: Kit) -> list[Any]:
    """A transaction's end takes an offset that holds no record; a reader passes it, also at the end of the log."""
    topic = await kit.topic("holes")
    await send_batch(kit, topic, pairs("a"))
    await kit.hole(topic, (b"b", b"in a transaction"))
    seen: list[Any] = [await read(kit, topic)]
    return [*seen, await send_batch(kit, topic, pairs("c")), await read(kit, topic), await read(kit, topic, 2)]


async def retention(kit: Kit) -> list[Any]:
    """A reader whose position retention has passed goes on at the start."""
    topic = await kit.topic("retained")
    await send_batch(kit, topic, pairs("a", "b"))
    await send_batch(kit, topic, pairs("c"))
    await kit.trim(topic, 2)
    return [await read(kit, topic)]


async def until(holds: Callable[[], bool]) -> None:
    """Waits, on whichever loop's time."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)


async def groups(kit: Kit) -> list[Any]:
    """Generations rise with each change; a commit of an older one is refused, and who tried joins anew."""
    topic = await kit.topic("group")
    first = await kit.member(topic)
    await until(lambda: first.assignments[-1:] == [(1, 2)])
    seen: list[Any] = [await first.commit(1)]
    second = await kit.member(topic)
    await until(lambda: first.assignments[-1][1] == 1 and second.assignments[-1:] != [])
    generation = first.assignments[-1][0]
    seen += [generation == second.assignments[-1][0], generation > 1, second.assignments[-1][1]]
    seen += [await second.commit(generation), await second.commit(generation - 1)]
    await until(lambda: second.assignments[-1][0] > generation and first.assignments[-1][0] > generation)
    seen += [second.assignments[-1][0] - generation, second.assignments[-1][1]]
    await second.leave()
    await until(lambda: first.assignments[-1][1] == 2)
    seen.append(first.assignments[-1][0] - generation)
    await first.leave()
    return seen


SCRIPTS = [offsets, log_time, retries, too_large, compaction, holes, retention, groups]


async def seen_on_the_real_one(script: Callable[[Kit], Awaitable[list[Any]]], kafka: Kafka, prefix: str) -> list[Any]:
    async with RealKit(kafka.bootstrap, prefix) as kit:
        return await script(kit)


def seen_on_the_twin(script: Callable[[Kit], Awaitable[list[Any]]], seed: int) -> list[Any]:
    with World(seed) as world:

        async def main() -> list[Any]:
            return await script(TwinKit(world))

        task = world.process("script").run(main)
        world.run_until(task.done, limit_ms=60_000)
        return task.result()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_twin_answers_as_the_real_broker_does(
    script: Callable[[Kit], Awaitable[list[Any]]], kafka: Kafka, fresh_prefix: str
) -> None:
    real = asyncio.run(seen_on_the_real_one(script, kafka, fresh_prefix))
    assert real
    for seed in range(5):
        assert seen_on_the_twin(script, seed) == real
