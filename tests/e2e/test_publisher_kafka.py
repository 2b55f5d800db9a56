"""The publisher against a real broker that is killed, frozen and started again."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluicegate import Publisher, PublisherSettings
from sluicegate.publisher import Position
from sluicegate.publisher.testing import MemoryRecord, MemoryTransport
from sluicegate_schemas.partitioning import partition_of
from stack.kafka import Kafka

pytestmark = [pytest.mark.broker, pytest.mark.processes]
PARTITIONS = 4


def event(org: str, subject: str) -> Any:
    now_ms = time.time_ns() // 1_000_000
    return {
        "org_id": org, "api_key_id": "key_1", "operation": "search.knn", "started_at_ms": now_ms - 20, "ts_ms": now_ms,
        "duration_ms": 20, "status": 200, "subject": subject,
    }  # fmt: skip


async def make_topic(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"{prefix}usage", PARTITIONS, 1)])
    finally:
        await admin.close()


async def read_log(bootstrap: str, prefix: str) -> MemoryTransport:
    """The topic's content, as the log of a transport in memory."""
    log = MemoryTransport(PARTITIONS)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        places = [TopicPartition(f"{prefix}usage", number) for number in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for place, records in (await consumer.getmany(timeout_ms=1_000)).items():
                log.log += [MemoryRecord(place.partition, record.key, record.value) for record in records]
    finally:
        await consumer.stop()
    return log


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition belongs to several tasks; the time-out limits it)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def traffic(publisher: Publisher, eps: int) -> AsyncIterator[dict[str, list[str]]]:
    """Publishes numbered events of seven organizations all the time; gives what was taken, in order."""
    taken: dict[str, list[str]] = {f"org_{number}": [] for number in range(7)}

    async def run() -> None:
        number = 0
        while True:
            org, subject = f"org_{number % 7}", f"s{number}"
            if publisher.publish(**event(org, subject)):
                taken[org].append(subject)
            number += 1
            await asyncio.sleep(1 / eps)

    task = asyncio.create_task(run())
    try:
        yield taken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def counted_by_org(log: MemoryTransport) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {f"org_{number}": [] for number in range(7)}
    for counted in log.counted():
        found[counted.org_id].append(counted.subject or "")
    return found


async def test_events_are_in_the_topic_where_the_tap_said_they_would_be(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    await make_topic(kafka.bootstrap, prefix)
    tapped: dict[Position, str | None] = {}
    settings = PublisherSettings(bootstrap_servers=kafka.bootstrap, node="node-1", topic_prefix=prefix)
    publisher = Publisher(settings, tap=lambda found, position: tapped.__setitem__(position, found.subject))
    await publisher.start()
    for number in range(3_000):
        assert publisher.publish(**event(f"org_{number % 50}", f"s{number}"))
    stats = await publisher.close()
    assert (stats.published, stats.lost, stats.last_error) == (3_000, {}, None)
    log = await read_log(kafka.bootstrap, prefix)
    logged: dict[Position, str | None] = {}
    for record in log.log:
        envelope = record.envelope
        assert record.key is not None
        assert partition_of(record.key.decode(), PARTITIONS) == record.partition
        for index, found in enumerate(envelope.events):
            origin = (record.partition, envelope.producer_id, envelope.producer_epoch, envelope.sequence, index)
            logged[Position(*origin)] = found.subject
    assert logged == tapped
    assert len(logged) == 3_000


async def test_a_publisher_waits_for_a_topic_that_does_not_exist_yet(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    settings = PublisherSettings(bootstrap_servers=kafka.bootstrap, node="n", topic_prefix=prefix, retry_ms_max=200)
    publisher = Publisher(settings)
    await publisher.start()
    publisher.publish(**event("org_1", "early"))
    await until(lambda: "does not exist" in (publisher.stats().last_error or ""))
    await make_topic(kafka.bootstrap, prefix)
    await until(lambda: publisher.stats().published == 1)
    await publisher.close()


@pytest.mark.parametrize("overflow", ["drop", "spool"])
async def test_a_broker_killed_and_started_again_costs_nothing_that_was_taken(
    broker: Kafka, fresh_prefix: str, tmp_path: Path, overflow: Any
) -> None:
    prefix = f"{fresh_prefix}."
    await make_topic(broker.bootstrap, prefix)
    bounded = {"buffer_events_max": 300} if overflow == "drop" else {"spool_directory": tmp_path, "spool_after_ms": 300}
    settings = PublisherSettings(
        bootstrap_servers=broker.bootstrap, node="n", topic_prefix=prefix, overflow=overflow, request_timeout_ms=2_000,
        retry_ms_max=500, **bounded,  # type: ignore[arg-type]  # two shapes of one dictionary
    )  # fmt: skip
    publisher = Publisher(settings)
    await publisher.start()
    async with traffic(publisher, 300) as taken:
        await until(lambda: publisher.stats().published > 200)
        broker.kill()
        if overflow == "drop":
            await until(lambda: publisher.stats().dropped.get("buffer_full", 0) > 50)
        else:
            await until(lambda: publisher.stats().spooled > 300)
        await asyncio.to_thread(broker.start)
        back = publisher.stats().published
        await until(lambda: publisher.stats().published > back + 300)
    stats = await publisher.close(timeout_s=30)
    assert (stats.lost, stats.buffered, stats.in_flight, stats.spooled) == ({}, 0, 0, 0)
    assert stats.published == stats.accepted == sum(map(len, taken.values()))
    if overflow == "spool":
        assert stats.dropped == {}
    assert counted_by_org(await read_log(broker.bootstrap, prefix)) == taken


async def test_a_frozen_broker_is_waited_for_and_publish_stays_quick(
    broker: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    prefix = f"{fresh_prefix}."
    await make_topic(broker.bootstrap, prefix)
    settings = PublisherSettings(
        bootstrap_servers=broker.bootstrap, node="n", topic_prefix=prefix, overflow="spool", spool_directory=tmp_path,
        spool_after_ms=200, request_timeout_ms=1_000, retry_ms_max=300,
    )  # fmt: skip
    publisher = Publisher(settings)
    await publisher.start()
    async with traffic(publisher, 300) as taken:
        await until(lambda: publisher.stats().published > 100)
        broker.pause()
        await until(lambda: publisher.stats().spooled > 500)
        broker.resume()
        await until(lambda: publisher.stats().spooled == 0)
    stats = await publisher.close(timeout_s=30)
    assert stats.published == sum(map(len, taken.values()))
    assert counted_by_org(await read_log(broker.bootstrap, prefix)) == taken


_KILLED = """
import asyncio, sys
from pathlib import Path
from sluicegate import Publisher, PublisherSettings
from tests.e2e.test_publisher_kafka import event

async def main():
    publisher = Publisher(PublisherSettings(
        bootstrap_servers=sys.argv[1], node="n", topic_prefix=sys.argv[2], overflow="spool",
        spool_directory=Path(sys.argv[3]), spool_after_ms=100, request_timeout_ms=1000, retry_ms_max=200,
    ))
    await publisher.start()
    number = 0
    while True:
        publisher.publish(**event(f"org_{number % 7}", f"s{number}"))
        number += 1
        await asyncio.sleep(0.002)
        stats = publisher.stats()
        print(stats.published, stats.spooled, flush=True)

asyncio.run(main())
"""


async def test_a_service_killed_during_an_outage_loses_at_most_what_was_younger_than_the_spool(
    broker: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    prefix = f"{fresh_prefix}."
    await make_topic(broker.bootstrap, prefix)
    arguments = [sys.executable, "-c", _KILLED, broker.bootstrap, prefix, str(tmp_path)]
    # fmt: off
    with subprocess.Popen(  # noqa: ASYNC220 (nothing else has to run meanwhile)
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        # fmt: on
        safe = 0
        try:
            assert process.stdout is not None
            down = False
            for line in process.stdout:
                published, spooled = map(int, line.split())
                safe = published + spooled
                if published > 200 and not down:
                    broker.kill()
                    down = True
                if spooled > 300:
                    break
        finally:
            process.send_signal(signal.SIGKILL)
    assert safe > 500
    await asyncio.to_thread(broker.start)
    settings = PublisherSettings(
        bootstrap_servers=broker.bootstrap, node="n", topic_prefix=prefix, overflow="spool", spool_directory=tmp_path
    )
    async with Publisher(settings) as heir:
        await until(lambda: heir.stats().recovered > 0 and heir.stats().spooled == 0)
    counted = counted_by_org(await read_log(broker.bootstrap, prefix))
    total = sum(map(len, counted.values()))
    assert total >= safe
    for number in range(7):
        numbers = [int(subject[1:]) for subject in counted[f"org_{number}"]]
        assert numbers == list(range(number, number + 7 * len(numbers), 7))


async def test_publish_costs_microseconds_and_a_publisher_keeps_up_with_bare_aiokafka(
    kafka: Kafka, fresh_prefix: str, record_property: Callable[[str, object], None]
) -> None:
    prefix = f"{fresh_prefix}."
    await make_topic(kafka.bootstrap, prefix)
    count = 20_000
    bare = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    await bare.start()
    try:
        started = time.perf_counter()
        futures = [
            await bare.send(f"{prefix}usage", b"x" * 90, partition=number % PARTITIONS) for number in range(count)
        ]
        await asyncio.gather(*futures)
        bare_eps = count / (time.perf_counter() - started)
    finally:
        await bare.stop()

    publisher = Publisher(PublisherSettings(bootstrap_servers=kafka.bootstrap, node="n", topic_prefix=prefix))
    await publisher.start()
    await until(lambda: publisher.stats().connected)
    costs_us: list[float] = []
    started = time.perf_counter()
    for number in range(count):
        fields = event(f"org_{number % 50}", "s")
        before = time.perf_counter_ns()
        publisher.publish(**fields)
        costs_us.append((time.perf_counter_ns() - before) / 1_000)
        if number % 100 == 0:
            await asyncio.sleep(0)
    stats = await publisher.close()
    publisher_eps = count / (time.perf_counter() - started)
    costs_us.sort()
    figures = {
        "publish_p50_us": round(costs_us[count // 2], 1),
        "publish_p99_us": round(costs_us[count * 99 // 100], 1),
        "publisher_eps": round(publisher_eps),
        "bare_one_event_a_record_eps": round(bare_eps),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(figures)
    assert stats.published == count
    assert figures["publish_p99_us"] < 1_000
    assert publisher_eps > bare_eps / 3
