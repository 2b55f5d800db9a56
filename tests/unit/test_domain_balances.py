"""Which balances a partition tells when it is asked, and in which order."""

import pytest

from sluicegate_schemas.outputs import Balance
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage
from tests.grants import CREDIT, grant_put
from tests.unit.test_pools import pool_world

DECEMBER_MS = 1_796_083_200_000


def told(world, at_most=1_000):
    world.clock_ms += 1_000
    return [Balance.model_validate_json(one.value) for one in world.machine.take_current(at_most, world.clock_ms)]


def told_of(world):
    """What was told with the world's flushes."""
    return [Balance.model_validate_json(one.value) for one in world.balances]


def test_of_many_changed_balances_the_oldest_change_is_told_first_and_the_rest_later_as_it_is_then():
    world = small_world("pro")
    apply = world.machine.apply_usage
    for number in range(3):  # nobody asks meanwhile; three ledgers change with each request
        apply([(number, NOW_MS, None, world.envelope(usage("search.web"), sequence=number + 1))])
    first, second = told(world, 2), told(world)
    assert [one.used_micro for one in first] == [30_000_000] * 2
    apply([(3, NOW_MS, None, world.envelope(usage("search.web"), sequence=4))])
    third = told(world)
    assert len({one.kind for one in first} | {one.kind for one in second}) == 3
    assert not {one.kind for one in first} & {one.kind for one in second}
    assert {one.kind: one.used_micro for one in third} == dict.fromkeys(("account", "organization", "key"), 40_000_000)
    assert not told(world)


@pytest.mark.parametrize(("kind", "pace"), [("account", "balance_rest_ms"), ("key", "key_balance_rest_ms")])
def test_a_ledger_that_changes_all_the_time_is_told_at_its_pace_and_once_more_when_nothing_comes(kind, pace):
    world = small_world("pro")
    told_at_ms, used, rest_ms = [], [], getattr(DomainSettings(), pace)
    for number in range(400):  # a change each 10 ms, and someone who asks as often
        if number < 300:
            world.machine.apply_usage(
                [(number, NOW_MS, None, world.envelope(usage("search.web"), sequence=number + 1))]
            )
        for one in world.machine.take_current(1_000, world.clock_ms + 10 * number):
            balance = Balance.model_validate_json(one.value)
            if balance.kind == kind:
                told_at_ms.append(10 * number)
                used.append(balance.used_micro // 10_000_000)
    burst = DomainSettings().balance_burst
    assert told_at_ms[:burst] == [0, 10, 20]
    assert told_at_ms[burst:] == list(range(rest_ms, 3_000 + rest_ms, rest_ms))
    assert used[-1] == 300


def test_a_ledger_that_changes_now_and_then_never_waits():
    world = small_world("pro")
    rest_ms = DomainSettings().key_balance_rest_ms
    for number, at_ms in enumerate((0, 30, 60, 3 * rest_ms, 3 * rest_ms + 400, 4 * rest_ms, 5 * rest_ms)):
        world.machine.apply_usage([(number, NOW_MS, None, world.envelope(usage("search.web"), sequence=number + 1))])
        balances = world.machine.take_current(1_000, world.clock_ms + at_ms)
        used = {Balance.model_validate_json(one.value).used_micro for one in balances}
        assert (len(balances), used) == (3, {10_000_000 * (number + 1)})


def test_a_ledger_of_which_only_requests_are_counted_is_told_seldom_and_what_it_then_uses_at_once():
    world = small_world("pro")
    told_at_ms = []
    for number in range(350):  # questions that cost nothing, one each 10 ms; the 301st is a search
        operation = "search.web" if number == 300 else "usage.get"
        world.machine.apply_usage([(number, NOW_MS, None, world.envelope(usage(operation), sequence=number + 1))])
        for one in world.machine.take_current(1_000, world.clock_ms + 10 * number):
            balance = Balance.model_validate_json(one.value)
            if balance.kind == "account":
                told_at_ms.append((10 * number, balance.requests, balance.used_micro))
    quiet_ms = DomainSettings().quiet_balance_rest_ms
    seldom = [(at_ms, at_ms // 10 + 1, 0) for at_ms in range(0, 3_001, quiet_ms)]
    assert told_at_ms == [*seldom[:-1], (3_000, 301, 10_000_000)]


def test_what_is_granted_to_a_ledger_that_only_counts_requests_is_told_at_once():
    world = small_world("pro")
    for number in range(2):  # the second waits for its pace
        world.machine.apply_usage([(number, NOW_MS, None, world.envelope(usage("usage.get"), sequence=number + 1))])
        world.machine.take_current(1_000, world.clock_ms)
    world.machine.apply_accounts([(world.accounts_offset + 1, NOW_MS, None, grant_put(credits_micro=500 * CREDIT))])
    at_once = [Balance.model_validate_json(one.value) for one in world.machine.take_current(1_000, world.clock_ms)]
    assert {one.kind: (one.granted_micro, one.requests) for one in at_once} == {
        "account": (500 * CREDIT, 2),
        "organization": (500 * CREDIT, 2),
    }


def test_a_balance_of_a_closed_month_is_told_only_once_a_flush_holds_it():
    world = small_world("pro")
    world.send(usage("search.web", ts=DECEMBER_MS - 500), at=DECEMBER_MS - 500)
    grace_end_ms = DECEMBER_MS + DomainSettings().grace_ms
    late = world.envelope(usage("search.web", ts=DECEMBER_MS - 400))
    world.machine.apply_usage([(1, grace_end_ms - 1, None, late)])
    world.machine.advance(grace_end_ms + 60_000)
    assert not told(world), "it is final, and in no flush"
    world.machine.take_changes()
    assert not told(world), "its flush may fail yet"
    world.machine.flushed(2, 100)
    november = [one for one in told(world) if one.month == "2026-11"]
    assert {(one.kind, one.used_micro, one.final) for one in november} == {
        (kind, 20_000_000, True) for kind in ("account", "organization", "key")
    }


def test_nor_is_a_pool_member_s_share_of_it():
    world = pool_world(a={"cap_micro": 30 * CREDIT}, b=None)
    world.log_time_ms = DECEMBER_MS + DomainSettings().grace_ms - 1
    fields = {"org": "org_a", "key": "key_a", "account": "org_root", "ts": DECEMBER_MS - 400}
    late = world.envelope(usage("search.web", **fields))
    world.machine.apply_usage([(world.offset + 1, world.log_time_ms, None, late)])
    world.machine.advance(world.log_time_ms + 60_000)
    world.machine.say_again([("balances", b"organization:org_a:2026-11", b"{}")])  # so that it is looked at now
    assert "2026-11" not in {one.month for one in told(world)}
    world.balances.clear()
    world.flush()
    november = [one for one in told(world) + told_of(world) if one.month == "2026-11" and one.id == "org_a"]
    assert {(one.kind, one.used_micro, one.final) for one in november} == {("organization", 10_000_000, True)}


def test_after_a_takeover_what_changes_is_told_before_what_was_told_by_the_former_owner():
    world = World()
    for number in range(4):
        world.obey(organization_put(f"org_{number}"), key_put(f"key_{number}", f"org_{number}"))
        world.send(usage("search.web", org=f"org_{number}", key=f"key_{number}"))
    world.recover()
    late = world.envelope(usage("search.web", org="org_3", key="key_3"))
    world.machine.apply_usage([(world.offset + 1, NOW_MS, None, late)])
    first, rest = told(world, 3), told(world)
    assert {(one.organization_id or one.id, one.used_micro) for one in first} == {("org_3", 20_000_000)}
    assert {one.used_micro for one in rest} == {10_000_000}
    assert len(rest) == 9, "three ledgers each of the others, and none of them twice"
    assert not told(world)
