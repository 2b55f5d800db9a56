"""The audit trail: who changed what, when and why, before and after."""

import json

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from tests.domain_world import NOW_MS, World, key_put, key_revoke, organization_put
from tests.unit.test_overrides import RATES, between, command


def test_each_command_that_acted_is_on_the_trail_with_before_and_after() -> None:
    world = World()
    world.obey(organization_put(tier="free", reason="a trial"), key_put(), organization_put(tier="pro"), key_revoke())
    assert [(one.command, one.subject, one.reason, one.issued_by) for one in world.trail] == [
        ("organization.put", "org_a", "a trial", "tests"),
        ("key.put", "key_a", "", "tests"),
        ("organization.put", "org_a", "", "tests"),
        ("key.revoke", "key_a", "", "tests"),
    ]
    first, key, upgrade, revoke = world.trail
    assert (first.before, first.after) == (None, {"account_id": "org_a", "tier": "free"})
    assert (upgrade.before, upgrade.after) == (first.after, {"account_id": "org_a", "tier": "pro"})
    assert key.after == {"organization_id": "org_a", "mode": "live", "revoked": False}
    assert (revoke.before, revoke.after) == (key.after, {"organization_id": "org_a", "mode": "live", "revoked": True})
    assert [one.source.offset for one in world.trail] == [0, 1, 2, 3]
    assert {one.applied_at for one in world.trail} == {from_epoch_ms(NOW_MS)}
    assert {(one.topic, one.key) for one in world.durable if one.topic == "trail"} == {("trail", b"org_a")}


def test_a_boost_is_on_the_trail_from_its_begin_to_its_end() -> None:
    world = World()
    world.obey(organization_put())
    world.obey(command("boost.put", "c1", boost_id="b1", **between(NOW_MS, NOW_MS + 1), rates=RATES))
    world.obey(command("boost.end", "c2", boost_id="b1"))
    _, put, end = world.trail
    assert (put.subject, put.before, end.subject, end.after) == ("b1", None, "b1", None)
    assert put.after == end.before
    assert put.after is not None
    assert put.after["rates"] == [50, 900, 6_000]


def test_what_was_refused_or_came_before_is_not_on_the_trail() -> None:
    world = World()
    world.obey(organization_put(), organization_put(), organization_put(tier="free", command_id="put-org_a-pro"))
    world.obey(key_put(org="org_b"), b"nothing")
    assert len(world.trail) == 1
    assert [one.reason for one in world.rejects] == ["command_refused", "command_refused", "not_json"]


@pytest.mark.contract("1.5")
def test_no_hash_of_a_secret_is_on_the_trail() -> None:
    world = World()
    world.obey(organization_put(), key_put(), key_put(mode="test", command_id="again"), key_revoke())
    sha256 = json.loads(key_put())["key_sha256"]
    assert any(sha256 in json.dumps(one) for one in world.sent("entitlements"))
    assert not any(sha256 in json.dumps(one) for one in world.sent("trail"))
