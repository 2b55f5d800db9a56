"""A client in another language, with its own partitioner, is counted once, for the right organization."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluicegate_schemas import topics
from sluicegate_schemas.partitioning import partition_of
from stack import cache
from stack.clickhouse import ClickHouse
from stack.java import find_java
from stack.kafka import Kafka
from tests.pipeline import Pipeline

JAVA = Path(__file__).parent / "java"


@pytest.fixture
async def pipeline(kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A pipeline with one worker."""
    whole = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        await whole.start()
        yield whole
    finally:
        whole.close()


def _send(bootstrap: str, topic: str, lines: list[str], mode: str) -> list[int]:
    """Sends with Apache Kafka's Java client; returns the partitions that it chose."""
    classpath = f"{JAVA}:{cache.kafka_jars()}/*"
    run = subprocess.run(
        [str(find_java()), "-cp", classpath, "JsonProducer", bootstrap, topic, mode],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [int(line.split()[0]) for line in run.stdout.splitlines() if line[:1].isdigit()]


def _event(number: int, organization: str, key: str) -> str:
    now = datetime.now(UTC).isoformat()
    return json.dumps(
        {
            "id": f"java-{number}",
            "started_at": now,
            "ts": now,
            "duration_ms": 0,
            "org_id": organization,
            "api_key_id": key,
            "operation": "search.hybrid",
            "status": 200,
        }
    )


def _cloud_event(number: int, organization: str, key: str) -> str:
    data = json.loads(_event(number, organization, key))
    del data["id"]
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"cloud-{number}",
            "source": "/java",
            "type": "sluicegate.usage.v1",
            "datacontenttype": "application/json",
            "data": data,
        }
    )


@pytest.mark.broker
@pytest.mark.engine
@pytest.mark.processes
@pytest.mark.timeout(300)
async def test_events_of_a_java_client_are_counted_once_wherever_its_partitioner_puts_them(pipeline: Pipeline) -> None:
    usage = pipeline.prefix + topics.USAGE.name
    tenants = [("org_osprey", "key_osprey_1"), ("org_heron", "key_heron_1")]
    events = [make(number, *tenants[number % 2]) for make in (_event, _cloud_event) for number in range(20)]
    keyed = _send(pipeline.kafka.bootstrap, usage, [f"some key {n}\t{event}" for n, event in enumerate(events)], "key")
    again = _send(pipeline.kafka.bootstrap, usage, events, "none")
    homes = {partition_of(organization, topics.PARTITIONS_DEFAULT) for organization, _ in tenants}
    assert len(keyed) == len(again) == 40
    assert set(keyed) - homes, "some were put where their account does not live"
    totals = await pipeline.totals()
    await pipeline.check()
    assert totals.by_organization == {"org_osprey": 20, "org_heron": 20}
    assert totals.credits_micro == 40 * 200_000
    assert totals.rejects == 0


@pytest.mark.skipif(shutil.which("javac") is None, reason="a Java compiler is needed to compare source and class")
def test_the_java_client_is_its_source(tmp_path: Path) -> None:
    classpath = f"{cache.kafka_jars()}/*"
    subprocess.run(
        ["javac", "--release", "17", "-g:none", "-cp", classpath, "-d", str(tmp_path), str(JAVA / "JsonProducer.java")],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (tmp_path / "JsonProducer.class").stat().st_size > 1_000
