"""Pools: caps and reserved shares of organizations that share an account's credits (requirements, section 1)."""

import pytest

from sluicegate_schemas.outputs import Balance
from streams.domain.settings import DomainSettings
from tests.domain_world import World, key_put, organization_put, usage
from tests.grants import CREDIT, command, grant_put
from tests.unit.test_grants import MONTH_END_MS

Pool = dict[str, int]


def member(name: str, pool: Pool | None, command_id: str | None = None) -> bytes:
    """The command that makes a member of the pool of org_root."""
    fields = {} if pool is None else {"pool": pool}
    word = command_id or f"put-{name}"
    return organization_put(f"org_{name}", "enterprise", word, account_id="org_root", **fields)


def pool_world(
    credits_micro: int = 100 * CREDIT, *, settings: DomainSettings | None = None, **pools: Pool | None
) -> World:
    """org_root with 100 credits a month, and members."""
    world = World(settings)
    world.obey(organization_put("org_root", "enterprise", credits_micro_per_month=credits_micro))
    world.obey(key_put("key_root", "org_root"))
    for name, pool in pools.items():
        world.obey(member(name, pool), key_put(f"key_{name}", f"org_{name}", account_id="org_root"))
    world.early.clear()
    return world


def spend(world: World, name: str, amount: int, **fields: int) -> None:
    world.send(
        usage("documents.create", org=f"org_{name}", key=f"key_{name}", account="org_root",
              quantities={"documents": amount}, **fields)
    )  # fmt: skip


def verdicts(world: World) -> list[tuple[str, str]]:
    """What was decided about credits, without what only says how much is used."""
    return [
        (one.verdict, one.scope.text())
        for one in world.decisions
        if one.scope.kind == "organization" or one.verdict == "block"
    ]


@pytest.mark.contract("1.16")
def test_a_member_that_used_its_cap_is_closed_and_the_others_go_on() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT}, b=None)
    spend(world, "a", 29)
    spend(world, "b", 40)
    assert verdicts(world) == []
    spend(world, "a", 1)
    assert verdicts(world) == [("block", "organization:org_a")]
    assert world.decisions[-1].until is not None
    world.obey(member("a", {"cap_micro": 50 * CREDIT}, "more"))
    assert verdicts(world)[1:] == [("allow", "organization:org_a")]


@pytest.mark.contract("1.16")
def test_what_one_member_reserves_no_other_may_use() -> None:
    world = pool_world(a={"reserved_micro": 40 * CREDIT}, b=None)
    spend(world, "b", 60)
    assert verdicts(world) == [("block", "organization:org_b"), ("block", "organization:org_root")]
    spend(world, "a", 39)
    assert len(verdicts(world)) == 2
    world.take_over()
    world.early.clear()
    spend(world, "a", 1)
    assert ("block", "account:org_root") in verdicts(world)
    assert ("block", "organization:org_a") not in verdicts(world)


def test_a_grant_opens_the_members_that_the_reserves_closed() -> None:
    world = pool_world(a={"reserved_micro": 40 * CREDIT}, b=None)
    spend(world, "b", 70)
    world.early.clear()
    world.obey(grant_put(credits_micro=5 * CREDIT, account="org_root"))
    assert verdicts(world) == []
    world.obey(grant_put("g2", credits_micro=6 * CREDIT, account="org_root"))
    assert verdicts(world) == [("allow", "organization:org_b"), ("allow", "organization:org_root")]


def test_without_its_reserve_a_member_closes_no_other() -> None:
    world = pool_world(a={"reserved_micro": 40 * CREDIT}, b=None)
    spend(world, "b", 70)
    world.early.clear()
    world.obey(member("a", None, "none"))
    assert ("allow", "organization:org_b") in verdicts(world)
    assert ("allow", "organization:org_root") in verdicts(world)


def test_a_charge_of_an_operator_counts_for_the_cap() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT})
    world.obey(
        command("correction.put", "c", "org_root", organization_id="org_a", month="2026-11", direction="charge",
                credits_micro=30 * CREDIT)
    )  # fmt: skip
    assert verdicts(world) == [("block", "organization:org_a")]


@pytest.mark.contract("9.16")
@pytest.mark.parametrize(
    ("pools", "total"),
    [
        ({"a": {"cap_micro": 30 * CREDIT}, "b": None}, 30),
        ({"a": None, "b": None}, 80),
        ({"a": None, "b": {"reserved_micro": 50 * CREDIT}}, 50),
        ({"a": {"reserved_micro": 50 * CREDIT}, "b": None}, 80),
    ],
)
def test_a_members_balance_is_what_its_cap_and_the_pool_leave(pools: dict[str, Pool | None], total: int) -> None:
    world = pool_world(**pools)
    spend(world, "a", 10)
    spend(world, "b", 20)
    spend(world, "a", 1)
    world.pass_time(world.log_time_ms + 5_000)
    balances = [Balance.model_validate_json(one.value) for one in world.balances]
    found = [one for one in balances if (one.kind, one.id) == ("organization", "org_a")][-1]
    assert found.total_micro == total * CREDIT


def test_a_month_begins_with_open_members() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT})
    spend(world, "a", 30)
    world.early.clear()
    world.log_time_ms = MONTH_END_MS
    spend(world, "a", 29, ts=MONTH_END_MS)
    assert verdicts(world) == []
    spend(world, "a", 1, ts=MONTH_END_MS)
    assert verdicts(world) == [("block", "organization:org_a")]


def test_a_member_that_may_use_nothing_stays_closed_from_month_to_month() -> None:
    world = pool_world(a={"cap_micro": 0}, b=None)
    world.early.clear()
    world.pass_time(MONTH_END_MS)
    assert verdicts(world) == [("block", "organization:org_a")]


def test_what_came_ahead_of_a_month_closes_a_member_when_it_begins() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT}, b=None)
    world.log_time_ms = MONTH_END_MS - 1_000
    spend(world, "a", 30, ts=MONTH_END_MS)
    assert verdicts(world) == []
    world.pass_time(MONTH_END_MS)
    assert verdicts(world) == [("block", "organization:org_a")]


def balances_of(world: World, organization: str) -> list[Balance]:
    """What was told of an organization's month, oldest first."""
    told = [Balance.model_validate_json(one.value) for one in world.balances if one.topic == "balances"]
    return [one for one in told if (one.kind, one.id) == ("organization", organization)]


def shown(world: World, name: str) -> tuple[str, int, int | None]:
    """(month, used, total) that was told last of a member, in credits."""
    world.pass_time(world.log_time_ms + 5_000)
    last = balances_of(world, f"org_{name}")[-1]
    return last.month, last.used_micro // CREDIT, None if last.total_micro is None else last.total_micro // CREDIT


@pytest.mark.contract("9.16")
def test_a_members_balance_follows_what_the_others_spend() -> None:
    world = pool_world(a=None, b=None)
    spend(world, "a", 10)
    assert shown(world, "a") == ("2026-11", 10, 100)
    spend(world, "b", 20)
    assert shown(world, "a") == ("2026-11", 10, 80)
    world.obey(grant_put(credits_micro=5 * CREDIT, account="org_root"))
    assert shown(world, "a") == ("2026-11", 10, 85)
    world.obey(member("b", {"reserved_micro": 50 * CREDIT}, "reserve"))
    assert shown(world, "a") == ("2026-11", 10, 55)


@pytest.mark.contract("9.16")
def test_a_member_that_used_nothing_is_told_its_share() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT}, b={"reserved_micro": 40 * CREDIT}, c=None)
    assert [shown(world, name)[1:] for name in ("a", "b", "c", "root")] == [(0, 30), (0, 100), (0, 60), (0, 60)]
    spend(world, "b", 80)
    assert [shown(world, name)[1:] for name in ("a", "c", "root")] == [(0, 20), (0, 20), (0, 20)]
    world.balances.clear()
    world.take_over()
    assert shown(world, "a") == ("2026-11", 0, 20)
    assert b"l|organization|org_a|2026-11" not in world.rows, "being told of makes no ledger"


def test_a_month_begins_with_a_balance_for_each_member() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT}, b=None)
    spend(world, "a", 30)
    world.pass_time(MONTH_END_MS)
    assert shown(world, "a") == ("2026-12", 0, 30)
    assert shown(world, "b") == ("2026-12", 0, 100)


def test_a_grant_that_begins_in_a_month_without_usage_is_in_the_members_balances() -> None:
    begins_ms = MONTH_END_MS + 60_000
    world = pool_world(a=None, b=None)
    world.obey(grant_put("later", 40 * CREDIT, begins_ms, account="org_root"))
    world.pass_time(MONTH_END_MS)
    assert [shown(world, name) for name in ("a", "root")] == [("2026-12", 0, 100)] * 2
    world.pass_time(begins_ms)
    assert [shown(world, name) for name in ("a", "root")] == [("2026-12", 0, 140)] * 2


def test_a_balance_that_stays_as_it_is_is_not_told_again() -> None:
    world = pool_world(a={"cap_micro": 10 * CREDIT}, b=None)
    assert shown(world, "a") == ("2026-11", 0, 10)
    told = len(balances_of(world, "org_a"))
    spend(world, "b", 20)
    world.pass_time(world.log_time_ms + 5_000)
    assert len(balances_of(world, "org_a")) == told
    assert len(balances_of(world, "org_root")) > 1


def test_the_members_of_a_large_pool_are_told_in_turns() -> None:
    settings = DomainSettings(pool_balances_max=3)
    world = pool_world(settings=settings, **dict.fromkeys("abcdefgh"))
    world.pass_time(world.log_time_ms + 60_000)
    for _ in range(20):
        world.pass_time(world.log_time_ms + 1_000)
    world.balances.clear()
    spend(world, "a", 10)
    told = [name for name in (*"abcdefgh", "root") if balances_of(world, f"org_{name}")]
    assert "a" in told
    assert 1 < len(told) <= 1 + 3, "who spent, and three"
    for _ in range(4):
        world.pass_time(world.log_time_ms + 1_000)
    assert all(shown(world, name)[2] == (100 if name == "a" else 90) for name in "abcdefgh")


def test_a_former_owners_late_balance_of_a_member_that_used_nothing_is_answered() -> None:
    world = pool_world(a={"cap_micro": 30 * CREDIT})
    assert shown(world, "a") == ("2026-11", 0, 30)
    told = balances_of(world, "org_a")
    world.machine.say_again([("balances", b"organization:org_a:2026-11", b"{}")])
    assert shown(world, "a") == ("2026-11", 0, 30)
    assert len(balances_of(world, "org_a")) == len(told) + 1
