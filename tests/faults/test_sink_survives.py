"""The sink as a real process, on a real broker and the ClickHouse engine, while things die around it."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from clickhouse_connect.driver.client import Client

from clickhouse.connection import ClickHouse
from clickhouse.migrate import migrate
from sluicegate_schemas.outputs import Decision, Scope, Sequence, decision_key
from sluicegate_schemas.state import parse_rollup_key
from sluicegate_schemas.topics import DECISIONS, STATE
from stack.clickhouse import ClickHouse as Engine
from stack.kafka import Kafka
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.state_log import Record, StateLog

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]

CHECKOUT = Path(__file__).resolve().parents[2]
PARTITIONS = 2
LIMIT_S = 60.0


class Sink:
    """A sink process that may be killed and started again."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**os.environ, **environment, "SLUICEGATE_DATA_DIR": str(folder)}
        self.log = folder / "sink.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "clickhouse.sink", "worker", "-l", "info"],
                cwd=CHECKOUT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


@contextmanager
def sink_process(clickhouse: ClickHouse, kafka: Kafka, prefix: str, folder: Path) -> Iterator[Sink]:
    sink = Sink(
        {
            "SLUICEGATE_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": f"{prefix}.",
            "SLUICEGATE_SINK_GROUP": f"{prefix}-sink",
            "SLUICEGATE_PARTITIONS": str(PARTITIONS),
            "SLUICEGATE_SESSION_S": "4",
            "SLUICEGATE_CLICKHOUSE_URL": clickhouse.url,
            "SLUICEGATE_CLICKHOUSE_USER": clickhouse.username,
            "SLUICEGATE_CLICKHOUSE_PASSWORD": clickhouse.password,
            "SLUICEGATE_CLICKHOUSE_DATABASE": clickhouse.database,
        },
        folder,
    )
    try:
        sink.start()
        yield sink
    finally:
        sink.kill()


async def until(what: str, condition: Callable[[], bool], sink: Sink) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert not sink.ended, f"the sink ended:\n{tail(sink)}"
        assert time.monotonic() < deadline, f"no {what} within {LIMIT_S} s; the sink said:\n{tail(sink)}"
        await asyncio.sleep(0.1)


def tail(sink: Sink) -> str:
    return "\n".join(sink.log.read_text(errors="replace").splitlines()[-40:])


async def append(producer: AIOKafkaProducer, topic: str, partition: int, batch: list[Record]) -> None:
    """One record batch, which must land where the model of the log has it."""
    builder = producer.create_batch()
    for record in batch:
        assert builder.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
    metadata = await (await producer.send_batch(builder, topic, partition=partition))
    assert metadata.offset == batch[0].offset


def a_decision(number: int) -> Decision:
    return Decision(
        decision_id=f"d-{number}",
        scope=Scope(kind="organization", id="org_a"),
        verdict="block" if number % 2 else "allow",
        limit_name="credits",
        limit=1000,
        observed=1000 + number,
        until=None,
        tier="free",
        plan_version=1,
        cause=None,
        decided_at=datetime.now(UTC),
        sequence=Sequence(epoch=1 << 32, counter=number),
    )


def table(client: Client) -> dict[tuple[object, ...], tuple[int, ...]]:
    rows = client.query(
        "SELECT source, org_id, api_key_id, operation, intDiv(toUnixTimestamp(minute), 60), chunk, requests, units, "
        "credits_micro, events FROM usage_minute FINAL WHERE events > 0"
    ).result_rows
    return {row[:6]: row[6:] for row in rows}


def truth(logs: list[StateLog], topic: str) -> dict[tuple[object, ...], tuple[int, ...]]:
    return {
        (f"{topic}/{partition}", *parse_rollup_key(key)): (cell.requests, cell.units, cell.credits_micro, cell.events)
        for partition, log in enumerate(logs)
        for key, cell in log.truth.items()
    }


async def test_totals_are_exact_though_the_sink_is_killed_and_clickhouse_goes_away(
    kafka: Kafka, engine: Engine, fresh_prefix: str, tmp_path: Path
) -> None:
    clickhouse = ClickHouse(engine.url, engine.username, engine.password, fresh_prefix)
    migrate(clickhouse)
    await ensure_topics(
        Settings(bootstrap_servers=kafka.bootstrap, topic_prefix=f"{fresh_prefix}.", partitions=PARTITIONS)
    )
    state, decisions = f"{fresh_prefix}.{STATE.name}", f"{fresh_prefix}.{DECISIONS.name}"
    minute = int(time.time()) // 60 - 60
    logs = [StateLog(random.Random(seed), minute=minute) for seed in range(PARTITIONS)]
    written = [0] * PARTITIONS
    sent = 0

    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()

    async def work(steps: int) -> None:
        nonlocal sent
        for _ in range(steps):
            for partition, log in enumerate(logs):
                log.step()
                for batch in log.batches[written[partition] :]:
                    await append(producer, state, partition, batch)
                written[partition] = len(log.batches)
            sent += 1
            decision = a_decision(sent)
            key = decision_key(decision.scope, decision.limit_name).encode()
            await producer.send_and_wait(decisions, decision.model_dump_json().encode(), key=key, partition=0)
            await asyncio.sleep(0.005)

    client = clickhouse.connect()

    def rows() -> int:
        return int(client.query("SELECT count() FROM usage_minute").result_rows[0][0])

    def positions() -> dict[tuple[str, int], int]:
        query = "SELECT topic, partition, next_offset FROM sink_position FINAL"
        return {(topic, partition): offset for topic, partition, offset in client.query(query).result_rows}

    with sink_process(clickhouse, kafka, fresh_prefix, tmp_path) as sink:
        await work(60)
        await until("first rows", lambda: rows() > 0, sink)
        for _ in range(2):
            before = asyncio.create_task(work(60))
            await asyncio.sleep(0.3)
            sink.kill()
            await before
            sink.start()
            await work(20)
        engine.kill()
        await work(100)
        assert not sink.ended, tail(sink)
        engine.start()
        await work(50)
        for log in logs:
            log.repair()
        await work(1)
        for partition, log in enumerate(logs):
            log.repair()
            for batch in log.batches[written[partition] :]:
                await append(producer, state, partition, batch)
        await producer.stop()

        ends = {(state, partition): log.end for partition, log in enumerate(logs)} | {(decisions, 0): sent}
        await until("end of the log", lambda: positions().items() >= ends.items(), sink)
        assert table(client) == truth(logs, state)
        decided = client.query("SELECT decision_id FROM decision FINAL").result_rows
        assert sorted(decided) == sorted((f"d-{number}",) for number in range(1, sent + 1))

        group = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{fresh_prefix}-sink")
        await group.start()
        try:
            deadline = time.monotonic() + LIMIT_S
            wanted = {name: end for name, end in ends.items() if name[0] == state}
            while (
                committed := {name: await group.committed(TopicPartition(*name)) for name in wanted}
            ) != wanted and time.monotonic() < deadline:
                assert all((committed[name] or 0) <= end for name, end in wanted.items())
                await asyncio.sleep(0.1)
            assert committed == wanted, "the group says what is durable"
        finally:
            await group.stop()
    said = sink.log.read_text(errors="replace")
    assert said.count("ClickHouse cannot be written to") <= 2, "one line an outage, not one a try"
    client.close()
