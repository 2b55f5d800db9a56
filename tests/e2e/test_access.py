"""The access table, loaded into a real broker that runs with the production settings, and tried by the forbidden."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from sluicegate.brokers import Brokers
from sluicegate_schemas import topics
from stack import cache
from stack.java import find_java
from stack.ports import accepts, free_port
from stack.process import ChildProcess
from streams.access import load_rules, read_rules

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "deploy/kafka/acls.tsv"
ROLES = ("admin", "worker", "sink", "gateway", "producer", "operator", "reader")
NAMES = [topics.PREFIX_DEFAULT + topic.name for topic in topics.TOPICS]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker started from deploy/kafka/server.properties (ports and folder changed), with a user for each role."""
    folder = tmp_path_factory.mktemp("guarded")
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
        asyncio.run(_prepare(f"127.0.0.1:{client}"))
        yield f"127.0.0.1:{client}"
    finally:
        child.kill()


def _brokers(address: str, role: str) -> Brokers:
    return Brokers(bootstrap_servers=address, username=role, password=f"pw-{role}")


async def _prepare(address: str) -> None:
    brokers = _brokers(address, "admin")
    await load_rules(brokers, read_rules(TABLE.read_text("utf-8")))
    await load_rules(brokers, read_rules(TABLE.read_text("utf-8")))
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
@pytest.mark.parametrize("role", ["producer", "gateway", "worker", "operator", "reader", "sink"])
async def test_a_role_writes_what_the_documented_table_says_and_nothing_else(guarded: str, role: str) -> None:
    assert await _writable(guarded, role) == _documented("write")[role]


@pytest.mark.broker
@pytest.mark.parametrize("role", ["gateway", "sink", "reader"])
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
