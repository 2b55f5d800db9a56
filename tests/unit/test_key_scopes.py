"""What a key may read in the usage API: from the command that says it to the answer that follows it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from api.metered import OPERATIONS, STREAM
from sluicegate_schemas.accounts import ACCOUNT_COMMAND, KEY_SCOPES, KeyPut, KeyScope
from sluicegate_schemas.files import FileError, load_accounts
from sluicegate_schemas.outputs import KeyEntitlement
from streams.domain.tables import KeyRow
from tests.api_app import ApiApp
from tests.domain_world import World as Partition
from tests.domain_world import key_put, organization_put
from tests.gating import SECRET, key_record

KEYS = "/v1/operator/organizations/org_heron/keys"
READS: dict[str, KeyScope] = {
    "/v1/organizations": "limits:read",
    "/v1/organizations/usage": "usage:read",
    "/v1/organizations/usage/series": "usage:read",
    "/v1/organizations/usage/labels": "usage:read",
    "/v1/organizations/usage/api-keys/{key_id}": "usage:read",
    "/v1/organizations/projection": "usage:read",
    "/v1/organizations/plan-fit": "usage:read",
    "/v1/organizations/limits": "limits:read",
    "/v1/organizations/alerts": "alerts:read",
    "/v1/organizations/decisions/{decision_id:path}": "limits:read",
    "/v1/organizations/sla": "usage:read",
}
"""The scope that each route of customers needs; the stream needs all."""


def api_with(scopes: tuple[KeyScope, ...] | None) -> ApiApp:
    api = ApiApp()
    api.learn(key_record(rank=(2, 1), scopes=scopes))
    return api


def path_of(route: str) -> str:
    return route.replace("{key_id}", "key_heron_1").replace("{decision_id:path}", "d-heron")


def test_each_route_of_customers_needs_a_scope() -> None:
    assert {f"GET {route}" for route in READS} == set(OPERATIONS)
    assert set(READS.values()) == set(KEY_SCOPES)


@pytest.mark.parametrize("route", READS)
def test_a_key_without_its_scope_is_told_which_one_it_lacks_and_metered(route: str) -> None:
    path, needed = path_of(route), READS[route]
    alone = api_with((needed,)).get(path)
    whole = api_with(None).get(path)
    assert (alone.status_code, alone.content) == (whole.status_code, whole.content)
    assert whole.status_code != 403
    for scopes in (tuple(one for one in KEY_SCOPES if one != needed), ()):
        api = api_with(scopes)
        with_query = api.get(path, params={"month": "not even looked at"})
        refused = api.get(path)
        assert refused.content == with_query.content
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        assert refused.json()["detail"] == f"This key lacks: {needed}."
        assert refused.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
        assert b"heron" not in refused.content
        assert [event["status"] for event in api.meter.events] == [403, 403]


def test_the_stream_needs_all_scopes() -> None:
    refused = api_with(("usage:read",)).get(STREAM)
    assert (refused.status_code, refused.json()["detail"]) == (403, "This key lacks: limits:read alerts:read.")


@pytest.mark.contract("4.6")
def test_scopes_tell_nobody_whether_a_key_was_one() -> None:
    api = ApiApp()
    unknown = api.get("/v1/organizations/usage", "sk_live_never")
    api.learn(key_record(rank=(2, 1), scopes=(), revoked=True))
    revoked = api.get("/v1/organizations/usage")
    assert (revoked.status_code, revoked.content, revoked.headers) == (401, unknown.content, unknown.headers)


@pytest.mark.parametrize("scopes", [None, (), ("alerts:read",)])
def test_a_gate_lets_a_key_do_the_same_whatever_it_may_read(scopes: tuple[KeyScope, ...] | None) -> None:
    api = api_with(scopes)
    assert api.parts.gate is not None
    ticket: Any = api.parts.gate.check(SECRET, "search.knn")
    assert ticket.allowed


def newest(partition: Partition) -> KeyEntitlement:
    values = [one.value for one in partition.durable if one.topic == "entitlements" and one.key.startswith(b"key:")]
    return KeyEntitlement.model_validate_json(values[-1])


def test_a_put_sets_scopes_whole_and_the_trail_says_so() -> None:
    partition = Partition()
    partition.obey(organization_put(), key_put(scopes=["usage:read"]))
    assert newest(partition).scopes == ("usage:read",)
    partition.recover()
    partition.obey(key_put(command_id="none", scopes=[]), key_put(command_id="test", mode="test", scopes=[]))
    assert newest(partition).scopes == ()
    partition.obey(key_put(command_id="all"))
    assert newest(partition).scopes is None
    shown = [entry.after.get("scopes") for entry in partition.trail if entry.command == "key.put" and entry.after]
    assert shown == [["usage:read"], [], [], None]


def test_a_key_of_before_there_were_scopes_may_read_all_and_is_told_as_it_was() -> None:
    old = msgspec.msgpack.encode(["org_a", "a" * 64, "live", False])
    assert msgspec.msgpack.decode(old, type=KeyRow) == KeyRow("org_a", "a" * 64, "live", False, None)
    partition = Partition()
    partition.obey(organization_put(), key_put())
    (told,) = [one.value for one in partition.durable if one.topic == "entitlements" and one.key.startswith(b"key:")]
    assert b"scopes" not in told, "older gates would refuse the record"


@pytest.mark.parametrize("scopes", [["usage:write"], ["usage:read", "usage:read"], "usage:read", [1]])
async def test_a_scope_that_is_not_known_is_refused_with_the_fields_name(scopes: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        ACCOUNT_COMMAND.validate_json(key_put(scopes=scopes))
    assert "scopes" in refused.value.errors()[0]["loc"]
    api = ApiApp()
    async with api.client("operator-writes") as writer:
        headers = {"Idempotency-Key": "scopes-1"}
        for said in (
            await writer.post(KEYS, json={"scopes": scopes}, headers=headers),
            await writer.put(f"{KEYS}/key_new", json={"key_sha256": "cd" * 32, "scopes": scopes}, headers=headers),
        ):
            assert said.status_code == 422
            assert said.json()["fields"][0]["field"].startswith("body.scopes")


async def test_an_operator_makes_a_key_with_scopes_and_a_repeat_with_others_is_another_command() -> None:
    api = ApiApp()
    async with api.client("operator-writes") as writer:
        headers = {"Idempotency-Key": "scopes-2"}
        made = await writer.post(KEYS, json={"scopes": ["alerts:read"]}, headers=headers)
        assert (made.status_code, made.json()["scopes"]) == (201, ["alerts:read"])
        again = await writer.post(KEYS, json={"scopes": ["alerts:read"]}, headers=headers)
        assert (again.status_code, again.json()["secret"]) == (201, None)
        assert (await writer.post(KEYS, json={}, headers=headers)).status_code == 409


def test_an_accounts_file_says_scopes_as_a_command_does() -> None:
    text = """issued_at = 2026-01-01T00:00:00Z
issued_by = "platform"
[[organizations]]
id = "org_acme"
tier = "pro"
keys = [{ id = "key_acme_1", sha256 = "%s", scopes = %s }]
"""
    for scopes in ([], ["usage:read", "limits:read"]):
        _, key = load_accounts(text % ("ab" * 32, json.dumps(scopes)))
        assert isinstance(key, KeyPut)
        assert key.scopes == tuple(scopes)
    with pytest.raises(FileError, match="scopes"):
        load_accounts(text % ("ab" * 32, '["all"]'))
