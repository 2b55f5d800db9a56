"""Resource quotas: counted from deltas, corrected by recounts, closed at the limit, and always open below it."""

import pytest

from streams.domain.notices import QUOTA
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, key_put, key_revoke, organization_put, small_world, usage
from tests.limits_world import exemption_put, newest, quota_recount

INTERVAL_MS = DomainSettings().block_interval_ms
KEPT_MS = DomainSettings().allows_kept_ms


def change(world: World, at: int = NOW_MS, status: int = 201, **delta: int) -> None:
    event = usage("collections.create", ts=at, status=status)
    event.resource_delta = delta
    world.send(event, at=at)


def said(world: World, resource: str = "collections") -> list[tuple[str, int, int]]:
    return [(one.verdict, one.observed, one.limit) for one in world.decisions if one.limit_name == f"quota_{resource}"]


def count(world: World, resource: str = "collections") -> int:
    world.take_over()
    for participant in world.machine.participants.all:
        if hasattr(participant, "count_of"):
            return participant.count_of("org_a", resource)
    raise AssertionError


@pytest.mark.contract("3.10")
def test_creation_is_closed_when_a_quota_is_reached_and_a_delete_opens_it():
    world = small_world("free")  # 5 collections
    change(world, collections=3)
    assert said(world) == []
    change(world, NOW_MS + 1_000, collections=1)
    assert said(world) == [("allow", 4, 5)], "from 80 % on each change is told"
    change(world, NOW_MS + 2_000, collections=1)
    block = newest(world, "quota_collections")
    assert (block.verdict, block.observed, block.limit, block.until) == ("block", 5, 5, None)
    assert block.scope.text() == "organization:org_a"
    assert block.cause is not None
    assert block.cause.position.offset == 2
    change(world, NOW_MS + 2_001, collections=-1)
    assert said(world)[-1] == ("allow", 4, 5)
    change(world, NOW_MS + 3_000, collections=-3)
    assert said(world)[-1] == ("allow", 1, 5), "once more, that nobody takes it for near the limit"
    change(world, NOW_MS + 4_000, collections=1)
    assert len(said(world)) == 4


@pytest.mark.contract("9.1")
@pytest.mark.parametrize("status", [199, 302, 404, 429, 500])
def test_what_did_not_succeed_makes_nothing(status):
    world = small_world("free")
    change(world, status=status, collections=5)
    assert (said(world), count(world)) == ([], 0)


def test_a_count_does_not_fall_below_nothing_and_says_so():
    world = small_world("free")
    change(world, collections=2)
    change(world, collections=-5)
    assert world.machine.notices.get(QUOTA, "org_a:collections") == 1
    change(world, collections=4)
    assert count(world) == 4


def test_a_recount_corrects_what_deltas_drifted_by():
    world = small_world("free")
    change(world, collections=4, documents=10)
    world.obey(quota_recount(collections=5), at=NOW_MS + 1_000)
    assert said(world)[-1] == ("block", 5, 5)
    world.obey(quota_recount(command_id="again", collections=0), at=NOW_MS + 1_001)
    assert said(world)[-1] == ("allow", 0, 5)
    assert (count(world), count(world, "documents")) == (0, 10)


@pytest.mark.contract("9.26")
def test_api_keys_are_counted_from_the_keys_and_revoked_ones_do_not_count():
    world = World()
    world.obey(organization_put(tier="free"), key_put(), key_put("key_t"))
    assert said(world, "api_keys")[-1] == ("block", 2, 2)
    world.obey(key_revoke("key_t"), at=NOW_MS + 1_000)
    assert said(world, "api_keys")[-1] == ("allow", 1, 2)
    world.obey(key_put("key_b"), at=NOW_MS + 2_000)
    assert said(world, "api_keys")[-1] == ("block", 2, 2)
    change(world, NOW_MS + 3_000, api_keys=-2)
    world.obey(quota_recount(api_keys=0), at=NOW_MS + 3_000)
    assert [one.reason for one in world.rejects] == ["command_refused"]
    assert said(world, "api_keys")[-1] == ("block", 2, 2)
    assert count(world, "api_keys") == 2


def test_the_last_of_quick_changes_is_told_when_the_interval_is_over():
    world = small_world("pro")
    change(world, documents=800_000)
    for step in range(1, 10):
        change(world, NOW_MS + step, documents=1)
    assert said(world, "documents") == [("allow", 800_000, 1_000_000)]
    world.pass_time(NOW_MS + INTERVAL_MS)
    assert said(world, "documents")[1:] == [("allow", 800_009, 1_000_000)]


@pytest.mark.contract("3.10")
def test_an_upgrade_opens_and_a_downgrade_closes_and_an_exemption_takes_the_quota_off():
    world = small_world("free")
    change(world, collections=7)
    assert said(world) == [("block", 7, 5)]
    world.obey(organization_put(tier="pro"), at=NOW_MS + 500)
    assert said(world)[-1] == ("allow", 7, 50)
    world.obey(organization_put(tier="free", command_id="down"), at=NOW_MS + 1_000)
    assert said(world)[-1] == ("block", 7, 5)
    world.obey(exemption_put("quota_collections", from_ms=NOW_MS + 1_500, until_ms=NOW_MS + 9_000), at=NOW_MS + 1_500)
    assert said(world)[-1][:2] == ("allow", 7)
    world.take_over()
    world.pass_time(NOW_MS + 9_000)
    assert said(world)[-1] == ("block", 7, 5)


def test_a_new_owner_says_again_what_stands_and_takes_back_what_its_rows_do_not_bear_out():
    world = small_world("free")
    change(world, collections=5)
    world.machine.apply_accounts([(9, NOW_MS + 5, None, quota_recount(buckets=5))])
    assert len(world.machine.take_outputs().early) == 1, "a block went out early, and its flush never came"
    world.take_over()
    assert said(world)[-1] == ("block", 5, 5)
    event = usage("collections.create", ts=NOW_MS + 9)
    event.resource_delta = {"buckets": 1}
    world.send(event, at=NOW_MS + 10)
    assert said(world, "buckets") == [("allow", 1, 5)], "said though it is not near: a block of before may be out"
    change(world, NOW_MS + 20, buckets=1)
    assert said(world, "buckets") == [("allow", 1, 5)]


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_use_that_was_told_stands_until_it_is_told_that_it_fell(is_taken_over):
    world = small_world("free")
    begin_ms = NOW_MS + KEPT_MS + 1_000
    world.pass_time(begin_ms)
    change(world, begin_ms, collections=4)
    world.pass_time(begin_ms + 2 * KEPT_MS)
    if is_taken_over:
        world.take_over()
        world.pass_time(begin_ms + 4 * KEPT_MS)
    change(world, begin_ms + 4 * KEPT_MS, collections=-3)
    assert said(world)[-1] == ("allow", 1, 5)
    world.pass_time(begin_ms + 5 * KEPT_MS)
    assert "quota_collections:organization:org_a" not in world.standing()


def test_quotas_of_many_organizations_under_a_new_version_go_out_by_as_many_as_a_flush_holds():
    world = World(settings=DomainSettings(changed_rows_max=100))
    for number in range(200):
        org = f"org_{number}"
        world.obey(organization_put(org, "free"), key_put(f"key_{number}", org), quota_recount(org, collections=6))
    flushed = []
    for step in range(100):
        if not step:
            world.machine.use_catalogues([*world.catalogues, later_version()])
        world.machine.advance(NOW_MS + 1_000 + step * 10)
        changes = world.machine.take_changes()
        flushed.append(len(changes))
        world.early += world.machine.take_outputs().early
    told = {one.scope.id: (one.verdict, one.limit) for one in world.decisions if one.limit_name == "quota_collections"}
    assert told == {f"org_{number}": ("allow", 10) for number in range(200)}
    assert max(flushed) <= 100


def later_version():
    from sluicegate_schemas.bounds import from_epoch_ms
    from tests.domain_world import default_catalogue

    first = default_catalogue()
    quotas = first.plans["free"].quotas | {"collections": 10}
    plans = first.plans | {"free": first.plans["free"].model_copy(update={"quotas": quotas})}
    return first.model_copy(update={"version": 2, "plans": plans, "effective_at": from_epoch_ms(NOW_MS + 1_000)})
