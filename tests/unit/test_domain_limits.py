"""When a verdict changes, what is published of it, and when it clears (requirements, section 3)."""

from itertools import pairwise

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Balance
from streams.domain.settings import DomainSettings
from tests.domain_world import EPOCH, NOW_MS, World, default_catalogue, key_put, organization_put, small_world, usage

DECEMBER_MS = 1_796_083_200_000
DAY_MS = 86_400_000


def burst(world: World, count: int, at: int = NOW_MS, **fields):
    return world.send(*(usage("metadata.free", ts=at, **fields) for _ in range(count)), at=at)


@pytest.mark.contract("3.1")
def test_a_key_is_blocked_when_its_second_bucket_is_in_debt_until_one_more_request_fits():
    world = small_world("pro")  # 100 a second, burst 200
    burst(world, 200)
    assert world.decisions == []
    burst(world, 1)
    (decision,) = world.decisions
    assert (decision.verdict, decision.limit_name, decision.limit, decision.observed) == (
        "block", "requests_per_second", 200, 201,
    )  # fmt: skip
    assert decision.until is not None
    assert decision.until.timestamp() * 1000 == NOW_MS + 20
    assert decision.cause is not None
    assert (decision.cause.position.offset, decision.cause.event_id) == (1, "p1-1-0-2-0")
    assert (decision.scope.text(), decision.tier, decision.plan_version) == ("key:key_a", "pro", 1)
    assert (decision.sequence.epoch, world.early[0].partition) == (EPOCH, 0)
    assert world.early[0].key == b"requests_per_second:key:key_a"


@pytest.mark.contract("3.1")
def test_a_key_is_blocked_when_its_minute_bucket_is_in_debt():
    world = small_world("free")  # 60 a minute: one comes back each second
    for step in range(65):
        burst(world, 1, NOW_MS + step * 100)
    assert "requests_per_minute" not in {one.limit_name for one in world.decisions}
    for step in range(65, 68):
        burst(world, 1, NOW_MS + step * 100)
    (decision,) = [one for one in world.decisions if one.limit_name == "requests_per_minute"]
    assert (decision.limit, decision.observed) == (60, 61)
    assert decision.until is not None
    assert decision.until.timestamp() * 1000 == NOW_MS + 8_000


@pytest.mark.contract("1.6", "3.3")
def test_throttled_requests_take_no_token_and_test_keys_are_limited_too():
    world = small_world("pro")
    burst(world, 400, status=429)
    assert world.decisions == []
    burst(world, 201, key="key_t")
    assert [decision.scope.id for decision in world.decisions] == ["key_t"]


def test_while_a_block_stands_only_a_materially_later_end_is_published_and_not_too_often():
    world = small_world("pro", settings=DomainSettings(block_step_ms=1_000, block_interval_ms=250))
    burst(world, 201)
    for step in range(1, 60):
        burst(world, 11, NOW_MS + step * 10)
    until = [one.until.timestamp() * 1000 for one in world.decisions if one.limit_name == "requests_per_second"]
    decided = [one.decided_at.timestamp() * 1000 for one in world.decisions if one.limit_name == "requests_per_second"]
    assert until == sorted(until)
    assert all(later - earlier >= 250 for earlier, later in pairwise(decided))
    assert len(until) <= 3
    counters = [one.sequence.counter for one in world.decisions]
    assert counters == sorted(set(counters))


@pytest.mark.contract("9.8")
def test_a_start_far_in_the_past_or_ahead_counts_at_the_edge_of_the_allowed_skew():
    world = small_world("pro", settings=DomainSettings(start_skew_ms=1_000))
    world.send(*(usage("metadata.free", ts=NOW_MS, started=NOW_MS - 50_000) for _ in range(299)))
    assert world.decisions == []  # 200, and what 999 ms refill
    world.send(*(usage("metadata.free", ts=NOW_MS, started=NOW_MS - 50_000) for _ in range(1)))
    assert [one.observed for one in world.decisions] == [201]


@pytest.mark.contract("3.9", "9.13")
def test_an_account_is_blocked_once_its_credits_are_used_up_and_an_upgrade_opens_it():
    world = small_world("free")
    world.send(*(usage("documents.create", quantities={"documents": 250}, ts=NOW_MS + n) for n in range(4)))
    world.send(usage("documents.create", quantities={"documents": 250}))
    (block,) = [one for one in world.decisions if one.verdict == "block"]
    assert (block.verdict, block.scope.text(), block.limit_name) == ("block", "account:org_a", "credits")
    assert (block.limit, block.observed) == (1_000_000_000, 1_000_000_000)
    assert block.until is not None
    assert block.until.timestamp() * 1000 == DECEMBER_MS
    assert block.cause is not None
    assert block.cause.position.index == 3
    world.obey(organization_put(tier="pro"))
    allow = [one for one in world.decisions if one.limit_name == "credits"][-1]
    assert (allow.verdict, allow.limit, allow.observed) == ("allow", 100_000_000_000, 1_250_000_000)
    assert allow.sequence.counter > block.sequence.counter
    assert world.standing()[allow_key := "credits:account:org_a"].verdict == "allow"
    world.pass_time(NOW_MS + 16 * 60_000)
    assert allow_key not in world.standing()


@pytest.mark.contract("9.11")
def test_an_upgrade_raises_the_total_at_once_and_a_downgrade_waits_for_the_month():
    world = small_world("pro")
    world.send(usage(), usage(ts=NOW_MS))
    world.obey(organization_put(tier="team"))
    assert world.ledger("account", "org_a").total_micro == 10**12
    world.obey(organization_put(tier="free"))
    assert world.ledger("account", "org_a").total_micro == 10**12
    world.send(usage(ts=DECEMBER_MS), at=DECEMBER_MS)
    assert world.ledger("account", "org_a", "2026-12").total_micro == 10**9


@pytest.mark.contract("9.11")
def test_a_downgrade_waits_also_in_a_month_without_any_event():
    world = small_world("pro")
    world.obey(organization_put(tier="free"))
    world.send(usage())
    assert world.ledger("account", "org_a").total_micro == world.ledger("organization", "org_a").total_micro == 10**11
    world.send(usage(ts=DECEMBER_MS), at=DECEMBER_MS)
    assert world.ledger("account", "org_a", "2026-12").total_micro == 10**9


def test_an_upgrade_in_a_month_without_any_event_counts_and_a_refused_command_makes_no_ledger():
    world = small_world("free")
    world.obey(organization_put(tier="pro", account_id="org_x"))
    assert not any(key.startswith(b"l|") for key in world.rows)
    world.obey(organization_put(tier="pro", command_id="again"))
    assert world.ledger("account", "org_a").total_micro == 10**11


def test_without_a_catalogue_no_month_is_given_a_total():
    world = World()
    world.machine.use_catalogues([])
    world.obey(organization_put(tier="free"), organization_put(tier="free", command_id="again"))
    world.machine.use_catalogues([default_catalogue()])
    world.obey(key_put())
    world.send(usage())
    assert world.ledger("account", "org_a").total_micro == 10**9


def test_a_month_that_events_opened_early_still_takes_the_downgrade():
    world = small_world("pro")
    world.send(usage(ts=DECEMBER_MS + 10), at=DECEMBER_MS - 10)
    world.obey(organization_put(tier="free"))
    assert world.ledger("account", "org_a", "2026-12").total_micro == 10**9


def test_credits_used_ahead_of_the_month_block_it_when_it_begins():
    world = small_world("free")
    world.send(usage("documents.create", ts=DECEMBER_MS + 10, quantities={"documents": 1_000}), at=DECEMBER_MS - 10)
    assert world.decisions == []
    world.pass_time(DECEMBER_MS)
    assert [(one.verdict, one.limit_name, one.cause) for one in world.decisions] == [("block", "credits", None)]


@pytest.mark.contract("1.8", "3.9")
def test_the_reset_lets_an_account_go_on():
    world = small_world("free")
    world.send(usage("documents.create", quantities={"documents": 1_000}))
    world.send(usage("search.web", ts=DECEMBER_MS), at=DECEMBER_MS)
    (told,) = world.decisions[1:]
    assert (told.verdict, told.observed) == ("allow", 10_000_000)
    world.send(usage("documents.create", ts=DECEMBER_MS, quantities={"documents": 990}))
    assert [one.verdict for one in world.decisions] == ["block", "allow", "block"]
    assert world.used("account", "org_a", "2026-12") == 10**9


def test_new_limits_keep_what_the_buckets_hold_and_take_back_a_block():
    world = small_world("free")
    burst(world, 150)
    assert {one.limit_name for one in world.decisions} == {"requests_per_second", "requests_per_minute"}
    world.obey(organization_put(tier="pro"))
    assert {one.limit_name: one.verdict for one in world.decisions} == dict.fromkeys(
        ("requests_per_second", "requests_per_minute", "credits"), "allow"
    )
    world.early.clear()
    burst(world, 51)
    assert [one.observed for one in world.decisions] == [201]
    world.obey(organization_put(tier="enterprise"))
    assert [one.verdict for one in world.decisions[-2:]] == ["allow", "allow"]
    assert {row.verdict for row in world.standing().values()} == {"allow"}
    assert not any(key.startswith(b"b|") for key in world.rows)


@pytest.mark.parametrize("takes_over", [False, True])
def test_new_limits_leave_empty_buckets_as_good_as_new_whoever_owns_them(takes_over):
    world = small_world("pro")
    world.send(usage(status=429))  # looked at, and nothing taken
    world.obey(organization_put(tier="free"), at=NOW_MS + 40_000)
    if takes_over:
        world.take_over()
    world.send(usage(started=NOW_MS, ts=NOW_MS), at=NOW_MS + 40_000)
    assert {one.held(NOW_MS + 40_000) for one in world.machine.buckets.get("key_a").all} == {0}


@pytest.mark.contract("3.11")
def test_a_new_owner_publishes_what_stands_with_a_higher_sequence():
    world = small_world("free")
    world.send(usage("documents.create", quantities={"documents": 1_000}))
    burst(world, 100)
    before = {world.early[at].key: decision for at, decision in enumerate(world.decisions)}
    world.early.clear()
    world.take_over()
    after = {world.early[at].key: decision for at, decision in enumerate(world.decisions)}
    assert set(after) == set(before)
    for key, decision in after.items():
        assert decision.sequence.epoch > before[key].sequence.epoch
        assert decision.model_copy(update={"sequence": before[key].sequence}) == before[key]
    world.send(usage("documents.create", quantities={"documents": 1}))
    assert len(world.decisions) == len(after)


def test_blocks_that_time_cleared_are_forgotten():
    world = small_world("pro")
    burst(world, 201)
    world.pass_time(NOW_MS + 120_000)
    assert not any(key.startswith(b"d|") for key in world.rows)
    world.pass_time(NOW_MS + 3_600_000)
    assert not any(key.startswith(b"b|") for key in world.rows)


@pytest.mark.contract("9.10")
def test_late_events_count_into_their_month_within_the_grace_and_as_corrections_after_it():
    world = small_world("pro")
    late = usage("search.web", ts=DECEMBER_MS - 1)
    world.send(late, at=DECEMBER_MS + DAY_MS - 1)
    assert world.used("account", "org_a", "2026-11") == 10_000_000
    world.send(late, at=DECEMBER_MS + DAY_MS)
    assert world.used("account", "org_a", "2026-11") == 10_000_000
    assert world.used("account", "org_a", "2026-12") == 10_000_000
    assert world.ledger("key", "key_a", "2026-12").corrections_micro == {"2026-11": 10_000_000}
    assert sum(cell.credits_micro for cell in world.cells.values()) == 20_000_000


@pytest.mark.contract("1.8")
@pytest.mark.parametrize(("ts", "month"), [(DECEMBER_MS - 1, "2026-11"), (DECEMBER_MS, "2026-12")])
def test_the_months_end_is_exact_to_the_millisecond(ts, month):
    world = small_world("pro")
    world.send(usage("search.web", ts=ts), at=DECEMBER_MS)
    assert world.used("account", "org_a", month) == 10_000_000


def test_ledgers_are_kept_for_the_months_that_are_promised():
    world = small_world("pro")
    world.send(usage("search.web"))
    world.pass_time(DECEMBER_MS + 32 * DAY_MS)
    assert world.used("account", "org_a", "2026-11") == 10_000_000
    world.pass_time(DECEMBER_MS + 63 * DAY_MS)
    assert not any(key.startswith(b"l|") for key in world.rows)


@pytest.mark.contract("2.9")
def test_an_event_is_rated_by_the_version_in_force_at_its_own_time():
    first = default_catalogue()
    dear = first.operations["search.web"].model_copy(
        update={"price": first.operations["search.web"].price.model_copy(update={"credits_micro": 1})}
    )
    second = first.model_copy(
        update={
            "version": 2,
            "effective_at": from_epoch_ms(NOW_MS + 500),
            "operations": {**first.operations, "search.web": dear},
        }
    )
    world = small_world("pro", catalogues=[first, second])
    assert world.machine.catalogue_version == 1
    world.send(usage("search.web", ts=NOW_MS + 499), usage("search.web", ts=NOW_MS + 500), at=NOW_MS + 600)
    assert world.used("account", "org_a") == 10_000_001
    assert world.machine.catalogue_version == 2
    assert {cell.rated_version for cell in world.cells.values()} == {2}


def test_a_new_plan_version_raises_totals_and_limits_when_it_takes_effect():
    first = default_catalogue()
    plans = {**first.plans, "free": first.plans["pro"]}
    second = first.model_copy(update={"version": 2, "effective_at": from_epoch_ms(NOW_MS + 500), "plans": plans})
    world = small_world("free", catalogues=[first, second])
    world.send(usage("documents.create", quantities={"documents": 1_000}))
    burst(world, 30)
    assert {one.verdict for one in world.decisions} == {"block"}
    world.early.clear()
    world.pass_time(NOW_MS + 500)
    assert {(one.limit_name, one.verdict) for one in world.decisions} == {
        ("credits", "allow"), ("requests_per_second", "allow"), ("requests_per_minute", "allow"),
        ("data_per_minute", "allow"),
    }  # fmt: skip
    assert world.ledger("account", "org_a").total_micro == 10**11


def test_without_any_catalogue_nothing_is_counted():
    world = small_world()
    world.machine.use_catalogues([])
    with pytest.raises(LookupError):
        world.send(usage())


def requests_a_tenth_of_a_second_apart(world, count):
    for step in range(count):
        world.send(usage("search.web", ts=NOW_MS + step * 100), at=NOW_MS + step * 100)
    balances = [Balance.model_validate_json(one.value) for one in world.balances]
    assert {one.total_micro for one in balances if one.kind == "key"} == {None}
    return [one for one in balances if one.kind == "account"]


def test_changed_balances_are_told_as_they_are_when_they_are_asked_for():
    world = small_world("pro")
    account = requests_a_tenth_of_a_second_apart(world, 25)
    assert [one.used_micro for one in account] == [10_000_000 * number for number in range(1, 26)]
    assert [one.source.offset for one in account] == list(range(25))
    assert account[-1].breakdown_micro == {"search": 250_000_000}
    assert account[-1].requests == 25
    world.pass_time(NOW_MS + 10_000)
    world.balances.clear()
    world.take_over()
    balances = [Balance.model_validate_json(one.value) for one in world.balances]
    assert {one.kind: one.used_micro for one in balances} == dict.fromkeys(
        ("account", "organization", "key"), 250_000_000
    )
    assert {one.source.offset for one in balances} == {24}


def test_a_new_owner_publishes_the_balances_of_all_months_that_are_kept():
    world = small_world("pro")
    world.send(usage("search.web", ts=DECEMBER_MS - 500), at=DECEMBER_MS - 500)
    world.send(usage("search.web", ts=DECEMBER_MS - 400), at=DECEMBER_MS - 400)
    world.pass_time(DECEMBER_MS + 600)
    world.balances.clear()  # lost with their owner
    world.take_over()
    world.pass_time(DECEMBER_MS + 2_000)
    balances = [Balance.model_validate_json(one.value) for one in world.balances]
    assert {(one.kind, one.month): one.used_micro for one in balances} == dict.fromkeys(
        (("account", "2026-11"), ("organization", "2026-11"), ("key", "2026-11")), 20_000_000
    )


def test_entitlements_say_what_gates_need_and_wait_for_the_flush():
    world = World()
    world.obey(organization_put(rates={"requests_per_second": 1, "burst": 2, "requests_per_minute": 3}), key_put())
    organization, key = world.sent("entitlements")
    assert organization["rates"] == {"requests_per_second": 1, "burst": 2, "requests_per_minute": 3}
    keys = [record.key for record in world.durable if record.topic == "entitlements"]
    assert keys == [b"organization:org_a", f"key:{key['key_sha256']}".encode()]
    assert [organization["sequence"]["counter"], key["sequence"]["counter"]] == [0, 1]
    burst(world, 3)
    assert [one.observed for one in world.decisions if one.limit_name == "requests_per_second"] == [3]
