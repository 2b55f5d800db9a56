"""The publisher against a log in memory: what it takes, sends, drops and says."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate import Publisher, PublisherSettings
from sluicegate.publisher import Charge, Position, Refusal
from sluicegate.publisher.testing import MemoryTransport
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.partitioning import partition_of

NOW_MS = 1_795_291_000_000


def event(org: str = "org_acme", **more: Any) -> Any:
    return {
        "org_id": org,
        "api_key_id": "key_1",
        "operation": "search.knn",
        "started_at_ms": NOW_MS,
        "ts_ms": NOW_MS + 20,
        "duration_ms": 20,
        "status": 200,
    } | more


def settings(**more: Any) -> PublisherSettings:
    return PublisherSettings(**{"node": "node-1", "retry_ms_min": 1, "retry_ms_max": 5, "linger_ms_min": 0} | more)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition belongs to several tasks; the time-out limits it)
            await asyncio.sleep(0.001)


async def test_what_was_published_is_in_the_log_after_close() -> None:
    kafka = MemoryTransport(partitions=4)
    publisher = Publisher(settings(), transport=kafka)
    await publisher.start()
    for number in range(1_200):
        assert publisher.publish(**event(f"org_{number % 7}", subject=f"s{number}"))
    stats = await publisher.close()
    assert sorted(int(found.subject[1:]) for found in kafka.counted() if found.subject) == list(range(1_200))
    assert (stats.accepted, stats.published, stats.buffered, stats.in_flight) == (1_200, 1_200, 0, 0)
    assert kafka.closed


async def test_every_account_is_in_its_home_partition_under_a_key_that_leads_there() -> None:
    kafka = MemoryTransport(partitions=4)
    async with Publisher(settings(), transport=kafka) as publisher:
        for number in range(100):
            publisher.publish(**event(f"org_{number}"))
            publisher.publish(**event(f"org_{number}", account_id="org_pool"))
    for record in kafka.log:
        assert record.key is not None
        assert partition_of(record.key.decode(), 4) == record.partition
        for found in record.envelope.events:
            assert partition_of(found.account_id or found.org_id, 4) == record.partition


async def test_sequences_of_a_partition_start_at_one_and_have_no_gap() -> None:
    kafka = MemoryTransport(partitions=2)
    async with Publisher(settings(envelope_events_max=3), transport=kafka) as publisher:
        for number in range(50):
            publisher.publish(**event(f"org_{number}"))
    for partition in (0, 1):
        sequences = [record.envelope.sequence for record in kafka.log if record.partition == partition]
        assert sequences == list(range(1, len(sequences) + 1))


async def test_all_fields_arrive_as_they_were_given() -> None:
    kafka = MemoryTransport()
    async with Publisher(settings(), transport=kafka) as publisher:
        publisher.publish(
            **event(
                id="own:1",
                quantities={"tokens": 812},
                charges=(Charge("inference.llm", {"tokens": 800}, "gpt", True),),
                model="m",
                cached=True,
                labels={"pipeline": "p"},
                resource_delta={"collections": 1},
                subject="batch-1",
                account_id="org_root",
            )
        )
    assert kafka.counted() == [
        WireEvent(
            "own:1", "org_acme", "key_1", "search.knn", NOW_MS, NOW_MS + 20, 20, 200, {"tokens": 812}, "m", True,
            [Charge("inference.llm", {"tokens": 800}, "gpt", True)], {"pipeline": "p"}, {"collections": 1}, "batch-1",
            "org_root",
        )
    ]  # fmt: skip


async def test_a_dictionary_changed_after_publish_changes_nothing() -> None:
    kafka = MemoryTransport()
    quantities = {"tokens": 1}
    async with Publisher(settings(), transport=kafka) as publisher:
        publisher.publish(**event(quantities=quantities))
        quantities["tokens"] = 2
    assert kafka.counted()[0].quantities == {"tokens": 1}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"quantities": {"tokens": -1}}, "quantities.tokens"),
        ({"quantities": {"tokens": 10**40}}, "cannot be encoded"),
        ({"quantities": {"tokens": 1.0}}, "quantities"),
        ({"duration_ms": float("nan")}, "duration_ms"),
        ({"org_id": "acme"}, "org_id"),
        ({"org_id": "org_\ud800"}, "cannot be encoded"),
        ({"labels": {"pipeline": "x\n"}}, "labels"),
        ({"api_key_id": None}, "api_key_id"),
        ({"started_at_ms": NOW_MS + 21}, "started_at_ms"),
        ({"status": True}, "status"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"charges": object()}, "object"),
    ],
)
async def test_an_event_that_no_worker_would_accept_is_refused_without_an_exception(
    wrong: dict[str, Any], words: str
) -> None:
    kafka = MemoryTransport()
    refusals: list[Refusal] = []
    async with Publisher(settings(), transport=kafka, on_refused=refusals.append) as publisher:
        assert not publisher.publish(**event(**wrong))
        assert publisher.publish(**event())
    assert publisher.stats().refused == 1
    assert words in refusals[0].reason
    assert len(kafka.counted()) == 1


async def test_a_missing_field_is_refused_without_an_exception() -> None:
    async with Publisher(settings(), transport=MemoryTransport()) as publisher:
        assert not publisher.publish(org_id="org_acme")  # type: ignore[call-arg]  # the mistake under test
        assert publisher.stats().refused == 1


async def test_an_event_larger_than_the_border_takes_is_refused() -> None:
    huge = [Charge("a.b", {"tokens": 10**15}, "m" * 64) for _ in range(16)]
    async with Publisher(settings(), transport=MemoryTransport()) as publisher:
        assert publisher.publish(**event(charges=huge))
        assert not publisher.publish(**event(charges=huge * 2))


async def test_callbacks_that_raise_break_nothing() -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("not my day")

    kafka = MemoryTransport()
    async with Publisher(settings(), transport=kafka, on_refused=broken, tap=broken) as publisher:
        assert not publisher.publish(**event(status=0))
        assert publisher.publish(**event())
    assert len(kafka.counted()) == 1


async def test_the_tap_sees_each_event_where_the_log_has_it() -> None:
    kafka = MemoryTransport(partitions=2)
    tapped: dict[Position, str] = {}

    def tap(found: WireEvent, position: Position) -> None:
        assert position not in tapped
        tapped[position] = found.org_id

    async with Publisher(settings(envelope_events_max=4), transport=kafka, tap=tap) as publisher:
        for number in range(40):
            publisher.publish(**event(f"org_{number % 9}"))
    logged = {
        Position(
            record.partition, envelope.producer_id, envelope.producer_epoch, envelope.sequence, index
        ): found.org_id
        for record in kafka.log
        for envelope in [record.envelope]
        for index, found in enumerate(envelope.events)
    }
    assert tapped == logged
    assert len(tapped) == 40


async def test_start_does_not_need_kafka_and_what_was_published_meanwhile_arrives() -> None:
    kafka = MemoryTransport()
    kafka.away = True
    publisher = Publisher(settings(), transport=kafka)
    await publisher.start()
    for _ in range(10):
        assert publisher.publish(**event())
    assert publisher.stats().buffered == 10
    assert not publisher.stats().connected
    kafka.away = False
    await until(lambda: publisher.stats().published == 10)
    assert publisher.stats().connected
    await publisher.close()


async def test_events_published_before_start_are_sent_after_it() -> None:
    kafka = MemoryTransport()
    publisher = Publisher(settings(), transport=kafka)
    assert publisher.publish(**event())
    await publisher.start()
    await publisher.close()
    assert len(kafka.counted()) == 1


async def test_a_full_buffer_drops_the_newest_and_counts_them_before_they_get_a_sequence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kafka = MemoryTransport(partitions=1)
    kafka.away = True
    publisher = Publisher(settings(buffer_events_max=100), transport=kafka)
    await publisher.start()
    with caplog.at_level(logging.WARNING):
        taken = [publisher.publish(**event(subject=f"s{number}")) for number in range(150)]
    assert taken == [True] * 100 + [False] * 50
    assert publisher.stats().dropped == {"buffer_full": 50}
    assert sum("usage events are dropped" in text for text in caplog.messages) == 1
    kafka.away = False
    await publisher.close()
    assert [found.subject for found in kafka.counted()] == [f"s{number}" for number in range(100)]
    sequences = [record.envelope.sequence for record in kafka.log]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_the_buffer_is_bounded_in_bytes_too() -> None:
    kafka = MemoryTransport()
    kafka.away = True
    publisher = Publisher(settings(buffer_bytes_max=70_000), transport=kafka)
    await publisher.start()
    while publisher.publish(**event()):
        pass
    assert 100 < publisher.stats().accepted < 1_000
    await publisher.close(timeout_s=0)


async def test_publish_wait_waits_for_room() -> None:
    kafka = MemoryTransport()
    kafka.away = True
    publisher = Publisher(settings(buffer_events_max=2), transport=kafka)
    await publisher.start()
    waiting = [asyncio.create_task(publisher.publish_wait(**event(subject=f"s{number}"))) for number in range(20)]
    await until(lambda: publisher.stats().buffered == 2)
    assert sum(task.done() for task in waiting) == 2
    kafka.away = False
    assert await asyncio.gather(*waiting) == [True] * 20
    await publisher.close()
    assert [found.subject for found in kafka.counted()] == [f"s{number}" for number in range(20)]
    assert publisher.stats().dropped == {}


async def test_publish_wait_ends_with_close() -> None:
    kafka = MemoryTransport()
    kafka.away = True
    publisher = Publisher(settings(buffer_events_max=1), transport=kafka)
    await publisher.start()
    assert publisher.publish(**event())
    waiting = asyncio.create_task(publisher.publish_wait(**event()))
    await asyncio.sleep(0)
    stats = await publisher.close(timeout_s=0.05)
    assert await waiting is False
    assert stats.lost == {"unsent_at_close": 1}


async def test_close_says_what_it_had_to_give_up() -> None:
    kafka = MemoryTransport(partitions=1)
    publisher = Publisher(settings(envelope_events_max=1), transport=kafka)
    await publisher.start()
    publisher.publish(**event())
    await until(lambda: publisher.stats().published == 1)
    kafka.away = True
    publisher.publish(**event())
    publisher.publish(**event())
    await until(lambda: publisher.stats().in_flight == 1)
    stats = await publisher.close(timeout_s=0.05)
    assert stats.lost == {"unconfirmed_at_close": 1, "unsent_at_close": 1}
    assert not publisher.publish(**event())
    assert publisher.stats().dropped == {"closed": 1}
    assert "given up" in (stats.last_error or "")


async def test_an_unconfirmed_envelope_is_sent_again_before_any_later_one() -> None:
    kafka = MemoryTransport(partitions=1)
    kafka.faults.extend(["unconfirmed", "late", "lost", "none", "unconfirmed", "late"])
    async with Publisher(settings(envelope_events_max=1), transport=kafka) as publisher:
        for number in range(5):
            publisher.publish(**event(subject=f"s{number}"))
    assert [found.subject for found in kafka.counted()] == [f"s{number}" for number in range(5)]
    assert publisher.stats().retries == 5
    assert len(kafka.log) > 5


async def test_few_events_are_sent_at_once_and_many_share_envelopes() -> None:
    kafka = MemoryTransport(partitions=1)
    publisher = Publisher(settings(linger_ms_min=2, linger_ms_max=60, linger_full_eps=1_000), transport=kafka)
    await publisher.start()
    publisher.publish(**event())
    await until(lambda: publisher.stats().published == 1)
    lane = publisher._lanes[0]
    assert lane.batcher.linger_ms < 40
    for _ in range(300):
        publisher.publish(**event())
        await asyncio.sleep(0.0005)
    assert lane.batcher.linger_ms > 10
    assert len(kafka.log) < 150
    await publisher.close()


async def test_a_publisher_starts_once() -> None:
    publisher = Publisher(settings(), transport=MemoryTransport())
    await publisher.start()
    with pytest.raises(RuntimeError, match="starts once"):
        await publisher.start()
    await publisher.close()
    with pytest.raises(RuntimeError, match="starts once"):
        await publisher.start()


@pytest.mark.parametrize(
    "wrong",
    [
        {"node": "two words"},
        {"overflow": "spool"},
        {"overflow": "burn"},
        {"envelope_events_max": 501},
        {"envelope_bytes_max": 10_000_000},
        {"linger_ms_min": 200.0},
        {"buffer_events_max": 0},
    ],
)
def test_settings_that_make_no_sense_name_their_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings(**wrong)


async def test_a_transport_that_raises_anything_is_survived() -> None:
    class Odd(MemoryTransport):
        broken = 3

        async def send(self, partition: int, key: bytes | None, value: bytes) -> None:
            if self.broken:
                self.broken -= 1
                raise ZeroDivisionError
            await super().send(partition, key, value)

    kafka = Odd()
    async with Publisher(settings(), transport=kafka) as publisher:
        publisher.publish(**event())
    assert len(kafka.counted()) == 1
