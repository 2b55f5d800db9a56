"""Records that cannot be used reach the rejects topic with reason and position, and the worker goes on."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from sluicegate.publisher import Position
from sluicegate_schemas import topics
from sluicegate_schemas.envelope import DECODE_ENVELOPE, ENCODE, ENVELOPE_VERSION, WireEnvelope, WireEvent
from sluicegate_schemas.outputs import Reject
from sluicegate_schemas.partitioning import partition_of
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from stack.topic_log import read_topic
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(300)]
ORGANIZATION, KEY = "org_osprey", "key_osprey_1"
HOME = partition_of(ORGANIZATION, topics.PARTITIONS_DEFAULT)


def _event(number: int, **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    started = (now - timedelta(milliseconds=20)).isoformat()
    return {
        "id": f"evt-{number}",
        "started_at": started,
        "ts": now.isoformat(),
        "duration_ms": 20,
        "org_id": ORGANIZATION,
        "api_key_id": KEY,
        "operation": "search.knn",
        "status": 200,
    } | changes


def _envelope(**changes: Any) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    event = WireEvent(None, ORGANIZATION, KEY, "search.knn", now_ms - 5, now_ms, 5, 200)
    fields = {"version": ENVELOPE_VERSION, "sequence": 1} | changes
    return ENCODE(WireEnvelope(fields["version"], "poisoner", 1, fields["sequence"], now_ms, "node-x", [event]))


def _bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _poisons() -> list[tuple[str, bytes, str]]:
    """(what it is, the record, the reason that is expected)."""
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return [
        ("not JSON", b"credits please", "not_json"),
        ("not UTF-8", _bytes(_event(1)).replace(b"evt-1", b"evt-\xff"), "not_utf8"),
        ("2 MB", _bytes(_event(2, node="n" * 2_000_000)), "too_large"),
        ("wrong types", _bytes(_event(3, status="200")), "invalid"),
        ("unknown organization", _bytes(_event(4, org_id="org_nobody")), "unknown_organization"),
        ("negative", _bytes(_event(5, quantities={"tokens": -1})), "invalid"),
        ("future", _bytes(_event(6, started_at=ahead, ts=ahead)), "too_far_ahead"),
        ("empty", b"", "empty"),
        ("an id again with another body", _bytes(_event(0, operation="search.web")), "id_conflict"),
        ("truncated envelope", _envelope()[:-7], "truncated_envelope"),
        ("unknown envelope", _envelope(version=77), "unknown_envelope_version"),
        ("a field twice", _bytes(_event(7)).replace(b'"status"', b'"status": 500, "status"'), "duplicate_field"),
    ]


@pytest.fixture
async def pipeline(kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A pipeline with one worker."""
    whole = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        await whole.start()
        yield whole
    finally:
        whole.close()


@pytest.mark.contract("8.2")
async def test_each_poison_is_rejected_by_name_and_place_and_the_worker_goes_on(pipeline: Pipeline) -> None:
    usage = pipeline.prefix + topics.USAGE.name
    producer = AIOKafkaProducer(bootstrap_servers=pipeline.kafka.bootstrap, max_request_size=4_000_000)
    await producer.start()
    sent: dict[int, tuple[str, str]] = {}
    try:
        first = _bytes(_event(0))
        await producer.send_and_wait(usage, first, partition=HOME)
        for what, value, reason in _poisons():
            # an unknown organization is judged where its own account would live
            home = partition_of("org_nobody", topics.PARTITIONS_DEFAULT) if "unknown org" in what else HOME
            place = await producer.send_and_wait(usage, value, partition=home)
            sent[home * 1_000_000 + place.offset] = (what, reason)
        await producer.send_and_wait(usage, first, partition=HOME)
        await producer.send_and_wait(usage, _bytes(_event(100)), partition=HOME)
        good = _envelope()
        pipeline.note(DECODE_ENVELOPE(good).events[0], Position(HOME, "poisoner", 1, 1, 0))
        await producer.send_and_wait(usage, good, partition=HOME)
    finally:
        await producer.stop()
    totals = await pipeline.totals()
    await pipeline.check()
    assert totals.events_counted == 3, "the good ones around the poison"
    assert totals.events_duplicate == 1, "the first event, sent again unchanged"
    rejects = [
        Reject.model_validate_json(record.value or b"")
        async for record in read_topic(pipeline.kafka.bootstrap, pipeline.prefix + topics.REJECTS.name)
    ]
    found = {reject.source.partition * 1_000_000 + reject.source.offset: reject.reason for reject in rejects}
    assert {what: found.get(place) for place, (what, _) in sent.items()} == dict(sent.values())
    assert len(rejects) == len(sent)
