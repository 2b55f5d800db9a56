"""Counting workers as real processes on a real broker: start, feed, kill, stop, verify."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.files import load_catalogue
from streams.health import complaint
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.faults.crash_log import crash_excerpt
from tests.faults.engine_verifier import Report, verify

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
SESSION_S = 4.0


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer; what it holds is sent at the end."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


class Worker:
    """One counting worker process; its log is a file."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path, module: str) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._data = Path(environment["SLUICEGATE_DATA_DIR"])
        self._log = self.log_path.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", module, "worker", "-l", "info"],
            cwd=ROOT,
            env={**os.environ, **environment, "SLUICEGATE_WORKER_NAME": name},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def health(self, max_age_s: float = 15) -> str:
        """What ``python -m streams.health`` says of it: nothing where it is well."""
        return complaint(self._data, max_age_s) or ""

    async def says(self, text: str, *, times: int = 1, limit_s: float = 40) -> None:
        """Waits until the log holds ``text`` so many times."""
        await eventually(lambda: self.log.count(text) >= times, f"{self.name} to say {text!r}", limit_s, self)

    async def ends(self, limit_s: float = 30) -> int:
        """Waits for the process's end; returns its code."""
        await eventually(lambda: self.process.poll() is not None, f"{self.name} to end", limit_s)
        return int(self.process.returncode)

    @property
    def is_stopped(self) -> bool:
        """Whether the process is paused by a signal."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, whatever state the process is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()


async def eventually(holds: Callable[[], bool], what: str, limit_s: float, worker: Worker | None = None) -> None:
    """Waits until ``holds()``; fails after ``limit_s``, or when ``worker`` has died."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if worker is not None and worker.process.poll() is not None and not holds():
            raise AssertionError(f"waited for {what}, but the process ended:\n{crash_excerpt(worker.log)}")
        if time.monotonic() > deadline:
            tail = f":\n{crash_excerpt(worker.log)}" if worker else ""
            raise AssertionError(f"waited {limit_s} s for {what}{tail}")
        await asyncio.sleep(0.05)


class System:
    """A generation of topics with counting workers on it."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix + "."
        self.folder = folder
        self.workers: list[Worker] = []
        self.environment = {
            "SLUICEGATE_BOOTSTRAP_SERVERS": bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": self.prefix,
            "SLUICEGATE_PARTITIONS": str(PARTITIONS),
            "SLUICEGATE_GROUP": self.prefix + "workers",
            "SLUICEGATE_SINK_GROUP": self.prefix + "sink",
            "SLUICEGATE_SESSION_S": str(SESSION_S),
            "SLUICEGATE_LEASE_MARGIN_S": "0.5",
            "SLUICEGATE_TICK_INTERVAL_S": "1",
            "SLUICEGATE_CATALOGUE_AGE_MAX_S": "10",
        }
        self.settings = Settings.from_environment(self.environment)

    async def prepare(self) -> None:
        """Topics, a catalogue, and the accounts that envelopes name."""
        await ensure_topics(self.settings)
        catalogue = load_catalogue((ROOT / "catalogue" / "default.toml").read_text())
        record = CatalogueRecord(catalogue=catalogue, published_at=catalogue.effective_at, published_by="test")
        async with producing(self.bootstrap) as producer:
            await producer.send_and_wait(
                self.prefix + "catalog", record.model_dump_json().encode(), key=str(catalogue.version).encode()
            )
            for partition in range(PARTITIONS):
                for number in range(5):
                    command = json.dumps({"account": f"account{number}"}).encode()
                    await producer.send_and_wait(self.prefix + "accounts", command, partition=partition)

    def start(self, name: str, module: str = "tests.faults.counting_worker", **environment: str) -> Worker:
        """Starts a worker; ``kill_all`` ends it."""
        data = {"SLUICEGATE_DATA_DIR": str(self.folder / f"data-{name}")}
        worker = Worker(name, {**self.environment, **data, **environment}, self.folder, module)
        self.workers.append(worker)
        return worker

    def kill_all(self) -> None:
        for worker in self.workers:
            worker.kill()

    async def feed(self, envelopes: int, per_second: int, seed: int) -> int:
        """Sends ``envelopes``, 2 % of them twice and 1 % for an unknown account; returns the events sent once."""
        draw = random.Random(seed)
        sequences = [0] * PARTITIONS
        events = 0
        started_at = time.monotonic()
        async with producing(self.bootstrap) as producer:
            for number in range(envelopes):
                partition = draw.randrange(PARTITIONS)
                sequences[partition] += 1
                account = "nobody" if draw.random() < 0.01 else f"account{draw.randrange(5)}"
                envelope = {
                    "producer": f"p{seed}-{partition}",
                    "sequence": sequences[partition],
                    "account": account,
                    "events": [
                        [f"key{draw.randrange(400)}", draw.randrange(1, 100)] for _ in range(draw.randrange(1, 40))
                    ],
                }
                events += len(envelope["events"])  # type: ignore[arg-type]  # a list, among other values
                for _ in range(2 if draw.random() < 0.02 else 1):
                    await producer.send(self.prefix + "usage", json.dumps(envelope).encode(), partition=partition)
                ahead_s = number / per_second - (time.monotonic() - started_at)
                if ahead_s > 0.02:
                    await asyncio.sleep(ahead_s)
        return events

    async def settled(self, limit_s: float = 60) -> None:
        """Waits until the group has committed the end of the usage topic, but for the ticks that keep coming."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.settings.group)
        await consumer.start()
        try:
            tps = [TopicPartition(self.prefix + "usage", partition) for partition in range(PARTITIONS)]
            ends = await consumer.end_offsets(tps)
            deadline = time.monotonic() + limit_s
            while True:
                committed = {tp: await consumer.committed(tp) or 0 for tp in tps}
                if all(committed[tp] >= ends[tp] for tp in tps):
                    return
                if time.monotonic() > deadline:
                    tails = "\n".join(f"{worker.name}: {crash_excerpt(worker.log)}" for worker in self.workers)
                    raise AssertionError(f"not counted after {limit_s} s: {committed} of {ends}\n{tails}")
                await asyncio.sleep(0.1)
        finally:
            await consumer.stop()

    async def stop_cleanly(self) -> None:
        """SIGTERM to all; each flushes and leaves."""
        alive = [worker for worker in self.workers if worker.process.poll() is None]
        for worker in alive:
            worker.send(signal.SIGTERM)
        for worker in alive:
            await worker.ends()

    async def verify(self) -> Report:
        """The verdict on everything so far; the workers must have stopped."""
        return await verify(self.bootstrap, self.prefix, PARTITIONS)
