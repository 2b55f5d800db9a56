"""What a gate pays for knowing: the processor time that following one live decision takes, and the memory of a key.

A real follower reads a broker's topic of live decisions; memory is counted by Python's own allocator.
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Collection
from typing import Final

from aiokafka import AIOKafkaProducer

from sluicegate import Brokers, Follower, FollowerSettings
from sluicegate.gate import Gate
from tests.bench import system, workload
from tests.bench.session import Session
from tests.gating import NOW_MS, Known, catalogue_record, decision_record, key_record, organization_record

DECISIONS: Final = 100_000
KEYS: Final = 20_000
_KEYS_OF_ORGANIZATION: Final = 10
_READY_S: Final = 120.0
_UNTIL_MS: Final = 4_000_000_000_000


def _secret(number: int) -> str:
    return f"sk_live_bench_key_{number:06d}"


async def _write(bootstrap: str, prefix: str, decisions: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        for number in range(decisions):
            topic, key, value = decision_record(name=f"key_bench_{number}", until_ms=_UNTIL_MS)
            await producer.send(prefix + topic, value, key=key, partition=number % workload.PARTITIONS)
        await producer.flush()
    finally:
        await producer.stop()


async def follow_us(bootstrap: str, decisions: int) -> float:
    """Processor time in µs for each of so many live decisions, from the socket to the view."""
    prefix = system.fresh_prefix()
    await system.prepare(bootstrap, prefix, commands=())
    await _write(bootstrap, prefix, decisions)
    follower = Follower(Brokers(bootstrap), FollowerSettings(topic_prefix=prefix))
    gc.collect()
    began = time.process_time()
    async with follower:
        assert await follower.wait_ready(_READY_S), "the follower caught up"
        spent = time.process_time() - began
        known = len(follower.view.blocks_at(NOW_MS))
        assert known == decisions, f"{known} of {decisions} decisions are known"
    return spent / decisions * 1e6


def _bytes(step: Callable[[], object], keys: int) -> float:
    """What ``step`` leaves in memory, for each key."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    step()
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] - before) / keys


def memory(keys: int) -> tuple[float, float]:
    """Bytes of a key in use (with a tenth of its organization and one operation's buckets), and of a block of one."""
    known = Known().learn(catalogue_record())
    gate = Gate(known, clock=lambda: NOW_MS)

    def learn() -> None:
        for number in range(keys):
            organization = f"org_bench_{number // _KEYS_OF_ORGANIZATION}"
            if number % _KEYS_OF_ORGANIZATION == 0:
                known.learn(organization_record(organization))
            known.learn(key_record(_secret(number), name=f"key_bench_{number}", organization=organization))

    def use() -> None:
        for number in range(keys):
            answer = gate.check(_secret(number), "search.knn")
            assert answer.allowed, answer

    def block() -> None:
        for number in range(keys):
            known.learn(decision_record(name=f"key_bench_{number}", until_ms=_UNTIL_MS))

    tracemalloc.start()
    try:
        return _bytes(learn, keys) + _bytes(use, keys), _bytes(block, keys)
    finally:
        tracemalloc.stop()


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    figures: dict[str, float] = {}
    if "gate_follow_us" in wanted:
        figures["gate_follow_us"] = asyncio.run(follow_us(session.bootstrap, session.count(DECISIONS)))
    if {"gate_key_bytes", "gate_block_bytes"} & set(wanted):
        figures["gate_key_bytes"], figures["gate_block_bytes"] = memory(session.count(KEYS))
    return {name: figure for name, figure in figures.items() if name in wanted}
