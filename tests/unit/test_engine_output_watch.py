"""What an owner does about others' records on its compacted outputs, with a broker that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from sluicegate_schemas.topics import ENTITLEMENTS
from streams.engine import output_watch
from streams.engine.output_watch import ForeignRecord, OutputWatch
from streams.settings import Settings
from tests.state_log import Record

LATE = Record(0, b"key:abc", b'{"sequence":{"epoch":3}}')
DEEP = Record(0, b"key:deep", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"sequence":{"epoch":3}}')


class FailingBroker:
    """Each topic ended at 0 at first, that of entitlements at ``len(records)`` since; the first read fails."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.reads = 0
        self.begun = False

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, await self.end(topic, partition)

    async def end(self, topic: str, partition: int) -> int:
        return len(self.records) if self.begun and topic.endswith(ENTITLEMENTS.name) else 0

    async def read(self, topic: str, partition: int, start: int, end: int, take: Callable[[Any], None]) -> None:
        self.reads += 1
        if self.reads == 1:
            raise KafkaConnectionError
        take(self.records[start:end])


async def watched(broker: FailingBroker, since: int | None = None) -> tuple[OutputWatch, asyncio.Queue[ForeignRecord]]:
    found = asyncio.Queue[ForeignRecord]()
    client: Any = broker
    watch = OutputWatch(
        0, client, Settings(), epoch=lambda: 5, found=lambda records: [found.put_nowait(one) for one in records]
    )
    broker.begun = since is not None
    await watch.begin([] if since is None else [0, since])
    broker.begun = True
    return watch, found


@asynccontextmanager
async def looking(watch: OutputWatch) -> AsyncIterator[None]:
    """While it runs, ten seconds at most."""
    running = asyncio.ensure_future(watch.run())
    try:
        async with asyncio.timeout(10):
            yield
    finally:
        running.cancel()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_watch, "LOOK_EVERY_S", 0.001)


async def test_a_late_record_that_could_not_be_read_at_first_is_contradicted_all_the_same() -> None:
    watch, found = await watched(FailingBroker([LATE]))
    async with looking(watch):
        assert await found.get() == (ENTITLEMENTS.name, LATE.key, LATE.value)


async def test_one_that_is_found_behind_an_own_record_too() -> None:
    watch, found = await watched(FailingBroker([LATE]))
    watch.sent(ENTITLEMENTS.name)
    contradiction = watch.acknowledged(ENTITLEMENTS.name, 1)
    assert contradiction is not None
    async with asyncio.timeout(10):
        await contradiction
    assert found.get_nowait() == (ENTITLEMENTS.name, LATE.key, LATE.value)


async def test_bytes_that_nobody_can_read_hide_no_late_record_behind_them() -> None:
    broker = FailingBroker([DEEP, LATE])
    broker.reads = 1
    watch, found = await watched(broker)
    watch.sent(ENTITLEMENTS.name)
    contradiction = watch.acknowledged(ENTITLEMENTS.name, 2)
    assert contradiction is not None
    await contradiction
    assert found.get_nowait() == (ENTITLEMENTS.name, LATE.key, LATE.value)


async def test_what_the_last_owner_wrote_after_its_last_flush_is_compared_and_not_what_it_had_flushed() -> None:
    flushed = Record(0, b"key:flushed", LATE.value)
    watch, found = await watched(FailingBroker([flushed, LATE]), since=1)
    assert watch.compared() == [0, 1], "it is not read yet, so a header must say so"
    async with looking(watch):
        assert await found.get() == (ENTITLEMENTS.name, LATE.key, LATE.value)
        assert found.empty()
        assert watch.compared() == [0, 2]


async def test_a_log_that_is_shorter_than_the_last_owner_said_is_compared_as_a_whole() -> None:
    watch, found = await watched(FailingBroker([LATE]), since=7)
    assert watch.compared() == [0, 0]
    async with looking(watch):
        assert (await found.get())[1] == LATE.key


async def test_a_header_stays_before_a_late_record_that_nobody_has_read_yet() -> None:
    watch, _ = await watched(FailingBroker([LATE]))
    watch.sent(ENTITLEMENTS.name)
    contradiction = watch.acknowledged(ENTITLEMENTS.name, 1)
    assert contradiction is not None
    assert watch.compared() == [0, 0]
    await contradiction
    assert watch.compared() == [0, 2]
