"""The usage API as a process, beside a real worker, sink, Kafka and ClickHouse engine."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.api_process import ApiProcess
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]

SPENT = {"search.knn": 3, "search.web": 2, "documents.create": 5}
"""Requests of key_heron_1; together 0.3 + 20 + 5 credits."""


class Running(NamedTuple):
    pipeline: Pipeline
    api: ApiProcess


@pytest.fixture(scope="module")
def running(kafka: Kafka, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything, with some usage of org_heron and org_finch on its way."""
    folder = tmp_path_factory.mktemp("api")
    pipeline = Pipeline(kafka, clickhouse, f"t{secrets.token_hex(5)}", folder)
    api = ApiProcess(pipeline.environment(), folder)
    try:
        asyncio.run(_start(pipeline))
        api.process.start()
        yield Running(pipeline, api)
    finally:
        api.process.kill()
        pipeline.close()


async def _start(pipeline: Pipeline) -> None:
    await pipeline.start()
    publisher = pipeline.publisher()
    await publisher.start()
    for operation, count in SPENT.items():
        for _ in range(count):
            _publish(publisher, "key_heron_1", operation)
    _publish(publisher, "key_heron_2", "search.web")
    _publish(publisher, "key_finch_1", "search.knn")
    await publisher.close()


def _publish(publisher: object, key: str, operation: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    assert publisher.publish(  # type: ignore[attr-defined]  # a Publisher
        org_id=f"org_{key.split('_')[1]}",
        api_key_id=key,
        operation=operation,
        started_at_ms=now_ms - 30,
        ts_ms=now_ms,
        duration_ms=30,
        status=200,
        quantities={"documents": 1} if operation == "documents.create" else None,
    )


@pytest.mark.contract("4.2", "4.7")
def test_an_organization_reads_what_its_month_used_and_how_fresh_that_is(running: Running) -> None:
    usage = running.api.until("/v1/organizations/usage", "key_heron_1", lambda body: body["credits"]["used"] == 35.3)
    text = running.api.get("/v1/organizations/usage", "key_heron_1").text
    assert '"total":100000,"used":35.3,"remaining":99964.7,"reset_date":"' in text
    assert Decimal(str(sum(usage["breakdown"].values()))) == Decimal("35.3")
    assert usage["breakdown"] == {"search": 30.3, "documents": 5}
    assert usage["lag_ms"] >= 0
    assert usage["final"] is False
    assert usage["as_of"].endswith("Z")


@pytest.mark.contract("4.2", "4.6")
def test_a_key_is_answered_for_its_own_organization_alone(running: Running) -> None:
    api = running.api
    own = api.until(
        "/v1/organizations/usage/api-keys/key_heron_2", "key_heron_1", lambda body: body["credits"]["used"] == 10
    )
    assert own["credits"]["total"] is None
    foreign = api.get("/v1/organizations/usage/api-keys/key_finch_1", "key_heron_1")
    unknown = api.get("/v1/organizations/usage/api-keys/key_nobody_1", "key_heron_1")
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    assert api.get("/v1/organizations/usage").status_code == 401
