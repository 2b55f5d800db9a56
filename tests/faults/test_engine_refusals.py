"""Where going on would count wrongly a worker stops, says what happened, and what to do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from stack.kafka import Kafka
from tests.faults.engine_harness import System, producing

pytestmark = [pytest.mark.broker, pytest.mark.processes]


@pytest.fixture
async def system(kafka: Kafka, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[System]:
    made = System(kafka.bootstrap, fresh_prefix, tmp_path)
    try:
        await made.prepare()
        yield made
    finally:
        made.kill_all()


async def refused(system: System, name: str, **environment: str) -> str:
    """The log of a worker that must stop by itself, with an error as its code."""
    worker = system.start(name, **environment)
    assert await worker.ends(60) != 0
    return worker.log


async def test_a_source_trimmed_before_it_was_counted_is_refused_and_can_be_given_up(system: System) -> None:
    await system.feed(400, 10_000, seed=4)
    admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(system.prefix + "usage", 1): RecordsToDelete(before_offset=7)})
    finally:
        await admin.close()
    log = await refused(system, "refusing")
    assert "usage partition 1: the state wants offset 0 next, but the topic begins at 7" in log
    assert "SLUICEGATE_ACCEPT_LOST_SOURCE=1" in log
    accepting = system.start("accepting", SLUICEGATE_ACCEPT_LOST_SOURCE="1")
    await accepting.says("READY")
    await system.settled()


async def test_a_state_that_somebody_else_wrote_to_is_refused(system: System) -> None:
    async with producing(system.bootstrap) as producer:
        await producer.send_and_wait(system.prefix + "state", (2**40).to_bytes(8, "big") + b"[1]", b"k|x", partition=2)
    log = await refused(system, "refusing")
    assert "state partition 2 is damaged: 1 rows, but no flush header" in log


async def test_a_row_of_a_newer_release_is_refused(system: System) -> None:
    first = system.start("first")
    await first.says("READY")
    await system.feed(200, 10_000, seed=4)
    await system.settled()
    await system.stop_cleanly()
    log = await refused(system, "older", COUNTING_FORGET_TABLE="k|")
    assert "which this release cannot read (unknown table). A newer release wrote it." in log


async def test_a_changed_partition_count_is_refused(system: System) -> None:
    log = await refused(system, "growing", SLUICEGATE_PARTITIONS="6")
    assert "has 4 partitions, and this worker is set to 6" in log


async def test_a_setting_out_of_bounds_is_named(system: System) -> None:
    log = await refused(system, "wrong", SLUICEGATE_SESSION_S="soon")
    assert "SLUICEGATE_SESSION_S is 'soon', and must be seconds from 2 to 300" in log


async def test_a_worker_waits_for_the_first_catalogue_and_says_so(
    kafka: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    system = System(kafka.bootstrap, fresh_prefix, tmp_path)
    try:
        worker = system.start("early")
        await worker.says("no catalogue is published yet")
        await system.prepare()
        await system.feed(200, 10_000, seed=4)
        await system.settled()
        await system.stop_cleanly()
        assert (await system.verify()).faults == []
    finally:
        system.kill_all()
