"""Disks that fill: each ends in one clear sentence or in the stated overflow, and goes on once there is room again.

The disks are small file systems in memory, so that the system itself says that they are full; where mounting is not
allowed the tests are skipped, and say so. (A limit on the size of files would be another fault: it leaves room for new
files, and never ends.)
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sluicegate import Publisher, PublisherSettings
from sluicegate.publisher.testing import MemoryTransport
from stack.clickhouse import ClickHouse
from stack.errors import StackError
from stack.kafka import Kafka
from streams.health import complaint
from tests.faults.scene import Traffic, WorkerLog, until
from tests.pipeline import Pipeline


class Disk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Takes all the room that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (65_536, 4_096, 1):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        """Gives it back."""
        self._ballast.unlink()


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Disk]:
    """A file system of ``size`` at ``folder``; skips the test where it cannot be mounted."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root alone")
    if subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("this machine does not let root mount a file system")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def publish(publisher: Publisher, count: int, numbers: Iterator[int]) -> int:
    """``count`` events with subjects of their own; returns how many were taken."""
    now_ms = time.time_ns() // 1_000_000
    return sum(
        publisher.publish(
            org_id=f"org_{number % 16}",
            operation="search.knn",
            started_at_ms=now_ms - 5,
            ts_ms=now_ms,
            duration_ms=5,
            status=200,
            api_key_id="key_1",
            subject=f"s{number}",
        )
        for number in (next(numbers) for _ in range(count))
    )


@pytest.mark.contract("8.2")
async def test_a_spool_on_a_full_disk_falls_back_to_memory_and_loses_nothing_that_it_took(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = iter(range(10**6))
    with disk(tmp_path / "small", "1m") as small, caplog.at_level(logging.WARNING):
        kafka = MemoryTransport(4)
        settings = PublisherSettings(
            node="node-1",
            overflow="spool",
            spool_directory=small.folder / "spool",
            spool_after_ms=20,
            spool_fsync_ms=50,
            retry_ms_max=100,
            buffer_events_max=1_000,
        )
        publisher = Publisher(settings, transport=kafka)
        await publisher.start()
        taken = publish(publisher, 100, numbers)
        await until("all is sent", lambda: publisher.stats().published == taken)
        kafka.away = True
        taken += publish(publisher, 200, numbers)
        await until("what waits is on disk", lambda: publisher.stats().spooled == 200)

        small.fill()
        offered, held = 0, taken
        while not publisher.stats().dropped:
            taken += publish(publisher, 100, numbers)
            offered += 100
            await asyncio.sleep(0.05)
            assert offered <= 20_000, "a full disk and a full memory drop"
        assert publisher.stats().dropped["buffer_full"] == offered - (taken - held)
        said = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
        assert len(said) == 1
        assert "No space left on device" in said[0]

        small.free()
        spooled = publisher.stats().spooled
        await until("the spool goes on", lambda: publisher.stats().spooled > spooled)
        await until("there is room again", lambda: publisher.stats().buffered + publisher.stats().in_flight < 500)
        taken += publish(publisher, 200, numbers)
        kafka.away = False
        await until("all is sent", lambda: publisher.stats().published == taken)
        await publisher.close()
        stats = publisher.stats()
        assert not stats.lost
        counts = Counter(event.subject for event in kafka.counted())
        assert counts.total() == taken == len(counts)


@pytest.mark.broker
@pytest.mark.engine
@pytest.mark.processes
@pytest.mark.timeout(400)
async def test_full_disks_of_worker_and_broker_end_in_a_sentence_and_change_no_total(
    clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        logs = stack.enter_context(disk(tmp_path / "broker", "96m"))
        work = stack.enter_context(disk(tmp_path / "work", "1m"))
        kafka = Kafka(logs.folder / "kafka")
        kafka.log = tmp_path / "kafka.log"
        stack.callback(kafka.kill)
        kafka.start()
        pipeline = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
        stack.callback(pipeline.close)
        pipeline.environment_of["worker-a"] = {"SLUICEGATE_DATA_DIR": str(work.folder / "a")}
        await pipeline.start()
        async with Traffic(pipeline, per_second=100.0) as traffic:
            worker = WorkerLog(pipeline, "a")
            work.fill()
            await until("the worker says so", lambda: "cannot be written" in worker.text())
            await asyncio.sleep(2)
            assert worker.text().count("cannot be written") == 1, "one line a failure"
            assert pipeline.workers["a"].running
            work.free()
            await until("its health is written again", lambda: complaint(work.folder / "a", 3) is None)

            logs.fill()
            await until("the broker ends", lambda: not kafka.running)
            with pytest.raises(StackError, match=r"the disk is full.*Free some space"):
                kafka.check()
            logs.free()
            await asyncio.to_thread(kafka.start)
        evidence = await pipeline.check()
        assert evidence.log.totals.events_counted == traffic.sent
