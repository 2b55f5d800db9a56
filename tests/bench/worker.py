"""Workers, measured from outside: how fast the positions in their flush headers advance through a waiting workload.

Workers own their partitions before the catalogue comes, and rate nothing until then: so they begin at once, together.
A header's position and the broker's append time of its batch say how many events were durable when; the first tenth
and the last hundredth (the tail) are left out.
"""

import asyncio
import bisect
import itertools
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate_schemas import topics
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY
from tests.bench import system, workload

LIMIT_S = 120.0


class Run(NamedTuple):
    """Events a second, and what an event cost: processor time of all workers, of their whole way through it."""

    eps: float
    cpu_us: float


async def until_durable(
    bootstrap: str, prefix: str, ends: list[int], workers: list[system.Worker]
) -> list[tuple[int, int]]:
    """(append time in ms, records durable by then over all partitions), rising, until all are.

    Raises RuntimeError where a worker ended, and TimeoutError.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    consumer.assign([TopicPartition(prefix + topics.STATE.name, number) for number in range(len(ends))])
    reached = [0] * len(ends)
    steps: list[tuple[int, int]] = []
    deadline = time.monotonic() + LIMIT_S
    try:
        while any(have < end for have, end in zip(reached, ends, strict=True)):
            for worker in workers:
                worker.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {LIMIT_S:g} s the workers had reached {reached} of {ends}")
            for tp, batch in (await consumer.getmany(timeout_ms=500)).items():
                for record in batch:
                    if record.key == HEADER_KEY and record.value is not None:
                        offset = DECODE_HEADER(record.value[EPOCH_BYTES:]).usage_offset + 1
                        steps.append((record.timestamp, offset - reached[tp.partition]))
                        reached[tp.partition] = offset
    finally:
        await consumer.stop()
    steps.sort()
    totals = itertools.accumulate(count for _, count in steps)
    return [(at, total) for (at, _), total in zip(steps, totals, strict=True)]


def _rate(steps: list[tuple[int, int]], events: int) -> float:
    """Events/s between a tenth and 99 % of the records."""
    records = steps[-1][1]
    counts = [total for _, total in steps]
    first = bisect.bisect_left(counts, records * 0.10)
    last = max(bisect.bisect_left(counts, records * 0.99) - 1, first + 1)
    (began_ms, began), (ended_ms, ended) = steps[first], steps[last]
    return (ended - began) / records * events / (ended_ms - began_ms) * 1000


async def _run(bootstrap: str, contents: Iterable[tuple[int, bytes]], events: int, count: int) -> Run:
    prefix = system.fresh_prefix()
    ends = await system.prepare(bootstrap, prefix, contents)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = [
            stack.enter_context(system.Worker(bootstrap, prefix, Path(folder), str(number))) for number in range(count)
        ]
        await system.until_shared(workers)
        before_s = sum(worker.cpu_s() for worker in workers)
        await system.publish_catalogue(bootstrap, prefix)
        steps = await until_durable(bootstrap, prefix, ends, workers)
        cpu_s = sum(worker.cpu_s() for worker in workers) - before_s
    return Run(_rate(steps, events), cpu_s / events * 1e6)


def run_envelopes(bootstrap: str, count: int, workers: int = 1) -> Run:
    """SDK envelopes."""
    return asyncio.run(_run(bootstrap, workload.envelopes(count), count, workers))


def run_records(bootstrap: str, count: int) -> Run:
    """One JSON event a record."""
    return asyncio.run(_run(bootstrap, workload.records(count), count, 1))
