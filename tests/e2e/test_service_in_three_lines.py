"""A service that is gated and metered by three lines, on a real broker."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluicegate import Brokers, ConfigurationError, Sluicegate
from sluicegate.operator.topic_io import read_to_end
from sluicegate_schemas.envelope import DECODE_ENVELOPE, WireEvent
from stack.kafka import Kafka
from tests.gating import SECRET, catalogue_record, credit_block, key_record, organization_record


async def prepare(bootstrap: str, prefix: str) -> None:
    """The topics, and in them a key whose account has used up its credits."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(prefix + name, 1, 1) for name in ("catalog", "entitlements", "decisions", "usage")]
        )
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for topic, key, value in (
            catalogue_record(),
            organization_record(),
            key_record(),
            credit_block(until_ms=int(time.time() * 1000) + 3_600_000),
        ):
            await producer.send_and_wait(prefix + topic, value, key=key)
    finally:
        await producer.stop()


async def listed(_: Request) -> Response:
    return JSONResponse({"documents": []})


@pytest.mark.broker
async def test_three_lines_gate_and_meter_a_service(kafka: Kafka, fresh_prefix: str) -> None:
    prefix = f"{fresh_prefix}."
    await prepare(kafka.bootstrap, prefix)
    routes = [Route("/v1/documents", listed), Route("/v1/search", listed, methods=["POST"])]
    environment = {
        "SLUICEGATE_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "SLUICEGATE_TOPIC_PREFIX": prefix,
        "SLUICEGATE_NODE": "node-1",
    }

    sluicegate = Sluicegate.from_environment(environment)
    app = Starlette(routes=routes, lifespan=sluicegate.lifespan)
    app.add_middleware(
        sluicegate.middleware, operations={"GET /v1/documents": "documents.list", "POST /v1/search": "search.knn"}
    )

    async with (
        sluicegate.lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client,
    ):
        authorization = {"Authorization": f"Bearer {SECRET}"}
        assert (await client.get("/v1/documents", headers=authorization)).status_code == 200
        assert (await client.post("/v1/search", headers=authorization)).status_code == 403
        assert (await client.get("/v1/documents")).status_code == 401

    events: list[WireEvent] = []
    async with asyncio.timeout(20):
        async for record in read_to_end(Brokers(kafka.bootstrap), prefix + "usage"):
            events += DECODE_ENVELOPE(record.value).events
            assert SECRET.encode() not in record.value
    assert [(event.operation, event.status, event.api_key_id) for event in events] == [
        ("documents.list", 200, "key_heron_1"),
        ("search.knn", 403, "key_heron_1"),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SLUICEGATE_WHEN_NOT_READY", "maybe", "SLUICEGATE_WHEN_NOT_READY is 'maybe'"),
        ("SLUICEGATE_NODE", "two words", "node must be one word"),
        ("SLUICEGATE_KAFKA_USERNAME", "gateway", "without a password"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(variable: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Sluicegate.from_environment({variable: value})
