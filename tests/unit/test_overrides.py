"""Boosts and exemptions by log time, and what is told of them."""

import json
from typing import Any

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import ENTITLEMENT, KeyEntitlement, OrganizationEntitlement
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, default_catalogue, organization_put, small_world

HOUR_MS = 3_600_000


def command(kind: str, command_id: str, **fields: Any) -> bytes:
    """One command on org_a."""
    base = {
        "kind": kind,
        "command_id": command_id,
        "issued_at": "2026-01-01T00:00:00Z",
        "issued_by": "tests",
        "account_id": "org_a",
        "organization_id": "org_a",
    }
    return json.dumps(base | fields).encode()


def between(begin_ms: int, end_ms: int) -> dict[str, str]:
    """The times of a boost or exemption."""
    return {"effective_at": from_epoch_ms(begin_ms).isoformat(), "until": from_epoch_ms(end_ms).isoformat()}


def told(world: World) -> list[KeyEntitlement | OrganizationEntitlement]:
    """The entitlements that were published since the last look."""
    records = [ENTITLEMENT.validate_json(one.value) for one in world.durable if one.topic == "entitlements"]
    world.durable.clear()
    return records


def organization_told(world: World) -> OrganizationEntitlement:
    """The one entitlement that was published since the last look, an organization's."""
    (record,) = told(world)
    assert isinstance(record, OrganizationEntitlement)
    return record


RATES = {"requests_per_second": 50, "burst": 900, "requests_per_minute": 6_000}


@pytest.mark.contract("1.18")
def test_a_boost_raises_limits_from_its_begin_until_its_end_and_never_lowers_one() -> None:
    world = small_world()
    plans = world.machine.plans
    boost = {"rates": RATES, "concurrency": 7, "quotas": {"collections": 80, "documents": None}}
    world.obey(command("boost.put", "c1", boost_id="b1", **between(NOW_MS + HOUR_MS, NOW_MS + 2 * HOUR_MS), **boost))
    assert plans.rates_of("key_a") == (100, 200, 600)
    assert told(world) == []
    world.pass_time(NOW_MS + HOUR_MS)
    assert plans.rates_of("key_a") == (100, 900, 6_000)
    record = organization_told(world)
    assert record.rates is not None
    assert record.rates.burst == 900
    world.pass_time(NOW_MS + 2 * HOUR_MS)
    assert plans.rates_of("key_a") == (100, 200, 600)
    assert organization_told(world).rates is None
    assert not [key for key in world.rows if key.startswith(b"g|")]


def test_a_boost_ends_when_it_is_told_to() -> None:
    world = small_world()
    world.obey(command("boost.put", "c1", boost_id="b1", **between(NOW_MS, NOW_MS + HOUR_MS), rates=RATES))
    assert organization_told(world).rates is not None
    world.obey(command("boost.end", "c2", boost_id="b1"))
    assert organization_told(world).rates is None
    world.obey(command("boost.end", "c3", boost_id="b1"))
    assert [(one.reason, one.field) for one in world.rejects] == [("command_refused", "boost_id")]


@pytest.mark.contract("1.18")
@pytest.mark.parametrize("api_key_id", [None, "key_a"])
def test_an_exemption_takes_a_limit_off_for_the_organization_or_one_key(api_key_id: str | None) -> None:
    world = small_world()
    plans = world.machine.plans
    who = {} if api_key_id is None else {"api_key_id": api_key_id}
    times = between(NOW_MS, NOW_MS + HOUR_MS)
    limit = "requests_per_minute"
    world.obey(command("exemption.put", "c1", exemption_id="e1", limit_name=limit, **times, **who))
    assert plans.is_exempt("org_a", "key_a", limit)
    assert plans.is_exempt("org_a", "key_t", limit) == (api_key_id is None)
    assert not plans.is_exempt("org_a", "key_a", "credits")
    records = {type(one): one.exempt for one in told(world)}
    if api_key_id is None:
        assert records == {OrganizationEntitlement: (limit,)}
    else:
        assert records == {KeyEntitlement: (limit,), OrganizationEntitlement: ()}
    world.pass_time(NOW_MS + HOUR_MS)
    assert not plans.is_exempt("org_a", "key_a", limit)
    assert all(one.exempt == () for one in told(world))


def test_a_new_owner_keeps_what_has_begun_and_begins_what_is_due() -> None:
    world = small_world()
    world.obey(
        command("boost.put", "c1", boost_id="b1", **between(NOW_MS, NOW_MS + 3 * HOUR_MS), rates=RATES),
        command("boost.put", "c2", boost_id="b2", **between(NOW_MS + HOUR_MS, NOW_MS + 2 * HOUR_MS), concurrency=80),
    )
    world.take_over()
    plans = world.machine.plans
    assert plans.rates_of("key_a") == (100, 900, 6_000)
    world.durable.clear()
    world.pass_time(NOW_MS + HOUR_MS)
    assert len(told(world)) == 1
    world.pass_time(NOW_MS + 3 * HOUR_MS)
    assert plans.rates_of("key_a") == (100, 200, 600)
    assert not [key for key in world.rows if key.startswith(b"g|")]


@pytest.mark.contract("1.1", "1.15")
def test_own_limits_win_over_the_plan_and_what_is_not_given_is_the_plans() -> None:
    world = small_world()
    plans = world.machine.plans
    own = {
        "concurrency": 3,
        "quotas": {"collections": 2},
        "shares": {"compute": 5},
        "credits_mode": "hard",
        "failure_modes": {"compute": {"mode": "closed"}},
    }
    world.obey(organization_put(command_id="own", **own))
    record = organization_told(world)
    assert plans.concurrency_of("org_a") == record.concurrency == 3
    assert plans.quota_of("org_a", "collections") == 2
    assert plans.quotas_of("org_a") == record.quotas
    assert plans.shares_of("org_a") == record.shares
    assert plans.credits_mode_of("org_a") == record.credits_mode == "hard"
    assert plans.failure_modes_of("org_a")["compute"] == ("closed", None)
    world.obey(organization_put(command_id="again"))
    record = organization_told(world)
    assert (record.concurrency, record.quotas, record.shares, record.credits_mode) == (None, None, None, None)
    assert plans.quota_of("org_a", "collections") == plans.catalogue().plans["pro"].quotas.get("collections")  # type: ignore[union-attr]  # there is one


def test_a_catalogue_version_is_told_to_those_whose_own_limits_stand_among_the_plans() -> None:
    first = default_catalogue()
    pro = first.plans["pro"].model_copy(update={"quotas": {"collections": 60, "buckets": 70}})
    begin_ms = NOW_MS + HOUR_MS
    second = first.model_copy(
        update={"version": 2, "effective_at": from_epoch_ms(begin_ms), "plans": first.plans | {"pro": pro}}
    )
    names = [f"org_{number}" for number in range(5)]
    world = World(catalogues=[first, second], settings=DomainSettings(entitlements_a_wake=2))
    world.obey(*(organization_put(name, quotas={"collections": 1}) for name in names), organization_put("org_plain"))
    told(world)
    world.pass_time(begin_ms)
    assert [one.organization_id for one in told(world)] == names[:2]
    world.take_over()
    world.durable.clear()
    for _ in range(5):
        world.pass_time(begin_ms)
    records = told(world)
    assert [one.organization_id for one in records] == names, "a new owner cannot know who was told already"
    assert all(one.quotas == {"buckets": 70, "collections": 1} for one in records)
    world.take_over()
    world.pass_time(begin_ms + 1)
    assert told(world) == []


def test_a_catalogue_version_is_told_to_those_that_a_boost_raises() -> None:
    first = default_catalogue()
    pro = first.plans["pro"].model_copy(update={"concurrency": 90})
    second = first.model_copy(
        update={"version": 2, "effective_at": from_epoch_ms(NOW_MS + 1), "plans": first.plans | {"pro": pro}}
    )
    world = World(catalogues=[first, second])
    world.obey(organization_put())
    world.obey(command("boost.put", "c1", boost_id="b1", **between(NOW_MS, NOW_MS + HOUR_MS), concurrency=70))
    assert [one.concurrency for one in told(world) if isinstance(one, OrganizationEntitlement)] == [None, 70]
    world.pass_time(NOW_MS + 1)
    assert organization_told(world).concurrency == 90
