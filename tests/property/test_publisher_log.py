"""Whatever happens between a publisher and Kafka, a worker counts each event once and in order."""

import asyncio
import os
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from sluicegate.publisher import Publisher, PublisherSettings, PublisherStats
from sluicegate.publisher.batcher import Batcher, Identity, Waiting
from sluicegate.publisher.testing import Fault, MemoryTransport
from sluicegate_schemas.bounds import ENVELOPE_EVENTS_MAX
from sluicegate_schemas.decode import decode_usage
from sluicegate_schemas.envelope import ENCODE, WireEnvelope, WireEvent

NOW_MS = 1_795_291_000_000
ORGANIZATIONS = 6

FAULTS: st.SearchStrategy[Fault] = st.sampled_from(["none", "lost", "unconfirmed", "late"])
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 30)),
    st.tuples(st.just("faults"), st.lists(FAULTS, min_size=1, max_size=6)),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("pause"), st.integers(0, 25)),
    st.tuples(st.just("outage"), st.integers(1, 30)),
    st.tuples(st.just("restart"), st.sampled_from(["close", "kill"])),
)


class Service:
    """An API service that publishes numbered events, and is restarted and killed."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.kafka = MemoryTransport(partitions=3)
        self.options = options
        self.accepted: dict[str, list[int]] = {f"org_{number}": [] for number in range(ORGANIZATIONS)}
        self.number = 0
        self.lost = 0

    async def start(self) -> None:
        self.disk_threads = ThreadPoolExecutor(4)
        asyncio.get_running_loop().set_default_executor(self.disk_threads)
        self.publisher = Publisher(PublisherSettings(**self.options), transport=self.kafka)
        await self.publisher.start()

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            org = f"org_{self.number * 7 % ORGANIZATIONS}"
            taken = self.publisher.publish(
                org_id=org, api_key_id="key_1", operation="search.knn", started_at_ms=NOW_MS, ts_ms=NOW_MS,
                duration_ms=0, status=200, subject=f"s{self.number}",
            )  # fmt: skip
            if taken:
                self.accepted[org].append(self.number)

    async def close(self, timeout_s: float) -> PublisherStats:
        stats = await self.publisher.close(timeout_s)
        accounted = stats.published + stats.buffered + stats.in_flight + stats.spooled + sum(stats.lost.values())
        assert stats.accepted + stats.recovered == accounted
        self.lost += sum(stats.lost.values())
        return stats

    async def kill(self) -> None:
        """What the kernel does: everything stops where it is, and locks are let go."""
        publisher = self.publisher
        tasks = [*publisher._tasks, *([publisher._spool_task] if publisher._spool_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.disk_threads.shutdown()
        self.lost += publisher.stats().buffered + publisher.stats().in_flight
        if (spool := publisher._spool) is not None:
            for folder in [*spool._adopted.values(), *([spool._own] if spool._own else [])]:
                os.close(folder.lock)
                for queue in folder.queues.values():
                    queue.close()

    def check(self, *, complete: bool) -> None:
        counted: dict[tuple[str, str], list[int]] = {}
        highest: dict[tuple[int, str], int] = {}
        for record in self.kafka.log:
            envelope = record.envelope
            origin = (record.partition, envelope.producer_id)
            before = highest.get(origin, 0)
            assert envelope.sequence <= before + 1, "no sequence arrives before the one before it"
            if envelope.sequence > before:
                highest[origin] = envelope.sequence
                for found in envelope.events:
                    numbers = counted.setdefault((found.org_id, envelope.producer_id), [])
                    numbers.append(int((found.subject or "")[1:]))
        missing = 0
        for org, accepted in self.accepted.items():
            # A killed process's last envelope may be under way still when its successor sends: order holds for each.
            by_producer = [numbers for (found_org, _), numbers in counted.items() if found_org == org]
            assert all(numbers == sorted(numbers) for numbers in by_producer), "in order"
            everything = [number for numbers in by_producer for number in numbers]
            assert len(everything) == len(set(everything)), "each once"
            assert set(everything) <= set(accepted)
            missing += len(accepted) - len(everything)
        if complete:
            assert missing <= self.lost, "what is not in the log is counted as lost"


async def live(service: Service, steps: list[tuple[str, Any]]) -> None:
    await service.start()
    await service.publisher._tasks[0]  # the number of partitions is known: from here on everything can be spooled
    for step, value in steps:
        if step == "publish":
            service.publish(value)
        elif step == "faults":
            service.kafka.faults.extend(value)
        elif step == "away":
            service.kafka.away = value
        elif step == "pause":
            await asyncio.sleep(value / 1000)
        elif step == "outage":
            service.kafka.away = True
            service.publish(value)
            await asyncio.sleep(0.02)
            service.kafka.away = False
            service.publish(value)
        elif value == "close":
            await service.close(0.01)
            await service.start()
        else:
            await service.kill()
            await service.start()
        service.check(complete=False)
    service.kafka.away = False
    service.kafka.faults.clear()
    stats = await service.close(5)
    assert stats.buffered == stats.in_flight == stats.spooled == 0
    service.check(complete=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=6, max_size=25))
def test_with_a_spool_only_a_kill_loses_events_and_no_more_than_were_in_memory(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "node": "n", "overflow": "spool", "spool_directory": Path(folder), "spool_after_ms": 10,
            "spool_takeover_ms": 10, "spool_fsync_ms": 1_000, "retry_ms_min": 1, "retry_ms_max": 2,
            "linger_ms_min": 0, "linger_ms_max": 1, "envelope_events_max": 4, "buffer_events_max": 200,
        }  # fmt: skip
        service = Service(options)
        asyncio.run(live(service, steps))
        if not any(value == "kill" for _, value in steps):
            assert service.lost == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=6, max_size=25))
def test_without_a_spool_what_is_missing_was_counted(steps: list[tuple[str, Any]]) -> None:
    options = {
        "node": "n", "retry_ms_min": 1, "retry_ms_max": 2, "linger_ms_min": 0, "linger_ms_max": 1,
        "envelope_events_max": 4, "buffer_events_max": 40,
    }  # fmt: skip
    service = Service(options)
    asyncio.run(live(service, steps))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3_000)), max_size=60),
    st.integers(1, ENVELOPE_EVENTS_MAX),
)
def test_envelopes_keep_order_and_both_bounds(arrivals: list[tuple[int, int]], events_max: int) -> None:
    options = PublisherSettings(node="n", envelope_events_max=events_max, envelope_bytes_max=66_000)
    batcher = Batcher(options, 5, 0.0)
    added: deque[WireEvent] = deque()
    seen: list[WireEvent] = []
    now_ms = 0.0
    sequence = 0
    for gap_ms, size in arrivals:
        now_ms += gap_ms
        event = WireEvent("x" * size, "org_a", None, "storage", 1, 1, 0, 200)
        added.append(event)
        batcher.add(Waiting("org_a", ENCODE(event), now_ms))
    while (due := batcher.due_in_ms(now_ms)) is not None:
        now_ms += max(due, 0.0)
        envelope = batcher.seal(batcher.take(now_ms), Identity("p"), 7)
        sequence += 1
        decoded = decode_usage(envelope.value)
        assert isinstance(decoded, WireEnvelope)
        assert decoded == WireEnvelope(1, "p", 1, sequence, 7, "n", decoded.events)
        assert len(decoded.events) == envelope.events <= events_max
        assert len(envelope.value) <= 66_000
        assert options.linger_ms_min <= batcher.linger_ms <= options.linger_ms_max
        seen += decoded.events
    assert seen == list(added)
