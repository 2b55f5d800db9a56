"""The spool: envelopes on disk, first in, first out, whatever dies."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Publisher, PublisherSettings
from sluicegate.publisher.batcher import Envelope
from sluicegate.publisher.spool import Budget, Spool, SpoolQueue
from sluicegate.publisher.testing import MemoryTransport

from .test_publisher import event, until


def envelope(number: int, size: int = 100) -> Envelope:
    return Envelope(3, number, b"org_a", f"{number:0{size}}".encode(), 2, 0.0, 0)


def budget(bytes_max: int = 10**7) -> Budget:
    return Budget(bytes_max, lambda kind, message: None)


def drained(queue: SpoolQueue) -> list[int]:
    numbers = []
    while (found := queue.peek()[0]) is not None:
        numbers.append(int(found.value))
        queue.pop()
    return numbers


def settings(folder: Path, **more: Any) -> PublisherSettings:
    fast = {"retry_ms_min": 1, "retry_ms_max": 5, "linger_ms_min": 0, "spool_after_ms": 20, "spool_fsync_ms": 10}
    return PublisherSettings(**{"node": "n", "overflow": "spool", "spool_directory": folder} | fast | more)


def spooled_envelopes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.spool"))


def test_a_queue_gives_back_what_it_took_in_order_and_leaves_no_file(tmp_path: Path) -> None:
    bounds = budget()
    queue = SpoolQueue(tmp_path, 3, bounds, segment_bytes=500)
    assert queue.append([envelope(number) for number in range(20)]) == 20
    assert len(list(tmp_path.iterdir())) > 3
    assert (len(queue), queue.events) == (20, 40)
    assert drained(queue) == list(range(20))
    assert list(tmp_path.iterdir()) == []
    assert bounds.bytes_held == 0


def test_a_queue_takes_no_more_than_its_budget(tmp_path: Path) -> None:
    bounds = budget(1_000)
    queue = SpoolQueue(tmp_path, 3, bounds)
    written = queue.append([envelope(number) for number in range(20)])
    assert 0 < written < 20
    assert bounds.bytes_held <= 1_000
    assert drained(queue) == list(range(written))
    assert queue.append([envelope(1)]) == 1
    queue.close()


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = SpoolQueue(tmp_path, 3, budget())
    queue.append([envelope(1)])
    real = os.pwrite

    def full_after_ten_bytes(descriptor: int, data: bytes, at: int) -> int:
        if len(data) <= 50:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: len(data) - 50], at)

    monkeypatch.setattr(os, "pwrite", full_after_ten_bytes)
    assert queue.append([envelope(2), envelope(3)]) == 0
    monkeypatch.undo()
    assert queue.append([envelope(4)]) == 1
    queue.close()
    again = SpoolQueue(tmp_path, 3, budget())
    again.load([1])
    assert drained(again) == [1, 4]


@pytest.mark.parametrize("cut", [1, 60, 116])
def test_a_torn_tail_is_left_out_and_reported(tmp_path: Path, cut: int) -> None:
    queue = SpoolQueue(tmp_path, 3, budget())
    queue.append([envelope(number) for number in range(5)])
    queue.close()
    [path] = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    bounds = budget()
    again = SpoolQueue(tmp_path, 3, bounds)
    again.load([1])
    assert bounds.damaged_bytes > 0
    assert drained(again) == [0, 1, 2, 3]


def test_a_flipped_bit_ends_a_segment_but_not_the_next_one(tmp_path: Path) -> None:
    queue = SpoolQueue(tmp_path, 3, budget(), segment_bytes=500)
    queue.append([envelope(number) for number in range(8)])
    queue.close()
    first = min(tmp_path.iterdir())
    content = bytearray(first.read_bytes())
    content[150] ^= 1
    first.write_bytes(content)
    bounds = budget()
    again = SpoolQueue(tmp_path, 3, bounds)
    again.load([1, 2])
    assert drained(again) == [0, 4, 5, 6, 7]
    assert bounds.damaged_bytes == 117 * 3


def test_a_folder_belongs_to_one_spool_until_it_lets_go(tmp_path: Path) -> None:
    def warn(kind: str, message: str) -> None:
        raise AssertionError(message)

    owner = Spool(tmp_path, "a" * 24, 10**7, warn)
    owner.own(3).append([envelope(1)])
    other = Spool(tmp_path, "b" * 24, 10**7, warn)
    assert other.adopt() == []
    owner.close()
    [queue] = other.adopt()
    assert (queue.partition, drained(queue)) == (3, [1])
    assert other.adopt() == []
    other.close()
    assert [path.name for path in tmp_path.iterdir()] == []


async def test_nothing_touches_the_disk_while_kafka_is_there(tmp_path: Path) -> None:
    kafka = MemoryTransport()
    async with Publisher(settings(tmp_path, spool_after_ms=10_000), transport=kafka) as publisher:
        for _ in range(500):
            publisher.publish(**event())
            await asyncio.sleep(0)
        await until(lambda: publisher.stats().published == 500)
        assert os.listdir(tmp_path) == ["partitions"]


async def test_an_outage_goes_to_disk_and_arrives_in_order_afterwards(tmp_path: Path) -> None:
    kafka = MemoryTransport(partitions=2)
    publisher = Publisher(settings(tmp_path, buffer_events_max=50), transport=kafka)
    await publisher.start()
    await until(lambda: publisher.stats().connected)
    kafka.away = True
    for number in range(400):
        assert await publisher.publish_wait(**event(f"org_{number % 5}", subject=f"s{number}"))
    await until(lambda: publisher.stats().spooled == 400)
    assert publisher.stats().buffered == publisher.stats().in_flight == 0
    assert spooled_envelopes(tmp_path)
    kafka.away = False
    await until(lambda: publisher.stats().published == 400)
    await publisher.close()
    assert spooled_envelopes(tmp_path) == []
    by_org: dict[str, list[int]] = {}
    for found in kafka.counted():
        assert found.subject is not None
        by_org.setdefault(found.org_id, []).append(int(found.subject[1:]))
    assert by_org == {f"org_{org}": list(range(org, 400, 5)) for org in range(5)}


async def test_close_without_kafka_keeps_everything_for_the_next_process(tmp_path: Path) -> None:
    kafka = MemoryTransport(partitions=2)
    first = Publisher(settings(tmp_path), transport=kafka)
    await first.start()
    await until(lambda: first.stats().connected)
    kafka.away = True
    for number in range(30):
        first.publish(**event(subject=f"s{number}"))
    stats = await first.close(timeout_s=0.01)
    assert (stats.spooled, stats.lost) == (30, {})

    kafka.away = False
    second = Publisher(settings(tmp_path), transport=kafka)
    second.publish(**event(subject="s30"))
    await second.start()
    stats = await second.close()
    assert (stats.recovered, stats.accepted, stats.published) == (30, 1, 31)
    assert [found.subject for found in kafka.counted()] == [f"s{number}" for number in range(31)]
    assert first.stats().producer_id != second.stats().producer_id
    assert os.listdir(tmp_path) == ["partitions"]


async def test_a_start_without_kafka_spools_by_the_number_of_partitions_of_last_time(tmp_path: Path) -> None:
    kafka = MemoryTransport(partitions=2)
    async with Publisher(settings(tmp_path), transport=kafka) as publisher:
        await until(lambda: (tmp_path / "partitions").exists())
    kafka.away = True
    publisher = Publisher(settings(tmp_path), transport=kafka)
    await publisher.start()
    publisher.publish(**event())
    await until(lambda: publisher.stats().spooled == 1)
    await publisher.close(timeout_s=0)
    kafka.away = False
    async with Publisher(settings(tmp_path), transport=kafka):
        pass
    assert len(kafka.counted()) == 1


async def test_a_full_spool_drops_with_its_own_reason(tmp_path: Path) -> None:
    kafka = MemoryTransport(partitions=1)
    publisher = Publisher(settings(tmp_path, spool_bytes_max=2_000_000, buffer_events_max=2_000), transport=kafka)
    await publisher.start()
    await until(lambda: publisher.stats().connected)
    kafka.away = True
    taken = 0
    labels = {f"l{index}": "x" * 64 for index in range(8)}
    spool = publisher._spool
    assert spool is not None
    async with asyncio.timeout(20):
        while not publisher.stats().dropped:
            taken += publisher.publish(**event(labels=labels))
            await until(lambda: publisher._room.held_events < 1_000 or not spool.has_room)
    assert publisher.stats().dropped == {"spool_full": 1}
    assert publisher.stats().spool_bytes <= 2_000_000
    kafka.away = False
    stats = await publisher.close()
    assert stats.published == taken == len(kafka.counted())


async def test_a_disk_that_fails_leaves_the_events_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    kafka = MemoryTransport(partitions=1)
    publisher = Publisher(settings(tmp_path), transport=kafka)
    await publisher.start()
    await until(lambda: publisher.stats().connected)
    monkeypatch.setattr(os, "pwrite", full)
    kafka.away = True
    for number in range(20):
        publisher.publish(**event(subject=f"s{number}"))
    await until(lambda: "cannot be written" in (publisher.stats().last_error or ""))
    assert publisher.stats().spooled == 0
    kafka.away = False
    stats = await publisher.close()
    assert stats.published == 20
    assert [found.subject for found in kafka.counted()] == [f"s{number}" for number in range(20)]


_KILLED = """
import asyncio, sys
from pathlib import Path
from tests.unit.test_publisher import event
from tests.unit.test_publisher_spool import settings
from sluicegate import Publisher
from sluicegate.publisher.testing import MemoryTransport

async def main():
    kafka = MemoryTransport(partitions=2)
    publisher = Publisher(settings(Path(sys.argv[1])), transport=kafka)
    await publisher.start()
    while not publisher.stats().connected:
        await asyncio.sleep(0.001)
    kafka.away = True
    number = 0
    while True:
        publisher.publish(**event(subject=f"s{number}"))
        number += 1
        await asyncio.sleep(0.001)
        print(number, publisher.stats().spooled, flush=True)

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_spooled(tmp_path: Path) -> None:
    # fmt: off
    with subprocess.Popen(  # noqa: ASYNC220 (nothing else has to run meanwhile)
        [sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        # fmt: on
        try:
            assert process.stdout is not None
            spooled = 0
            for line in process.stdout:
                spooled = int(line.split()[1])
                if spooled > 100:
                    break
        finally:
            process.send_signal(signal.SIGKILL)
    kafka = MemoryTransport(partitions=2)
    async with Publisher(settings(tmp_path), transport=kafka) as publisher:
        pass
    found = [int(found.subject[1:]) for found in kafka.counted() if found.subject]
    assert found == list(range(len(found)))
    assert len(found) == publisher.stats().recovered >= spooled
    assert publisher.stats().lost == {}
