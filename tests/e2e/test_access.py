"""The access table, loaded into a real broker that runs with the production settings, and tried by the forbidden."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from clickhouse.connection import ClickHouse as ClickHouseAddress
from clickhouse.migrate import migrate
from sluicegate import Follower, Gate, Publisher, PublisherSettings
from sluicegate.brokers import Brokers
from sluicegate.operator.publish import publish
from sluicegate_schemas import topics
from sluicegate_schemas.files import load_accounts, load_catalogue
from stack import cache
from stack.clickhouse import ClickHouse
from stack.java import find_java
from stack.ports import accepts, free_port
from stack.process import ChildProcess
from streams.access import load_rules, read_rules

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "deploy/kafka/acls.tsv"
ROLES = ("admin", "worker", "sink", "audit", "webhooks", "gateway", "producer", "api", "operator", "reader")
NAMES = [topics.PREFIX_DEFAULT + topic.name for topic in topics.TOPICS]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A guarded broker with all topics, a record in each."""
    with guarded_broker(tmp_path_factory.mktemp("guarded"), topics_made=True) as address:
        yield address


@contextmanager
def guarded_broker(folder: Path, *, topics_made: bool) -> Iterator[str]:
    """A broker started from deploy/kafka/server.properties (ports and folder changed), with a user for each role."""
    client, host, controller = free_port(), free_port(), free_port()
    text = (ROOT / "deploy/kafka/server.properties").read_text("utf-8")
    for old, new in (
        ("CLIENT://:9092", f"CLIENT://127.0.0.1:{client}"),
        ("HOST://:9094", f"HOST://127.0.0.1:{host}"),
        ("CLIENT://kafka:9092", f"CLIENT://127.0.0.1:{client}"),
        ("HOST://127.0.0.1:9094", f"HOST://127.0.0.1:{host}"),
        ("127.0.0.1:9093", f"127.0.0.1:{controller}"),
        ("/var/lib/kafka/data", str(folder / "data")),
    ):
        assert old in text
        text = text.replace(old, new)
    settings = folder / "server.properties"
    settings.write_text(text, "utf-8")
    java, classpath = str(find_java()), f"{cache.kafka_jars()}/*"
    environment = os.environ | {"KAFKA_ADMIN_PASSWORD": "pw-admin"}
    users = [word for role in ROLES for word in ("--add-scram", f"SCRAM-SHA-512=[name={role},password=pw-{role}]")]
    subprocess.run(
        [
            *(java, "-cp", classpath, "kafka.tools.StorageTool", "format"),
            *("--cluster-id", "AAAAAAAAQACAAAAAAAAAAA", "--config", str(settings), *users),
        ],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    child = ChildProcess(
        "guarded Kafka",
        [java, "-Xmx256m", "-cp", classpath, "kafka.Kafka", str(settings)],
        log=folder / "kafka.log",
        environment=environment,
        ready=lambda: accepts(client),
        ready_limit_s=60,
        stop_limit_s=20,
    )
    try:
        child.start()
        thread = threading.Thread(target=lambda: asyncio.run(_prepare(f"127.0.0.1:{client}", topics_made=topics_made)))
        thread.start()  # the caller may be inside a loop of its own
        thread.join()
        yield f"127.0.0.1:{client}"
    finally:
        child.kill()


def _brokers(address: str, role: str) -> Brokers:
    return Brokers(bootstrap_servers=address, username=role, password=f"pw-{role}")


async def _prepare(address: str, *, topics_made: bool) -> None:
    brokers = _brokers(address, "admin")
    await load_rules(brokers, read_rules(TABLE.read_text("utf-8")))
    await load_rules(brokers, read_rules(TABLE.read_text("utf-8")))
    if not topics_made:
        return
    admin = AIOKafkaAdminClient(**brokers.options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1) for name in NAMES])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(**brokers.options())
    await producer.start()
    try:
        for name in NAMES:
            await producer.send_and_wait(name, b"to be read", partition=0)
    finally:
        await producer.stop()


async def _writable(address: str, role: str) -> set[str]:
    producer = AIOKafkaProducer(**_brokers(address, role).options(), enable_idempotence=role not in {"sink", "reader"})
    await producer.start()
    able = set()
    try:
        for name in NAMES:
            try:
                await asyncio.wait_for(producer.send_and_wait(name, b"x", partition=0), 20)
                able.add(name)
            except TopicAuthorizationFailedError:
                pass
    finally:
        await producer.stop()
    return able


async def _readable(address: str, role: str) -> set[str]:
    able = set()
    for name in NAMES:
        consumer = AIOKafkaConsumer(**_brokers(address, role).options(), auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(name, 0)])
            # aiokafka asks for ever for a topic that it may not even describe, so both ends are looked at
            async with asyncio.timeout(20):
                while name not in consumer._client.cluster.unauthorized_topics:
                    if await consumer.getmany(timeout_ms=100):
                        able.add(name)
                        break
        except TopicAuthorizationFailedError:
            pass
        finally:
            await consumer.stop()
    return able


def _documented(word: str) -> dict[str, set[str]]:
    """role → topics that docs/topics.md lets it ``word`` (read or write)."""
    lines = (ROOT / "docs/topics.md").read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| topic | producer |"))
    roles = [cell.strip() for cell in lines[start].strip("|").split("|")][1:]
    allowed: dict[str, set[str]] = {role: set() for role in roles}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        topic, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for role, cell in zip(roles, cells, strict=True):
            if word in re.split(r",\s*", cell):
                allowed[role].add(topics.PREFIX_DEFAULT + topic)
    return allowed


@pytest.mark.broker
@pytest.mark.parametrize(
    "role", ["producer", "gateway", "worker", "operator", "reader", "sink", "audit", "webhooks", "api"]
)
async def test_a_role_writes_what_the_documented_table_says_and_nothing_else(guarded: str, role: str) -> None:
    assert await _writable(guarded, role) == _documented("write")[role]


@pytest.mark.contract("8.5")
@pytest.mark.broker
@pytest.mark.parametrize("role", ["gateway", "sink", "audit", "webhooks", "api", "operator", "reader"])
async def test_a_role_reads_what_the_documented_table_says_and_nothing_else(guarded: str, role: str) -> None:
    assert await _readable(guarded, role) == _documented("read")[role]


@pytest.mark.broker
async def test_nobody_connects_without_a_password(guarded: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=guarded, request_timeout_ms=2000)
    with pytest.raises(KafkaError):
        await producer.start()
    await producer.stop()


def test_a_broken_table_names_its_line() -> None:
    with pytest.raises(ValueError, match="line 2: operation 'Wipe'"):
        read_rules("# head\nworker\tWipe\ttopic\tsluicegate.usage\tliteral\n")
    with pytest.raises(ValueError, match="line 1: 5 fields"):
        read_rules("worker Write topic\n")


def _faust(module: str, role: str, address: str, folder: Path, **environment: str) -> ChildProcess:
    child = ChildProcess(
        role,
        [sys.executable, "-m", "faust", "-A", module, "worker", "--loglevel", "info"],
        log=folder / f"{role}.log",
        cwd=ROOT,
        environment={
            "SLUICEGATE_BOOTSTRAP_SERVERS": address,
            "SLUICEGATE_KAFKA_USERNAME": role,
            "SLUICEGATE_KAFKA_PASSWORD": f"pw-{role}",
            "SLUICEGATE_PARTITIONS": "1",
            "SLUICEGATE_DATA_DIR": str(folder / role),
            **environment,
        },
    )
    child.start()
    return child


@pytest.mark.broker
@pytest.mark.engine
@pytest.mark.processes
async def test_every_part_does_its_work_with_the_rights_of_its_role(
    tmp_path_factory: pytest.TempPathFactory, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> None:
    """Operator, worker, publisher, gate and sink, each as itself, on the guarded broker."""
    address = ClickHouseAddress(clickhouse.url, clickhouse.username, clickhouse.password, fresh_prefix)
    migrate(address)
    prefix = topics.PREFIX_DEFAULT
    children: list[ChildProcess] = []
    with guarded_broker(tmp_path_factory.mktemp("guarded"), topics_made=False) as bootstrap:
        try:
            children.append(_faust("streams.app", "worker", bootstrap, tmp_path))
            await _until(lambda: _topics_exist(bootstrap), "the worker made its topics", children)
            await publish(
                _brokers(bootstrap, "operator"),
                topic_prefix=prefix,
                catalogue=load_catalogue((ROOT / "catalogue/default.toml").read_text("utf-8")),
                commands=load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8")),
                now=datetime.now(UTC),
                lead=timedelta(0),
                by="tests",
            )
            children.append(
                _faust(
                    "clickhouse.sink",
                    "sink",
                    bootstrap,
                    tmp_path,
                    SLUICEGATE_CLICKHOUSE_URL=address.url,
                    SLUICEGATE_CLICKHOUSE_USER=address.username,
                    SLUICEGATE_CLICKHOUSE_PASSWORD=address.password,
                    SLUICEGATE_CLICKHOUSE_DATABASE=address.database,
                )
            )
            follower = Follower(_brokers(bootstrap, "gateway"))
            follower.start()
            try:
                gate = Gate(follower)
                await _until(
                    lambda: _truth(gate.check("sk_live_demo_key_osprey_1", "search.knn").allowed),
                    "the gate knew the key",
                    children,
                )
            finally:
                await follower.stop()
            for role in ("producer", "gateway"):
                publisher = Publisher(
                    PublisherSettings(node=f"node-{role}", brokers=_brokers(bootstrap, role), topic_prefix=prefix)
                )
                await publisher.start()
                now_ms = time.time_ns() // 1_000_000
                for _ in range(10):
                    publisher.publish(
                        org_id="org_osprey",
                        api_key_id="key_osprey_1",
                        operation="search.knn",
                        started_at_ms=now_ms,
                        ts_ms=now_ms,
                        duration_ms=0,
                        status=200,
                    )
                await publisher.close(30)
            client = await asyncio.to_thread(address.connect)
            try:
                query = "SELECT sum(events) FROM usage_minute FINAL"
                await _until(
                    lambda: _truth(client.query(query).result_rows[0][0] == 20), "ClickHouse showed 20 events", children
                )
            finally:
                client.close()
        finally:
            for child in children:
                child.kill()


async def _truth(value: bool) -> bool:
    return value


async def _topics_exist(address: str) -> bool:
    admin = AIOKafkaAdminClient(**_brokers(address, "admin").options())
    await admin.start()
    try:
        return set(NAMES) <= set(await admin.list_topics())
    finally:
        await admin.close()


async def _until(holds: Callable[[], Awaitable[bool]], what: str, children: list[ChildProcess]) -> None:
    deadline = time.monotonic() + 90
    while not await holds():
        for child in children:
            child.check()
        assert time.monotonic() < deadline, f"not within 90 s: {what}"
        await asyncio.sleep(0.2)
