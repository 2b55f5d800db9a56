"""The usage API as a process, beside a real worker, sink, Kafka and ClickHouse engine."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import httpx
import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.api_process import ApiProcess, secret_of
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]

SPENT = {"search.knn": 3, "search.web": 2, "documents.create": 5}
"""Requests of key_heron_1; together 0.3 + 20 + 5 credits."""
WREN_REQUESTS = 51
"""Of 10 credits each: org_wren has 500."""


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
    for _ in range(WREN_REQUESTS):
        _publish(publisher, "key_wren_1", "search.web")
    await publisher.close()


def _publish(publisher: object, key: str, operation: str, *, status: int = 200, duration_ms: int = 30) -> None:
    now_ms = time.time_ns() // 1_000_000
    assert publisher.publish(  # type: ignore[attr-defined]  # a Publisher
        org_id=f"org_{key.split('_')[1]}",
        api_key_id=key,
        operation=operation,
        started_at_ms=now_ms - duration_ms,
        ts_ms=now_ms,
        duration_ms=duration_ms,
        status=status,
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


@pytest.mark.contract("4.4", "4.5", "4.6")
def test_a_block_is_told_with_its_reason_the_event_behind_it_and_its_alert(running: Running) -> None:
    api = running.api
    body = api.until("/v1/organizations/limits", "key_wren_1", lambda body: body["decisions"])
    (block,) = [one for one in body["decisions"] if one["limit_name"] == "credits"]
    assert (block["limit"], block["observed"]) == (500, 500)
    why = api.get(f"/v1/organizations/decisions/{block['decision_id']}", "key_wren_1").json()
    assert why["stands"]
    assert (why["event"]["operation"], why["event"]["api_key_id"]) == ("search.web", "key_wren_1")
    assert {one["operation"] for one in why["events"]} == {"search.web"}
    assert len(why["events"]) == 10
    assert api.get(f"/v1/organizations/decisions/{block['decision_id']}", "key_heron_1").status_code == 404
    alerts = api.until("/v1/organizations/alerts", "key_wren_1", lambda body: len(body["alerts"]) >= 3)["alerts"]
    assert {"credits_80", "credits_95", "credits_blocked"} <= {one["rule"] for one in alerts}
    others = api.get("/v1/organizations/alerts", "key_heron_1").json()["alerts"]
    assert not any(one["rule"] == "credits_80" for one in others)


@pytest.mark.contract("4.3", "4.7")
def test_usage_over_time_and_the_projection_come_from_clickhouse(running: Running) -> None:
    api = running.api
    path = "/v1/organizations/usage/series?interval=minute&group_by=operation"

    def total(body: dict[str, list[dict[str, float]]]) -> Decimal:
        return sum((Decimal(str(one["credits"])) for one in body["points"]), Decimal(0))

    body = api.until(path, "key_heron_1", lambda body: total(body) == Decimal("35.3"))
    groups = {one["group"] for one in body["points"]}
    assert set(SPENT) <= groups
    age_s = time.time() - datetime.fromisoformat(body["as_of"]).timestamp()
    assert 0 <= age_s < 60
    assert body["lag_ms"] < 30_000
    _fill_hours(running.pipeline, "org_heron", 48)
    projection = api.until("/v1/organizations/projection", "key_heron_1", lambda body: True)
    assert 0 < projection["low"] <= projection["projected"] <= projection["high"]
    assert api.get(f"{path}&format=csv", "key_heron_1").text.startswith("at,group,requests")


def _fill_hours(pipeline: Pipeline, org_id: str, hours: int) -> None:
    """A credit in each of the hours before this one."""
    now_s = int(time.time()) // 3600 * 3600
    rows = [(org_id, now_s - 3600 * number, 1_000_000) for number in range(1, hours + 1)]
    client = pipeline.address.connect()
    client.insert("usage_organization_hour", rows, column_names=["org_id", "hour", "credits_micro"])
    client.close()


def test_the_api_s_own_requests_are_metered_as_the_caller_s_and_cost_nothing(running: Running) -> None:
    path = "/v1/organizations/usage/series?interval=minute&group_by=operation"
    body = running.api.until(
        path, "key_osprey_1", lambda body: "usage.list" in {one["group"] for one in body["points"]}
    )
    assert {one["credits"] for one in body["points"] if one["group"] == "usage.list"} == {0}


@pytest.mark.contract("1.19")
def test_availability_and_latency_of_the_month_are_measured_and_shown(running: Running) -> None:
    asyncio.run(_serve_badly(running.pipeline, "key_osprey_1"))
    body = running.api.until("/v1/organizations/sla", "key_osprey_1", lambda body: body["requests"] >= 100)
    assert body["failures"] == 1
    assert body["availability"] == round(1 - 1 / body["requests"], 6)
    assert 30 <= body["latency_p50_ms"] <= 31
    assert 1_000 <= body["latency_p99_ms"] < 90_000


async def _serve_badly(pipeline: Pipeline, key: str) -> None:
    """A hundred requests that were served: one failed, and three took a second."""
    publisher = pipeline.publisher()
    await publisher.start()
    for number in range(100):
        status, duration_ms = 500 if number == 0 else 200, 1_000 if number < 3 else 30
        _publish(publisher, key, "documents.get", status=status, duration_ms=duration_ms)
        _publish(publisher, key, "documents.get", status=429, duration_ms=90_000)
    await publisher.close()


def test_a_stream_tells_of_credits_while_they_fall(running: Running) -> None:
    headers = {"Authorization": f"Bearer {secret_of('key_osprey_1')}"}
    url = f"{running.api.url}/v1/organizations/live"
    with httpx.stream("GET", url, headers=headers, timeout=30.0, trust_env=False) as stream:
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        before = next(events)["credits"]["used"]
        asyncio.run(_spend(running.pipeline, "key_osprey_1"))
        assert next(one["credits"]["used"] for one in events if "credits" in one) == before + 10


async def _spend(pipeline: Pipeline, key: str) -> None:
    publisher = pipeline.publisher()
    await publisher.start()
    _publish(publisher, key, "search.web")
    await publisher.close()
