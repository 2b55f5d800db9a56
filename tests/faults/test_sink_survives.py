"""The sink as a real process, on a real broker and the ClickHouse engine, while things die around it."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
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
from streams.health import complaint
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
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "clickhouse.sink", "worker", "-l", "info"],
                cwd=CHECKOUT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said_since_start(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def stop(self) -> int:
        """The exit status of a sink that is asked to stop."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

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


class Traffic:
    """Workers' flushes and decisions, made up, as two partitions of the state topic and one of decisions."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self.state, self.decisions = f"{prefix}.{STATE.name}", f"{prefix}.{DECISIONS.name}"
        minute = int(time.time()) // 60 - 60
        self.logs = [StateLog(random.Random(seed), minute=minute) for seed in range(PARTITIONS)]
        self.decided = 0
        self._producer = producer
        self._written = [0] * PARTITIONS

    @property
    def ends(self) -> dict[tuple[str, int], int]:
        """Where each partition's log ends."""
        ends = {(self.state, partition): log.end for partition, log in enumerate(self.logs)}
        return ends | {(self.decisions, 0): self.decided}

    async def flow(self, steps: int) -> None:
        for _ in range(steps):
            for log in self.logs:
                log.step()
            await self._write()
            self.decided += 1
            decision = a_decision(self.decided)
            key = decision_key(decision.scope.text(), decision.limit_name).encode()
            await self._producer.send_and_wait(
                self.decisions, decision.model_dump_json().encode(), key=key, partition=0
            )
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Repairs what is void, as owners do."""
        for log in self.logs:
            log.repair()
        await self._write()

    async def _write(self) -> None:
        for partition, log in enumerate(self.logs):
            for batch in log.batches[self._written[partition] :]:
                await append(self._producer, self.state, partition, batch)
            self._written[partition] = len(log.batches)


@asynccontextmanager
async def traffic(kafka: Kafka, prefix: str) -> AsyncIterator[Traffic]:
    await ensure_topics(Settings(bootstrap_servers=kafka.bootstrap, topic_prefix=f"{prefix}.", partitions=PARTITIONS))
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        yield Traffic(producer, prefix)
    finally:
        await producer.stop()


async def all_is_there(client: Client, made: Traffic, sink: Sink) -> None:
    """Waits until the sink is through, then compares every cell and decision."""

    def positions() -> dict[tuple[str, int], int]:
        query = "SELECT topic, partition, next_offset FROM sink_position FINAL"
        return {(topic, partition): offset for topic, partition, offset in client.query(query).result_rows}

    await until("end of the log", lambda: positions().items() >= made.ends.items(), sink)
    assert table(client) == truth(made.logs, made.state)
    decided = client.query("SELECT decision_id FROM decision FINAL").result_rows
    assert sorted(decided) == sorted((f"d-{number}",) for number in range(1, made.decided + 1))


async def committed(kafka: Kafka, prefix: str, made: Traffic) -> dict[tuple[str, int], int]:
    """What the sink's group says is durable on the state topic."""
    group = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{prefix}-sink")
    await group.start()
    try:
        names = [name for name in made.ends if name[0] == made.state]
        return {name: await group.committed(TopicPartition(*name)) or 0 for name in names}
    finally:
        await group.stop()


@pytest.mark.contract("8.4")
async def test_totals_are_exact_though_the_sink_is_killed_and_clickhouse_goes_away(
    kafka: Kafka, engine: Engine, fresh_prefix: str, tmp_path: Path
) -> None:
    clickhouse = ClickHouse(engine.url, engine.username, engine.password, fresh_prefix)
    migrate(clickhouse)
    client = clickhouse.connect()
    async with traffic(kafka, fresh_prefix) as made:
        with sink_process(clickhouse, kafka, fresh_prefix, tmp_path) as sink:
            await made.flow(60)
            await until("first rows", lambda: bool(table(client)), sink)
            for _ in range(2):
                flowing = asyncio.create_task(made.flow(60))
                await asyncio.sleep(0.3)
                sink.kill()
                await flowing
                sink.start()
                await made.flow(20)
            await until("rows of the third sink", lambda: "reading from" in sink.said_since_start(), sink)
            engine.kill()
            await made.flow(100)
            assert not sink.ended, tail(sink)
            assert "cannot be written to" in sink.said_since_start()
            assert complaint(tmp_path, 3, live=True) is None, (
                "an outage of ClickHouse is no reason to start the sink anew"
            )
            engine.start()
            await made.flow(50)
            await made.end()
            await all_is_there(client, made, sink)

            wanted = {name: end for name, end in made.ends.items() if name[0] == made.state}
            deadline = time.monotonic() + LIMIT_S
            while (durable := await committed(kafka, fresh_prefix, made)) != wanted and time.monotonic() < deadline:
                assert all(durable[name] <= end for name, end in wanted.items())
            assert durable == wanted
        said = sink.log.read_text(errors="replace")
        assert said.count("ClickHouse cannot be written to") == 1, "one line an outage, not one a try"
        assert said.count("ClickHouse is back after") == 1
        assert "Retrying" not in said
    client.close()


async def test_totals_are_exact_though_partitions_move_between_sinks_while_clickhouse_hangs(
    kafka: Kafka, engine: Engine, fresh_prefix: str, tmp_path: Path
) -> None:
    clickhouse = ClickHouse(engine.url, engine.username, engine.password, fresh_prefix)
    migrate(clickhouse)
    client = clickhouse.connect()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with traffic(kafka, fresh_prefix) as made:
        with sink_process(clickhouse, kafka, fresh_prefix, tmp_path / "one") as one:
            await made.flow(60)
            await until("first rows", lambda: bool(table(client)), one)
            with sink_process(clickhouse, kafka, fresh_prefix, tmp_path / "two") as two:
                await made.flow(60)
                await until("share for the second sink", lambda: "reading from" in two.said_since_start(), two)
                engine.pause()
                await made.flow(60)
                one.kill()
                await made.flow(60)
                engine.resume()
                await made.flow(30)
                await made.end()
                await all_is_there(client, made, two)
    client.close()


async def test_holes_in_a_log_are_read_over_and_a_sink_that_is_asked_to_stop_stops(
    kafka: Kafka, clickhouse: Engine, fresh_prefix: str, tmp_path: Path
) -> None:
    """Each transaction leaves a hole of one offset, as compaction leaves larger ones."""
    warehouse = ClickHouse(clickhouse.url, clickhouse.username, clickhouse.password, fresh_prefix)
    migrate(warehouse)
    client = warehouse.connect()
    async with traffic(kafka, fresh_prefix) as made:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=fresh_prefix)
        await producer.start()
        try:
            with sink_process(warehouse, kafka, fresh_prefix, tmp_path) as sink:
                for number in range(1, 31):
                    async with producer.transaction():
                        await producer.send_and_wait(
                            made.decisions, a_decision(number).model_dump_json().encode(), key=b"k", partition=0
                        )
                    if number == 15:
                        await until("first decisions", lambda: decisions_in(client) > 0, sink)
                await until("last decision", lambda: decisions_in(client) == 30, sink)
                assert sink.stop() == 0, tail(sink)
        finally:
            await producer.stop()
    client.command(f"DROP DATABASE `{warehouse.database}`")
    client.close()


def decisions_in(client: Client) -> int:
    return int(client.query("SELECT count() FROM decision FINAL").result_rows[0][0])
