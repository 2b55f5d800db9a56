"""The operators' routes: who may ask, which command a request becomes, and what a repeat gets."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from api.routes.operator.bodies import body_of
from api.routes.operator.commands import ROUTES, kind_of
from api.routes.operator.log_cursors import log_cursor, log_place
from sluicegate_schemas.accounts import GrantPut, KeyPut, OrganizationPut
from tests.api_app import FINCH, HERON, READER, REVOKED, WRITER, ApiApp
from tests.gating import organization_record

ORGANIZATION = "/v1/operator/organizations/org_heron"
GRANT = f"{ORGANIZATION}/grants/g1"
ID = {"Idempotency-Key": "cmd-1"}


@pytest.fixture
def api() -> ApiApp:
    return ApiApp()


@pytest.fixture
async def writer(api: ApiApp) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client(WRITER) as client:
        yield client


# ---- who may ask ----


@pytest.mark.parametrize("secret", [READER, WRITER, HERON, None])
async def test_without_configured_operators_nobody_learns_more_than_that(secret: str | None) -> None:
    async with ApiApp(operators=False).client(secret) as client:
        answers = [await client.get("/v1/operator/trail"), await client.put(GRANT, json={}, headers=ID)]
    assert {answer.status_code for answer in answers} == {403}
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("secret", [HERON, FINCH, REVOKED, "", "x" * 400])
async def test_an_api_key_is_no_operators_credential(api: ApiApp, secret: str) -> None:
    async with api.client(secret) as client:
        refused = [await client.get("/v1/operator/trail"), await client.put(GRANT, json={}, headers=ID)]
    assert {answer.status_code for answer in refused} == {401}
    assert api.desk.log == []


async def test_an_operators_credential_is_no_api_key(api: ApiApp) -> None:
    async with api.client(WRITER) as client:
        assert (await client.get("/v1/organizations/usage")).status_code == 401


async def test_who_may_only_read_changes_nothing(api: ApiApp) -> None:
    async with api.client(READER) as client:
        assert (await client.get(ORGANIZATION)).status_code == 200
        for route in ROUTES:
            path = f"{ORGANIZATION}{route.path}".replace(":path", "")
            refused = await client.request(route.method, path, json={}, headers=ID)
            assert refused.status_code == 403, path
        assert (await client.post(f"{ORGANIZATION}/keys", json={}, headers=ID)).status_code == 403
        assert (await client.patch(ORGANIZATION, json={}, headers=ID)).status_code == 403
    assert api.desk.log == []


# ---- changes ----

BUDGET_LABEL = {"name": "pipeline", "value": "v"}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "organization.put": ("", {"tier": "team", "quotas": {"documents": None, "buckets": 3}, "credits_mode": "hard"}),
    "key.put": ("/keys/key_new", {"key_sha256": "ab" * 32, "mode": "test"}),
    "key.revoke": ("/keys/key_heron_1/revoke", {}),
    "grant.put": ("/grants/g1", {"credits_micro": 5_000_000, "expires_at": "2026-04-01T00:00:00Z"}),
    "grant.revoke": ("/grants/a%2Fb:c@d/revoke", {}),
    "boost.put": ("/boosts/b1", {"until": "2026-04-01T00:00:00+02:00", "concurrency": 9}),
    "boost.end": ("/boosts/b1/end", {}),
    "exemption.put": ("/exemptions/x1", {"until": "2026-04-01T00:00:00Z", "limit_name": "credits"}),
    "exemption.end": ("/exemptions/x1/end", {}),
    "budget.put": ("/budgets/day", {"credits_micro": 7, "thresholds_percent": [80], "label": BUDGET_LABEL}),
    "budget.remove": ("/budgets/day/remove", {"api_key_id": "key_heron_1"}),
    "capacity.reserve": ("/reserved-capacity/search", {"credits_micro": 4}),
    "correction.put": ("/corrections", {"month": "2026-02", "direction": "credit", "credits_micro": 3}),
    "quota.recount": ("/resource-counts", {"counts": {"collections": 3}}),
}  # fmt: skip


@pytest.mark.contract("4.8")
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: kind_of(route.command))
async def test_a_change_becomes_its_command_and_says_what_it_changed(
    route: Any, api: ApiApp, writer: httpx.AsyncClient
) -> None:
    path, body = BODIES[kind_of(route.command)]
    sent = body | {"reason": "goodwill"}
    answer = await writer.request(route.method, ORGANIZATION + path, json=sent, headers=ID)
    assert answer.status_code == 200, answer.text
    (command,) = api.desk.log
    assert isinstance(command, route.command)
    assert (command.issued_by, command.reason, command.command_id) == ("wim", "goodwill", "cmd-1")
    assert command.account_id == command.about == "org_heron"
    as_sent = command.model_dump(mode="json")
    for name, value in body.items():
        assert as_sent[name] == value or name in ("until", "expires_at"), name
    trail = answer.json()["trail"]
    assert (answer.json()["outcome"], trail["issued_by"], trail["command_id"]) == ("applied", "wim", "cmd-1")


async def test_a_change_of_a_member_goes_to_the_account_that_pays(api: ApiApp, writer: httpx.AsyncClient) -> None:
    api.learn(organization_record("org_member", account_id="org_heron"))
    path = "/v1/operator/organizations/org_member/grants/g1"
    assert (await writer.put(path, json={"credits_micro": 1}, headers=ID)).status_code == 200
    assert api.desk.log[0].account_id == "org_heron"
    moved = await writer.put(
        "/v1/operator/organizations/org_member", json={"tier": "pro", "account_id": "org_finch"}, headers=ID
    )
    assert (moved.status_code, len(api.desk.log)) == (422, 1)


async def test_an_organization_that_is_not_known_is_not_found(api: ApiApp, writer: httpx.AsyncClient) -> None:
    path = "/v1/operator/organizations/org_nobody"
    assert (await writer.put(f"{path}/grants/g", json={"credits_micro": 1}, headers=ID)).status_code == 404
    assert (await writer.get(path)).status_code == 404
    made = await writer.put(path, json={"tier": "free"}, headers=ID)
    assert made.status_code == 200
    assert (await writer.get(path)).json()["put"]["tier"] == "free"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.credits_micro"),
        ({"credits_micro": 0}, "body.credits_micro"),
        ({"credits_micro": 1.0}, "body.credits_micro"),
        ({"credits_micro": "1"}, "body.credits_micro"),
        ({"credits_micro": 1, "command_id": "x"}, "body.command_id"),
        ({"credits_micro": 1, "issued_by": "root"}, "body.issued_by"),
        ({"credits_micro": 1, "account_id": "org_finch"}, "body.account_id"),
        ({"credits_micro": 1, "reason": "a\nb"}, "body.reason"),
        ({"credits_micro": 1, "effective_at": "tomorrow"}, "body.effective_at"),
        ({"credits_micro": 1, "expires_at": "2020-01-02T00:00:00Z"}, ""),
        ([], "body"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_sent(
    body: Any, field: str, api: ApiApp, writer: httpx.AsyncClient
) -> None:
    answer = await writer.put(GRANT, json=body, headers=ID)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [one["field"] for one in answer.json()["fields"]] == [field]
    assert api.desk.log == []


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 129, "ü", None])
async def test_a_change_needs_an_idempotency_key(name: str | None, api: ApiApp, writer: httpx.AsyncClient) -> None:
    headers = {} if name is None else {"Idempotency-Key": name.encode()}
    answer = await writer.put(GRANT, json={"credits_micro": 1}, headers=headers)
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["fields"]] == ["header.Idempotency-Key"]
    assert api.desk.log == []


# ---- repeats ----


async def test_a_repeat_gets_the_first_answer_and_acts_no_more(api: ApiApp, writer: httpx.AsyncClient) -> None:
    first = await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)
    api.now_ms += 3_600_000
    again = await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert len(api.desk.log) == 1


async def test_another_request_with_the_same_id_is_refused(api: ApiApp, writer: httpx.AsyncClient) -> None:
    await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)
    others = [
        await writer.put(GRANT, json={"credits_micro": 6}, headers=ID),
        await writer.put(f"{ORGANIZATION}/grants/g2", json={"credits_micro": 5}, headers=ID),
        await writer.put(GRANT, json={"credits_micro": 5, "reason": "x"}, headers=ID),
        await writer.post(f"{GRANT}/revoke", json={}, headers=ID),
        await writer.post(f"{ORGANIZATION}/keys", json={}, headers=ID),
    ]
    assert {answer.status_code for answer in others} == {409}
    assert len(api.desk.log) == 1


async def test_an_id_is_its_operators_own(api: ApiApp, writer: httpx.AsyncClient) -> None:
    await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)
    (other,) = (one for one in api.parts.operators if one.name == "wim")
    api.parts.operators = (other.model_copy(update={"name": "eve"}),)
    assert (await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)).status_code == 409


async def test_a_repeat_of_a_change_is_made_of_what_stood_before_it(api: ApiApp, writer: httpx.AsyncClient) -> None:
    await writer.put(ORGANIZATION, json={"tier": "pro", "concurrency": 7}, headers={"Idempotency-Key": "c1"})
    changed = {"tier": "team", "objects_per_batch": 3}
    first = await writer.patch(ORGANIZATION, json=changed, headers={"Idempotency-Key": "c2"})
    await writer.patch(ORGANIZATION, json={"concurrency": None}, headers={"Idempotency-Key": "c3"})
    again = await writer.patch(ORGANIZATION, json=changed, headers={"Idempotency-Key": "c2"})
    assert (first.status_code, first.content) == (again.status_code, again.content)
    last = api.desk.log[-1]
    assert len(api.desk.log) == 3
    assert isinstance(last, OrganizationPut)
    assert (last.tier, last.concurrency, last.objects_per_batch) == ("team", None, 3)


async def test_a_pool_is_put_and_all_else_stays(api: ApiApp, writer: httpx.AsyncClient) -> None:
    await writer.put(ORGANIZATION, json={"tier": "pro", "concurrency": 7}, headers={"Idempotency-Key": "c1"})
    put = await writer.put(f"{ORGANIZATION}/pool", json={"cap_micro": 9}, headers={"Idempotency-Key": "c2"})
    assert put.status_code == 200
    last = api.desk.log[-1]
    assert isinstance(last, OrganizationPut)
    assert last.pool is not None
    assert (last.concurrency, last.pool.cap_micro, last.pool.reserved_micro) == (7, 9, 0)
    members = (await writer.get("/v1/operator/accounts/org_heron/members")).json()["members"]
    assert members == [{"organization_id": "org_heron", "account_id": "org_heron", "cap_micro": 9, "reserved_micro": 0}]


async def test_what_was_never_put_cannot_be_changed(api: ApiApp, writer: httpx.AsyncClient) -> None:
    assert (await writer.patch(ORGANIZATION, json={"tier": "pro"}, headers=ID)).status_code == 404
    assert api.desk.log == []


# ---- what the worker says ----


async def test_a_refusal_says_which_field_and_a_repeat_says_the_same(api: ApiApp, writer: httpx.AsyncClient) -> None:
    api.desk.refuses.add("grant.put")
    first = await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)
    assert (first.status_code, first.json()["fields"][0]["message"]) == (422, "is not possible")
    again = await writer.put(GRANT, json={"credits_micro": 5}, headers=ID)
    assert (again.status_code, again.content) == (422, first.content)


async def test_what_no_worker_answered_yet_says_where_to_look(api: ApiApp, writer: httpx.AsyncClient) -> None:
    api.desk.is_silent = True
    name = {"Idempotency-Key": "a/b#c?".rstrip("?")}
    sent = await writer.put(GRANT, json={"credits_micro": 5}, params={"wait_s": 0}, headers=name)
    assert (sent.status_code, sent.json()["outcome"]) == (202, "pending")
    assert (await writer.get(sent.headers["location"])).json()["outcome"] == "pending"
    api.desk.is_silent = False
    assert (await writer.get(sent.headers["location"])).json()["outcome"] == "applied"
    assert (await writer.put(GRANT, json={"credits_micro": 5}, headers=name)).status_code == 200
    assert (await writer.get("/v1/operator/accounts/org_heron/commands?command_id=no")).status_code == 404


AWAY = [KafkaConnectionError(), TimeoutError(), OSError("secret-host")]
LOOKS = (
    "trail",
    "alerts",
    "rejects",
    "decisions",
    "doctor",
    "organizations/org_heron/usage",
    "topology",
    "freshness",
    "top-consumers",
    "decisions/d-none",
    "organizations/org_heron/plan-fit",
)


@pytest.mark.parametrize("failure", AWAY)
async def test_where_kafka_or_clickhouse_is_away_the_answer_is_to_come_again(
    failure: Exception, api: ApiApp, writer: httpx.AsyncClient
) -> None:
    api.desk.failure = failure
    api.history.says.clear()
    answers = [
        await writer.put(GRANT, json={"credits_micro": 5}, headers=ID),
        *[await writer.get(f"/v1/operator/{name}") for name in LOOKS],
    ]
    assert {answer.status_code for answer in answers} == {503}
    assert all(answer.headers["retry-after"] == "5" and b"secret-host" not in answer.content for answer in answers)


# ---- keys ----


@pytest.mark.contract("1.3")
async def test_a_key_or_a_hash_that_another_organization_has_is_refused_before_it_is_sent(
    api: ApiApp, writer: httpx.AsyncClient
) -> None:
    body = {"key_sha256": hashlib.sha256(FINCH.encode()).hexdigest(), "mode": "live"}
    same_hash = await writer.put(f"{ORGANIZATION}/keys/key_new", json=body, headers=ID)
    same_id = await writer.put(f"{ORGANIZATION}/keys/key_finch_1", json=body | {"key_sha256": "0" * 64}, headers=ID)
    assert (same_hash.status_code, same_id.status_code) == (409, 409)
    assert "is the hash of another key" in same_hash.json()["detail"]
    assert "belongs to another organization" in same_id.json()["detail"]
    assert api.desk.log == []
    mine = await writer.put(f"{ORGANIZATION}/keys/key_new", json=body | {"key_sha256": "0" * 64}, headers=ID)
    again = await writer.put(f"{ORGANIZATION}/keys/key_new", json=body | {"key_sha256": "0" * 64}, headers=ID)
    assert (mine.status_code, again.status_code) == (200, 200)


async def test_a_new_keys_secret_is_shown_once_and_never_sent(api: ApiApp, writer: httpx.AsyncClient) -> None:
    made = await writer.post(f"{ORGANIZATION}/keys", json={"mode": "test"}, headers=ID)
    assert made.status_code == 201, made.text
    secret = made.json()["secret"]
    (command,) = api.desk.log
    assert isinstance(command, KeyPut)
    assert secret.startswith("sk_test_")
    assert secret not in command.model_dump_json()
    async with api.client(secret) as customer:
        assert (await customer.get("/v1/organizations/usage")).status_code == 200
    again = await writer.post(f"{ORGANIZATION}/keys", json={"mode": "test"}, headers=ID)
    assert again.status_code == 201
    assert again.json() == made.json() | {"secret": None}
    assert len(api.desk.log) == 1


# ---- looks ----


async def test_the_trail_comes_the_newest_first_and_a_page_at_a_time(api: ApiApp, writer: httpx.AsyncClient) -> None:
    for number in range(5):
        await writer.put(GRANT, json={"credits_micro": 5}, headers={"Idempotency-Key": f"c{number}"})
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while query.get("cursor", "") is not None:
        page = (await writer.get("/v1/operator/trail", params=query)).json()
        seen += [entry["command_id"] for entry in page["entries"]]
        query["cursor"] = page["next"]
    assert seen == ["c4", "c3", "c2", "c1", "c0"]


@given(st.dictionaries(st.integers(0, 4_096), st.integers(0, 2**63 - 1), min_size=1, max_size=60))
def test_a_cursor_leads_back_to_where_it_was_made(before: dict[int, int]) -> None:
    assert log_place(log_cursor(before)) == before


@pytest.mark.parametrize(
    "cursor", ["x", "W10", "e30x", "eyIwIjotMX0", "bnVsbA", "eyJ4IjoxfQ", "A" * 2_000, "W1tbW1tb" * 200]
)
async def test_a_cursor_that_is_none_is_refused(cursor: str, writer: httpx.AsyncClient) -> None:
    assert (await writer.get("/v1/operator/trail", params={"cursor": cursor})).status_code == 422


async def test_an_operator_sees_blocks_plans_balances_and_who_uses_most(writer: httpx.AsyncClient) -> None:
    blocks = (await writer.get("/v1/operator/blocks")).json()
    assert (blocks["total"], blocks["by_limit"]) == (2, {"search_per_minute": 1, "credits": 1})
    assert {one["organization_id"] for one in blocks["blocks"]} == {"org_heron", "org_finch"}
    only = (await writer.get("/v1/operator/blocks", params={"organization_id": "org_finch"})).json()
    assert [one["decision_id"] for one in only["blocks"]] == ["d-finch"]
    assert (await writer.get(f"{ORGANIZATION}/plan")).json()["rates"]["requests_per_minute"] == 600
    balances = (await writer.get(f"{ORGANIZATION}/balances")).json()["balances"]
    assert {(one["kind"], one["used_micro"]) for one in balances} == {
        ("account", 3_535_350),
        ("organization", 3_535_350),
        ("key", 3_535_350),
        ("label", 3_535_350),
    }
    assert [one["label"] for one in balances if one["label"]] == ["of=heron"]
    consumers = (await writer.get("/v1/operator/top-consumers", params={"limit": 1})).json()["consumers"]
    assert [one["organization_id"] for one in consumers] == ["org_finch"]
    assert (await writer.get("/v1/operator/decisions/d-heron")).json()["decision"]["decision_id"] == "d-heron"
    assert (await writer.get("/v1/operator/decisions/d-none")).status_code == 404
    assert (await writer.get("/v1/operator/topology")).json()["workers"]["partitions"][0]["owner"] == "worker@127.0.0.1"
    assert (await writer.get("/v1/operator/freshness")).json()["sink"]["p99_ms"] == 90
    assert (await writer.get("/v1/operator/drifts")).json() == {"drifts": []}


async def test_organizations_are_listed_a_page_at_a_time(writer: httpx.AsyncClient) -> None:
    first = (await writer.get("/v1/operator/organizations", params={"limit": 1})).json()
    assert [one["organization_id"] for one in first["organizations"]] == ["org_finch"]
    rest = (await writer.get("/v1/operator/organizations", params={"after": first["next"]})).json()
    assert ([one["organization_id"] for one in rest["organizations"]], rest["next"]) == (["org_heron"], None)


def test_grants_begin_now_where_nothing_else_is_said() -> None:
    assert body_of(GrantPut).model_fields["effective_at"].is_required() is False


async def test_until_organizations_are_known_none_is_made_or_missing(api: ApiApp, writer: httpx.AsyncClient) -> None:
    api.known.ready = False
    body = {"tier": "pro", "reason": "new"}
    answers = [
        await writer.put("/v1/operator/organizations/org_member", json=body, headers=ID),
        await writer.get("/v1/operator/organizations"),
        await writer.get(ORGANIZATION),
    ]
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert not api.desk.log
