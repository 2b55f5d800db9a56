"""A replay of recorded traffic under another plan decides what a worker decides that runs live under that plan."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluicegate.brokers import Brokers
from sluicegate.operator.publish import publish
from sluicegate_schemas import topics
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.files import load_accounts, load_catalogue
from sluicegate_schemas.outputs import Balance, Decision
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.replay import ReplayReport
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY
from stack.kafka import Kafka
from stack.process import ChildProcess
from stack.topic_log import end_offsets, read_topic
from streams.replay.log import Asked, replay
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.recorded_hour import HOUR_MS, ROOT, other_plan, records

pytestmark = [pytest.mark.broker, pytest.mark.processes]

PARTITIONS = 2
LIMIT_S = 90.0
OWN_TIMES = {"message.timestamp.type": "CreateTime"}
"""So that an hour of log is written in a second."""


async def past(kafka: Kafka, prefix: str, begins_ms: int) -> None:
    """Topics that hold the accounts, and the recorded hour as it would have been appended from ``begins_ms`` on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        names = [prefix + topic.name for topic in (topics.USAGE, topics.ACCOUNTS)]
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=OWN_TIMES) for name in names])
    finally:
        await admin.close()
    await ensure_topics(Settings(bootstrap_servers=kafka.bootstrap, topic_prefix=prefix, partitions=PARTITIONS))
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        for command in load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8")):
            await producer.send(
                prefix + topics.ACCOUNTS.name,
                command.model_dump_json(exclude_none=True).encode(),
                key=command.account_id.encode(),
                partition=partition_of(command.account_id, PARTITIONS),
                timestamp_ms=begins_ms - 1_000,
            )
        for record in records(begins_ms, PARTITIONS):
            await producer.send(
                prefix + topics.USAGE.name,
                record.value,
                key=record.account_id.encode(),
                partition=record.partition,
                timestamp_ms=record.log_time_ms,
            )
    finally:
        await producer.stop()


@pytest.fixture
async def worker(kafka: Kafka, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[ChildProcess]:
    """A worker on the topics ``<fresh_prefix>.live.``, not started."""
    child = ChildProcess(
        "worker",
        [sys.executable, "-m", "faust", "-A", "streams.app", "worker", "--loglevel", "info"],
        log=tmp_path / "worker.log",
        cwd=ROOT,
        environment={
            "SLUICEGATE_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": f"{fresh_prefix}.live.",
            "SLUICEGATE_PARTITIONS": str(PARTITIONS),
            "SLUICEGATE_GROUP": f"{fresh_prefix}.live",
            "SLUICEGATE_DATA_DIR": str(tmp_path / "worker"),
        },
        stop_limit_s=20,
    )
    yield child
    child.kill()


async def taken_in(kafka: Kafka, prefix: str, ends: dict[int, int], child: ChildProcess) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        reached: dict[int, int] = {}
        async for record in read_topic(kafka.bootstrap, prefix + topics.STATE.name):
            if record.key == HEADER_KEY and record.value is not None:
                reached[record.partition] = DECODE_HEADER(record.value[EPOCH_BYTES:]).usage_offset
        if all(reached.get(partition, -1) >= end - 1 for partition, end in ends.items()):
            return
        assert child.running, child.log_tail()
        assert time.monotonic() < deadline, (reached, ends, child.log_tail())
        await asyncio.sleep(0.3)


def told(decision: Decision) -> str:
    return decision.model_dump_json(exclude={"sequence"})


async def test_a_replay_under_a_plan_equals_a_worker_live_under_that_plan(
    kafka: Kafka, fresh_prefix: str, worker: ChildProcess, tmp_path: Path
) -> None:
    recorded, live = f"{fresh_prefix}.recorded.", f"{fresh_prefix}.live."
    plan = tmp_path / "new.toml"
    plan.write_text(other_plan(), "utf-8")
    begins_ms = (time.time_ns() // 1_000_000 - HOUR_MS) // 60_000 * 60_000 - 60_000
    ends_ms = begins_ms + HOUR_MS
    for prefix in (recorded, live):
        await past(kafka, prefix, begins_ms)
    brokers, now = Brokers(kafka.bootstrap), datetime.now(UTC)
    for prefix, text in ((recorded, (ROOT / "catalogue/default.toml").read_text("utf-8")), (live, other_plan())):
        await publish(
            brokers, topic_prefix=prefix, catalogue=load_catalogue(text), commands=[], now=now, lead=timedelta(0),
            by="tests",
        )  # fmt: skip
    ends = await end_offsets(kafka.bootstrap, live + topics.USAGE.name)
    worker.start()
    await taken_in(kafka, live, ends, worker)
    worker.stop()

    replayed: list[Decision] = []
    asked = Asked(load_catalogue(other_plan()), begins_ms - 1, ends_ms)
    report = await replay(brokers, recorded, asked, replayed.append)

    decisions: dict[str, Decision] = {}
    async for record in read_topic(kafka.bootstrap, live + topics.DECISIONS.name):
        if record.value is not None:
            decision = Decision.model_validate_json(record.value)
            decisions[told(decision)] = decision
    end = from_epoch_ms(ends_ms)  # later the worker's clock goes on, and the replay's does not
    in_the_hour = {text for text, one in decisions.items() if one.decided_at < end}
    assert len(in_the_hour) > 100
    assert sorted(told(one) for one in replayed if one.decided_at < end) == sorted(in_the_hour)

    blocked = {one.decision_id for one in decisions.values() if one.verdict == "block"}
    assert report.blocks
    assert {block.decision_id for block in report.blocks} <= blocked
    assert {"credits", "compute_per_minute"} <= {block.limit_name for block in report.blocks}

    used: dict[str, int] = {}
    async for record in read_topic(kafka.bootstrap, live + topics.BALANCES.name):
        balance = Balance.model_validate_json(record.value or b"")
        if balance.kind == "organization":
            used[balance.id] = max(used.get(balance.id, 0), balance.used_micro)
    cost: dict[str, int] = {one.organization_id: one.credits_micro for one in report.organizations}
    assert cost == {name: micro for name, micro in used.items() if micro}
    assert report.events == 8_819
    assert report.rejected == 0

    said = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "sluicegate.cli", "replay", "--json", "--plan", plan),
            *("--from", (from_epoch_ms(begins_ms - 1)).isoformat(), "--to", from_epoch_ms(ends_ms).isoformat()),
            *("--bootstrap-servers", kafka.bootstrap, "--topic-prefix", recorded),
        ],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert said.returncode == 0, said.stderr.decode()
    assert ReplayReport.model_validate(json.loads(said.stdout), strict=False) == report
