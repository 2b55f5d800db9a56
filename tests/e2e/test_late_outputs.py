"""A former owner's decision that comes late does not outlive the compaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from sluicegate_schemas import topics
from sluicegate_schemas.partitioning import partition_of
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from stack.topic_log import partitions_of, read_topic
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(180)]
LIMIT_S = 60.0


@pytest.fixture
async def pipeline(kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    whole = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        await whole.start()
        yield whole
    finally:
        whole.close()


async def newest(pipeline: Pipeline, topic: str, key: bytes) -> dict[str, object]:
    """The last record under ``key``: what compaction would keep."""
    found: dict[str, object] = {}
    async for record in read_topic(pipeline.kafka.bootstrap, pipeline.prefix + topic):
        if record.key == key:
            found = msgspec.json.decode(record.value or b"{}")
    return found


async def test_what_a_former_owner_said_late_is_contradicted_under_its_key(pipeline: Pipeline) -> None:
    organization = "org_finch"
    partitions = len(await partitions_of(pipeline.kafka.bootstrap, [pipeline.prefix + topics.DECISIONS.name]))
    home = partition_of(organization, partitions)
    entitlement = f"organization:{organization}".encode()
    deadline = time.monotonic() + LIMIT_S
    while not (alive := await newest(pipeline, topics.ENTITLEMENTS.name, entitlement)):
        assert time.monotonic() < deadline, "the organization was not told of"
        await asyncio.sleep(0.3)
    block = {
        "schema_version": 1,
        "decision_id": f"block/credits/{organization}/late",
        "scope": {"kind": "account", "id": organization, "operation": None, "subject": None},
        "verdict": "block",
        "limit_name": "credits",
        "limit": 1_000_000_000,
        "observed": 1_000_000_000,
        "until": "2027-01-01T00:00:00Z",
        "tier": "free",
        "plan_version": 1,
        "cause": None,
        "decided_at": "2026-01-01T00:00:00Z",
        "sequence": {"epoch": 1, "counter": 1},
    }
    decision_key = f"credits:account:{organization}".encode()
    async with AIOKafkaProducer(bootstrap_servers=pipeline.kafka.bootstrap) as former_owner:
        for topic, key, record in (
            (topics.DECISIONS.name, decision_key, block),
            (topics.ENTITLEMENTS.name, entitlement, alive | {"tier": "team", "sequence": {"epoch": 1, "counter": 2}}),
        ):
            value = msgspec.json.encode(record)
            await former_owner.send_and_wait(pipeline.prefix + topic, value, key=key, partition=home)
    deadline = time.monotonic() + LIMIT_S
    while True:
        verdict = (await newest(pipeline, topics.DECISIONS.name, decision_key))["verdict"]
        tier = (await newest(pipeline, topics.ENTITLEMENTS.name, entitlement))["tier"]
        if (verdict, tier) == ("allow", alive["tier"]):
            break
        assert time.monotonic() < deadline, f"still {verdict}, {tier}"
        await asyncio.sleep(0.3)
