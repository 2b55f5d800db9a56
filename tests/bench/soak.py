"""A steady load for long: ``make soak FOR=600``, 20,000 events/s through the embedded stack, into docs/soak.md.

Broker, ClickHouse, worker and sink run as in production, one node publishes. What is looked at is what must not grow:
each process's memory, and how far worker and sink are behind. In the end all that was published must be counted.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from sluicegate_schemas import topics
from stack.process import ChildProcess
from stack.report import environment
from stack.server import Server
from tests.bench import load, system
from tests.bench.decisions import python
from tests.bench.session import ROOT, Session
from tests.faults.memory import MEGABYTE, resident_bytes
from tests.faults.scene import PARTITIONS, WorkerLog, until
from tests.pipeline import Pipeline

DOCUMENT: Final = ROOT / "docs/soak.md"
EVENTS_PER_S: Final = 20_000
_WARM_S_MAX: Final = 180.0
_SAMPLES: Final = 120
_COUNTED_LIMIT_S: Final = 120.0
_ERRORS: Final = ("] ERROR", "] CRITICAL", "Traceback (most")
_COUNTED: Final = "SELECT sum(events) FROM usage_minute FINAL"


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``at_s`` after the load began: bytes of each process, and records that worker and sink have not taken in."""

    at_s: float
    memory: dict[str, int]
    worker_lag: int
    sink_lag: int


@dataclass
class Soak:
    """One run."""

    seconds: float
    per_s: float
    samples: list[Sample] = field(default_factory=list)
    eps: float = 0.0
    published: int = 0
    counted: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def warm_s(self) -> float:
        """The first minutes, in which caches and pools fill."""
        return min(_WARM_S_MAX, self.seconds / 3)

    @property
    def steady(self) -> list[Sample]:
        """What came after them."""
        return [one for one in self.samples if one.at_s >= self.warm_s]


async def _lag(admin: AIOKafkaAdminClient, bootstrap: str, group: str, topic: str) -> int:
    committed = await admin.list_consumer_group_offsets(
        group, partitions=[TopicPartition(topic, number) for number in range(PARTITIONS)]
    )
    ends = await system.ends(bootstrap, topic)
    return sum(ends[tp.partition] - max(0, at.offset) for tp, at in committed.items())


async def _watch(
    soak: Soak, pipeline: Pipeline, processes: Mapping[str, Server | ChildProcess], loading: subprocess.Popen[str]
) -> None:
    """Samples until the load is over. Raises AssertionError where a process ended."""
    bootstrap, began = pipeline.kafka.bootstrap, time.monotonic()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        while loading.poll() is None and (at_s := time.monotonic() - began) < soak.seconds:
            memory = {"publisher": resident_bytes(loading.pid)}
            for name, process in processes.items():
                assert process.pid is not None, f"{name} ended after {at_s:.0f} s"
                memory[name] = resident_bytes(process.pid)
            usage, state = pipeline.prefix + topics.USAGE.name, pipeline.prefix + topics.STATE.name
            worker_lag = await _lag(admin, bootstrap, f"{pipeline.prefix}workers", usage)
            sink_lag = await _lag(admin, bootstrap, f"{pipeline.prefix}sink", state)
            soak.samples.append(Sample(at_s, memory, worker_lag, sink_lag))
            await asyncio.sleep(max(1.0, soak.seconds / _SAMPLES))
    finally:
        await admin.close()


async def _count(soak: Soak, pipeline: Pipeline) -> None:
    """Waits until ClickHouse shows all that was published, as long as that may take."""
    client = await asyncio.to_thread(pipeline.address.connect)
    deadline = time.monotonic() + _COUNTED_LIMIT_S
    try:
        while soak.counted != soak.published and time.monotonic() < deadline:
            soak.counted = int((await asyncio.to_thread(client.query, _COUNTED)).result_rows[0][0] or 0)
            await asyncio.sleep(0.5)
    finally:
        client.close()


async def play(session: Session, folder: Path, soak: Soak) -> None:
    """Runs it."""
    pipeline = Pipeline(session.kafka, session.clickhouse, "soak", folder)
    loading: subprocess.Popen[str] | None = None
    try:
        await pipeline.start()
        log = WorkerLog(pipeline, "a", whole=True)
        await until("the worker owns all partitions", lambda: log.owned() == PARTITIONS)
        producer = AIOKafkaProducer(bootstrap_servers=pipeline.kafka.bootstrap)
        await producer.start()
        try:
            await system.send_commands(producer, pipeline.prefix, system.workload_commands())
        finally:
            await producer.stop()
        processes: dict[str, Server | ChildProcess] = {
            "broker": session.kafka,
            "ClickHouse": session.clickhouse,
            "worker": pipeline.workers["a"],
            "sink": pipeline.sink,
        }
        loading = python("load", pipeline.kafka.bootstrap, pipeline.prefix, soak.per_s, soak.seconds, 0)
        await _watch(soak, pipeline, processes, loading)
        said, _ = await asyncio.to_thread(loading.communicate, timeout=120)
        loaded = load.Loaded(*json.loads(said))
        soak.eps, soak.published = loaded.eps, loaded.events
        await _count(soak, pipeline)
        for name in ("worker-a", "sink"):
            lines = (folder / f"{name}.log").read_text(errors="replace").splitlines()
            soak.errors += [f"{name}: {line}" for line in lines if any(mark in line for mark in _ERRORS)]
    finally:
        if loading is not None:
            loading.kill()
            loading.wait()
        pipeline.close()


def _row(name: str, samples: Sequence[Sample]) -> str:
    values = [sample.memory[name] / MEGABYTE for sample in samples]
    slope, _ = linear_regression([sample.at_s / 60 for sample in samples], values)
    return f"| {name} | {values[0]:.0f} MB | {max(values):.0f} MB | {values[-1]:.0f} MB | {slope:+.2f} MB |"


def document(soak: Soak, command: str) -> str:
    """The page."""
    steady = soak.steady
    half = len(steady) // 2
    lags = [
        f"| {name} | {median(behind[:half]):,.0f} | {median(behind[half:]):,.0f} | {max(behind):,} |"
        for name, behind in (
            ("worker, records of usage", [one.worker_lag for one in steady]),
            ("sink, records of state", [one.sink_lag for one in steady]),
        )
    ]
    lines = [
        f"# {soak.seconds / 60:.3g} minutes at a steady load",
        "",
        f"Written by `{command}`: one worker, sink, broker and ClickHouse on one machine of",
        f"{environment()['processors']} processors, beside one node that publishes {soak.per_s:,.0f} events/s; "
        f"{soak.eps:,.0f} were reached.",
        "",
        f"Memory after the first {soak.warm_s:.0f} s, resident; what it grew by is the line through all samples:",
        "",
        "| process | then | highest | at the end | growth a minute |",
        "|---|---|---|---|---|",
        *(_row(name, steady) for name in steady[0].memory),
        "",
        "How far they are behind what stands in the log, as far as they have committed (once a second):",
        "",
        "| who | first half | second half | most |",
        "|---|---|---|---|",
        *lags,
        "",
        f"{soak.published:,} events were published, {soak.counted:,} are counted in ClickHouse; "
        f"{len(soak.errors)} errors were logged.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """The command; 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--for", dest="seconds", type=float, default=600.0, help="seconds; default %(default)g")
    parser.add_argument("--rate", type=float, default=EVENTS_PER_S, help="events a second; default %(default)g")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="the page to write; default docs/soak.md")
    options = parser.parse_args()
    soak = Soak(max(30.0, options.seconds), options.rate)
    with tempfile.TemporaryDirectory(prefix="sluicegate-soak-") as name:
        folder = Path(name)
        (folder / "pipeline").mkdir()
        with Session(folder, 1.0) as session:
            asyncio.run(play(session, folder / "pipeline", soak))
    page = document(soak, f"make soak FOR={soak.seconds:g}")
    options.document.write_text(page, "utf-8")
    sys.stdout.write(page)
    for error in soak.errors[:20]:
        sys.stdout.write(f"error: {error}\n")
    return 1 if soak.errors or soak.counted != soak.published else 0


if __name__ == "__main__":
    sys.exit(main())
