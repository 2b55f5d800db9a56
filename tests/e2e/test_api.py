"""The usage API as a process, beside a real worker, sink, Kafka and ClickHouse engine."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.api_process import OPERATORS, ApiProcess, secret_of
from tests.example_service import ExampleService
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]

SPENT = {"search.knn": 3, "search.web": 2, "documents.create": 5}
"""Requests of key_heron_1; together 0.3 + 20 + 5 credits."""
DEFAULT = Path(__file__).parents[2] / "catalogue/default.toml"
TOML = {"Content-Type": "application/toml"}
WREN_REQUESTS = 51
"""Of 10 credits each: org_wren has 500."""
REVOCATIONS = 5
REFUSED_WITHIN_S = 1.0
"""From the answer that a key is revoked."""


class Running(NamedTuple):
    pipeline: Pipeline
    api: ApiProcess


@pytest.fixture(scope="module")
def running(kafka: Kafka, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything, with some usage of org_heron and org_finch on its way."""
    folder = tmp_path_factory.mktemp("api")
    pipeline = Pipeline(kafka, clickhouse, f"t{secrets.token_hex(5)}", folder)
    (folder / "operators.toml").write_text(OPERATORS)
    file = {"SLUICEGATE_API_OPERATORS_FILE": str(folder / "operators.toml")}
    api = ApiProcess(pipeline.environment() | file, folder)
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
    _publish(publisher, "key_heron_2", "search.web", labels={"pipeline": "nightly"})
    _publish(publisher, "key_finch_1", "search.knn")
    for _ in range(WREN_REQUESTS):
        _publish(publisher, "key_wren_1", "search.web")
    await publisher.close()


def _publish(
    publisher: object,
    key: str,
    operation: str,
    *,
    status: int = 200,
    duration_ms: int = 30,
    labels: dict[str, str] | None = None,
) -> None:
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
        labels=labels,
    )


@pytest.mark.contract("4.2", "4.7")
def test_an_organization_reads_what_its_month_used_and_how_fresh_that_is(running: Running) -> None:
    usage = running.api.until("/v1/organizations/usage", "key_heron_1", lambda body: body["credits"]["used"] == 35.3)
    text = running.api.get("/v1/organizations/usage", "key_heron_1").text
    assert '"total":100000,"used":35.3,"remaining":99964.7,"reset_date":"' in text
    assert Decimal(str(sum(usage["breakdown"].values()))) == Decimal("35.3")
    assert usage["breakdown"] == {"inference": 0, "search": 30.3, "storage": 0, "documents": 5}
    assert usage["lag_ms"] >= 0
    assert usage["final"] is False
    assert usage["as_of"].endswith("Z")


@pytest.mark.contract("4.2", "4.6", "8.5")
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


@pytest.mark.contract("4.3")
def test_what_a_label_used_is_told_by_the_month_and_by_the_hour(running: Running) -> None:
    api, wanted = running.api, ("pipeline=nightly", 1, 10)
    series = api.until("/v1/organizations/usage/series?group_by=label", "key_heron_1", lambda body: body["points"])
    assert [(one["group"], one["requests"], one["credits"]) for one in series["points"]] == [wanted]
    month = api.until("/v1/organizations/usage/labels", "key_heron_1", lambda body: body["labels"])
    assert [(one["label"], one["requests"], one["used"]) for one in month["labels"]] == [wanted]
    assert api.get("/v1/organizations/usage/series?group_by=label", "key_wren_1").json()["points"] == []


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
    assert body["availability"] == (body["requests"] - 1) * 1_000_000 // body["requests"] / 1_000_000
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


# ---- operators ----

KEYS = "organizations/org_new/keys"
GRANT = "organizations/org_new/grants/g1"


@pytest.mark.contract("1.3", "4.8")
def test_an_operator_makes_an_organization_and_a_key_that_works_until_it_is_revoked(running: Running) -> None:
    api = running.api
    put = api.operate("PUT", "organizations/org_new", "c1", json={"tier": "pro", "concurrency": 7, "reason": "new"})
    assert (put.status_code, put.json()["outcome"]) == (200, "applied"), put.text
    assert (put.json()["trail"]["issued_by"], put.json()["trail"]["reason"]) == ("wim", "new")
    made = api.operate("POST", KEYS, "c2", json={}, once=True, params={"wait_s": 15})
    assert made.status_code in (201, 202), made.text
    key = made.json()
    again = api.operate("POST", KEYS, "c2", json={})
    assert (again.status_code, again.json() | {"outcome": None}) == (201, key | {"secret": None, "outcome": None})
    as_customer = {"Authorization": f"Bearer {key['secret']}"}
    assert api.get("/v1/organizations", headers=as_customer).json()["concurrency"] == 7
    changed = api.operate("PATCH", "organizations/org_new", "c3", json={"tier": "team"})
    assert changed.status_code == 200, changed.text
    shown = api.operate("GET", "organizations/org_new").json()
    assert (shown["put"]["tier"], shown["put"]["concurrency"]) == ("team", 7)
    assert [one["api_key_id"] for one in shown["keys"]] == [key["api_key_id"]]
    refused_after_s = _revoke(api, "org_new", key, "c4", f"{api.url}/v1/organizations").refused_after_s
    assert refused_after_s <= REFUSED_WITHIN_S


class Revoked(NamedTuple):
    """How long it took: from the request until the answer that it is applied, and from there to the first 401."""

    applied_after_s: float
    refused_after_s: float


def _revoke(api: ApiProcess, organization_id: str, key: Mapping[str, str], name: str, *urls: str) -> Revoked:
    """Revokes a key that works, and asks with it until it is refused by all."""
    with httpx.Client(headers={"Authorization": f"Bearer {key['secret']}"}, trust_env=False) as client:

        def until(status: int) -> None:
            deadline = time.monotonic() + 20
            for url in urls:
                while (found := client.get(url).status_code) != status:
                    assert time.monotonic() < deadline, f"{url} answers {found}, not {status}"
                    time.sleep(0.02)

        until(200)
        asked_at = time.monotonic()
        path = f"organizations/{organization_id}/keys/{key['api_key_id']}/revoke"
        assert api.operate("POST", path, name, json={}).status_code == 200
        applied_at = time.monotonic()
        until(401)
        return Revoked(applied_at - asked_at, time.monotonic() - applied_at)


@pytest.mark.contract("1.4")
def test_all_nodes_refuse_a_key_within_a_second_of_the_answer_that_it_is_revoked(
    running: Running, tmp_path: Path
) -> None:
    api, revoked = running.api, []
    service = ExampleService(running.pipeline.environment(), tmp_path)
    try:
        service.start("key_magpie_burst")
        assert api.operate("PUT", "organizations/org_revoked", "r0", json={"tier": "pro"}).status_code == 200
        for number in range(REVOCATIONS):
            keys, name = "organizations/org_revoked/keys", f"revoked-{number}"
            made = api.operate("POST", keys, f"made-{number}", json={}, once=True, params={"wait_s": 15})
            assert made.status_code in (201, 202), made.text
            nodes = f"{service.url}/v1/collections", f"{api.url}/v1/organizations"
            revoked.append(_revoke(api, "org_revoked", made.json(), name, *nodes))
    finally:
        service.process.kill()
    print([f"applied after {one.applied_after_s:.3f} s, 401 {one.refused_after_s:.3f} s later" for one in revoked])
    assert max(one.refused_after_s for one in revoked) <= REFUSED_WITHIN_S


@pytest.mark.contract("4.8")
def test_an_idempotency_key_is_one_commands_whoever_comes_first(running: Running) -> None:
    api = running.api
    assert api.operate("PUT", "organizations/org_new", "c1", json={"tier": "pro", "concurrency": 7, "reason": "new"})
    with ThreadPoolExecutor(4) as at_once:
        bodies = [{"credits_micro": micro} for micro in (1, 2, 1, 2)]
        race = [at_once.submit(api.operate, "PUT", GRANT, "c5", json=body) for body in bodies]
        answers = [one.result() for one in race]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 409, 409], [one.text for one in answers]
    first, second = (answer for answer in answers if answer.status_code == 200)
    assert first.content == second.content
    other = first.json()["trail"]["after"]["credits_micro"] % 2 + 1
    assert api.operate("PUT", GRANT, "c5", json={"credits_micro": other}).status_code == 409
    refused = [api.operate("POST", "organizations/org_new/grants/never/revoke", "c6", json={}) for _ in range(2)]
    assert [one.status_code for one in refused] == [422, 422], refused[0].text
    assert refused[0].content == refused[1].content
    trail = api.operate("GET", "trail", params={"account_id": "org_new", "limit": 200}).json()["entries"]
    assert sum(entry["command_id"] == "c5" for entry in trail) == 1
    assert [entry["applied_at"] for entry in trail] == sorted((one["applied_at"] for one in trail), reverse=True)


@pytest.mark.contract("4.8")
def test_changes_of_an_organization_at_the_same_moment_all_stay(running: Running) -> None:
    api, changed = running.api, "organizations/org_changed"
    assert api.operate("PUT", changed, "p0", json={"tier": "pro"}).status_code == 200
    changes = {"p1": {"concurrency": 7}, "p2": {"objects_per_batch": 3}, "p3": {"tier": "team"}}
    with ThreadPoolExecutor(3) as at_once:
        asked = [at_once.submit(api.operate, "PATCH", changed, name, json=body) for name, body in changes.items()]
        answers = [one.result() for one in asked]
    assert [one.status_code for one in answers] == [200, 200, 200], [one.text for one in answers]
    put = api.operate("GET", changed).json()["put"]
    assert (put["concurrency"], put["objects_per_batch"], put["tier"]) == (7, 3, "team")
    repeats = [api.operate("PATCH", changed, name, json=body) for name, body in changes.items()]
    assert [one.content for one in repeats] == [one.content for one in answers]


def test_an_operator_sees_how_the_system_does(running: Running) -> None:
    api = running.api
    api.until("/v1/organizations/usage", "key_wren_1", lambda body: body["requests"] >= WREN_REQUESTS)
    topology = api.operate("GET", "topology").json()
    assert topology["workers"]["members"] == 1
    assert all(one["owner"] for one in topology["workers"]["partitions"])
    blocks = api.operate("GET", "blocks", params={"organization_id": "org_wren"}).json()
    assert blocks["by_limit"]["credits"] == 1
    block = next(one for one in blocks["blocks"] if one["limit_name"] == "credits")
    explained = api.operate("GET", f"decisions/{block['decision_id']}").json()
    assert (explained["stands"], explained["event"]["event"]["org_id"]) == (True, "org_wren")
    deadline = time.monotonic() + 20
    while "org_wren" not in str(consumers := api.operate("GET", "top-consumers").json()):
        assert time.monotonic() < deadline, consumers
        time.sleep(0.2)
    assert consumers["consumers"][0]["organization_id"] == "org_wren"
    assert api.operate("GET", "freshness").json()["sink"]["inserts"] > 0
    assert api.operate("GET", "drifts").json() == {"drifts": []}
    assert [one["version"] for one in api.operate("GET", "catalogues").json()["catalogues"]] == [1]


def test_an_operator_looks_through_what_the_workers_said(running: Running) -> None:
    api, of_wren = running.api, {"organization_id": "org_wren"}
    api.until("/v1/organizations/usage", "key_wren_1", lambda body: body["requests"] >= WREN_REQUESTS)
    decisions = api.operate("GET", "decisions", params=of_wren).json()["records"]
    assert "credits" in {one["record"]["limit_name"] for one in decisions}
    alerts = api.operate("GET", "alerts", params={**of_wren, "limit": 1}).json()
    assert alerts["records"][0]["record"]["account_id"] == "org_wren"
    older = api.operate("GET", "alerts", params={**of_wren, "cursor": alerts["next"]}).json()["records"]
    assert older
    assert alerts["records"][0] not in older
    assert api.operate("GET", "rejects").status_code == 200
    usage = api.operate("GET", "organizations/org_wren/usage").json()["balances"]
    assert {"account", "organization", "key"} <= {one["kind"] for one in usage}
    assert len({one["account_id"] for one in usage}) == 1
    fit = api.operate("POST", "organizations/org_wren/plan-fit", content=DEFAULT.read_bytes(), headers=TOML).json()
    assert {"free", "pro"} <= {one["tier"] for one in fit["fits"]}
    found = api.operate("GET", "doctor").json()
    checks = {"broker", "topics", "catalogue", "worker", "sink", "clickhouse", "schema", "versions"}
    assert {one["check"] for one in found["findings"] if one["status"] == "ok"} >= checks, found
