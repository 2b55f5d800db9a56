"""Grants: when they begin, in which order they burn, and what happens when they end (requirements, section 9)."""

import msgspec
import pytest

from sluicegate_schemas.outputs import Balance
from streams.domain.period import month_index
from streams.domain.settings import DomainSettings
from streams.domain.tables import GrantRow
from tests.domain_world import NOW_MS, World, default_catalogue, key_put, organization_put, small_world, usage
from tests.grants import CREDIT, command, grant_put, grant_revoke, time_text

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MONTH_END_MS = 1_796_083_200_000
"""2026-12-01T00:00:00Z."""


def free_world() -> World:
    """A free organization: 1,000 credits a month."""
    world = small_world("free")
    world.early.clear()
    return world


def spend(world: World, amount: int, at: int | None = None, ts: int | None = None) -> None:
    """Uses ``amount`` credits (one a document), as of ``ts``, else now."""
    if at is not None:
        world.log_time_ms = at
    when = world.log_time_ms if ts is None else ts
    world.send(usage("documents.create", ts=when, quantities={"documents": amount}), at=at)


def burned(world: World, grant_id: str = "g1", kind: str = "grant", account: str = "org_a") -> int | None:
    """What a grant's row says is burned; None where there is no such row."""
    payload = world.rows.get(f"j|{kind}|{account}|{grant_id}".encode())
    return None if payload is None else msgspec.msgpack.decode(payload, type=GrantRow).burned_micro


def verdicts(world: World) -> list[tuple[str, int, int]]:
    """(verdict, limit, observed) in credits of what was decided about credits."""
    return [
        (one.verdict, one.limit // CREDIT, one.observed // CREDIT)
        for one in world.decisions
        if one.limit_name == "credits"
    ]


def total(world: World, month: str = "2026-11", kind: str = "account") -> int:
    """The credits of the month."""
    micro = world.ledger(kind, "org_a", month).total_micro
    assert micro is not None
    return micro // CREDIT


def balances(world: World, month: str = "2026-11") -> list[Balance]:
    """What was published of the account's month."""
    found = [Balance.model_validate_json(one.value) for one in world.balances]
    return [one for one in found if one.kind == "account" and one.month == month]


@pytest.mark.contract("3.9", "9.12")
def test_a_grant_raises_the_total_and_opens_the_gate_at_once() -> None:
    world = free_world()
    spend(world, 1_000)
    assert verdicts(world)[-1] == ("block", 1_000, 1_000)
    world.obey(grant_put(credits_micro=50 * CREDIT))
    assert verdicts(world)[-1] == ("allow", 1_050, 1_000)
    assert total(world) == total(world, kind="organization") == 1_050
    spend(world, 50)
    assert verdicts(world)[-1] == ("block", 1_050, 1_050)


def test_a_grant_pays_what_was_used_beyond_the_total_before_it_came() -> None:
    world = free_world()
    spend(world, 1_030)
    world.obey(grant_put(credits_micro=100 * CREDIT), grant_revoke())
    assert total(world) == 1_030
    assert verdicts(world)[-1] == ("block", 1_030, 1_030)


def test_a_grant_that_begins_later_opens_the_gate_when_it_begins() -> None:
    world = free_world()
    spend(world, 1_000)
    world.obey(grant_put(from_ms=NOW_MS + HOUR_MS))
    assert total(world) == 1_000
    world.pass_time(NOW_MS + HOUR_MS - 1)
    assert verdicts(world)[-1][0] == "block"
    world.pass_time(NOW_MS + HOUR_MS)
    assert verdicts(world)[-1] == ("allow", 1_100, 1_000)


def test_what_a_grant_has_left_when_it_expires_is_lost_and_may_close_the_gate() -> None:
    world = free_world()
    world.obey(grant_put(until_ms=NOW_MS + HOUR_MS, priority=200))
    spend(world, 1_020)
    world.pass_time(NOW_MS + HOUR_MS)
    assert total(world) == 1_020
    assert verdicts(world)[-1] == ("block", 1_020, 1_020)
    assert burned(world) == 20 * CREDIT


def test_a_grant_that_expired_burns_no_more_also_for_the_record_that_brings_the_time() -> None:
    world = free_world()
    world.obey(grant_put(until_ms=NOW_MS + HOUR_MS, priority=0))
    spend(world, 30)
    spend(world, 40, at=NOW_MS + HOUR_MS)
    assert burned(world) == 30 * CREDIT
    assert total(world) == 1_030


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": 5}, {"priority": 6}),
        ({"until_ms": NOW_MS + HOUR_MS}, {"until_ms": NOW_MS + 2 * HOUR_MS}),
        ({"until_ms": NOW_MS + HOUR_MS}, {}),
        ({"from_ms": NOW_MS + 1}, {"from_ms": NOW_MS + 2}),
    ],
)
def test_grants_burn_by_priority_then_expiry_then_age(first: dict[str, int], second: dict[str, int]) -> None:
    world = World()
    world.obey(organization_put(tier="enterprise", credits_micro_per_month=0), key_put())
    world.obey(grant_put("g2", **second), grant_put("g1", **first))
    world.pass_time(NOW_MS + 10)
    spend(world, 130)
    world.obey(grant_put("g9", from_ms=NOW_MS + 30 * MINUTE_MS, credits_micro=1))
    assert (burned(world, "g1"), burned(world, "g2")) == (100 * CREDIT, 30 * CREDIT)


def test_the_plans_credits_burn_before_a_grant_of_their_priority_that_outlasts_the_month() -> None:
    world = free_world()
    world.obey(grant_put("late"), grant_put("soon", until_ms=NOW_MS + HOUR_MS))
    spend(world, 150)
    world.pass_time(NOW_MS + HOUR_MS)
    assert (burned(world, "soon"), burned(world, "late")) == (100 * CREDIT, 0)
    assert total(world) == 1_200


def test_a_grant_outlives_its_month_with_what_is_left_of_it() -> None:
    world = free_world()
    world.obey(grant_put())
    spend(world, 1_060)
    spend(world, 1, at=MONTH_END_MS + HOUR_MS)
    assert burned(world) == 60 * CREDIT
    assert total(world, "2026-12") == 1_040
    assert total(world) == 1_100


def test_a_late_event_burns_what_its_month_still_had_at_its_end() -> None:
    world = free_world()
    world.obey(grant_put("old", until_ms=MONTH_END_MS, priority=0))
    spend(world, 30)
    spend(world, 5, at=MONTH_END_MS + HOUR_MS)
    assert burned(world, "old") == 30 * CREDIT
    spend(world, 20, at=MONTH_END_MS + 2 * HOUR_MS, ts=MONTH_END_MS - 1)
    assert burned(world, "old") == 50 * CREDIT
    assert total(world) == 1_100
    assert total(world, "2026-12") == 1_000


def test_a_late_event_that_burns_a_grant_lowers_what_the_current_month_has() -> None:
    world = free_world()
    world.obey(grant_put())
    spend(world, 1_000)
    spend(world, 1_040, at=MONTH_END_MS + HOUR_MS)
    spend(world, 60, at=MONTH_END_MS + 2 * HOUR_MS, ts=MONTH_END_MS - 1)
    assert total(world, "2026-12") == 1_040
    assert verdicts(world)[-1] == ("block", 1_040, 1_040)
    assert burned(world) == 100 * CREDIT


def test_the_months_credits_of_a_month_that_began_early_hold_its_grants() -> None:
    world = World()
    world.obey(organization_put(tier="enterprise", credits_micro_per_month=0), key_put(), grant_put())
    world.early.clear()
    spend(world, 10, at=MONTH_END_MS - 1_000, ts=MONTH_END_MS + 1_000)
    world.pass_time(MONTH_END_MS)
    assert {verdict for verdict, _, _ in verdicts(world)} <= {"allow"}
    assert total(world, "2026-12") == 100


def test_an_upgrade_pays_what_comes_behind_it_and_not_what_a_grant_has_paid() -> None:
    world = free_world()
    world.obey(grant_put(priority=200))
    spend(world, 1_010)
    world.obey(organization_put(tier="pro"), grant_revoke())
    assert total(world) == 100_010
    world.obey(organization_put(tier="free", command_id="down"))
    assert total(world) == 100_010


def test_an_id_names_one_grant() -> None:
    world = free_world()
    world.obey(grant_put(), grant_put(credits_micro=7, command_id="again"))
    assert [one.field for one in world.rejects] == ["grant_id"]
    assert total(world) == 1_100
    world.obey(grant_revoke("unknown"))
    assert [one.field for one in world.rejects] == ["grant_id", "grant_id"]


@pytest.mark.contract("9.14")
def test_a_balance_says_what_is_granted_what_is_overage_and_when_it_is_final() -> None:
    world = free_world()
    world.obey(grant_put(credits_micro=5 * CREDIT))
    spend(world, 1_010)
    world.pass_time(NOW_MS + HOUR_MS)
    balance = balances(world)[-1]
    assert (balance.total_micro, balance.granted_micro, balance.overage_micro, balance.final) == (
        1_005 * CREDIT,
        5 * CREDIT,
        5 * CREDIT,
        False,
    )


def test_a_month_is_final_when_its_grace_is_over() -> None:
    world = free_world()
    spend(world, 10)
    world.pass_time(MONTH_END_MS + 24 * HOUR_MS - 1)
    assert not balances(world)[-1].final
    world.pass_time(MONTH_END_MS + 24 * HOUR_MS)
    world.pass_time(MONTH_END_MS + 24 * HOUR_MS + 2_000)
    assert balances(world)[-1].final
    assert not balances(world)[-1].overage_micro


def rolling_world() -> World:
    """Two organizations whose plan carries over what a month leaves, seen to one by one."""
    catalogue = default_catalogue()
    plans = catalogue.plans | {"free": catalogue.plans["free"].model_copy(update={"rollover": True})}
    world = World(
        settings=DomainSettings(accounts_a_wake=1), catalogues=[catalogue.model_copy(update={"plans": plans})]
    )
    world.obey(organization_put(tier="free"), key_put(), organization_put("org_b", "free"), key_put("key_b", "org_b"))
    return world


@pytest.mark.contract("1.9")
def test_what_a_month_leaves_of_its_plan_is_granted_to_the_next_where_the_plan_says_so() -> None:
    world = rolling_world()
    world.obey(grant_put(credits_micro=50 * CREDIT, priority=0))
    spend(world, 350)
    world.send(usage("documents.create", org="org_b", key="key_b", quantities={"documents": 1_400}), producer="p2")
    spend(world, 100, at=MONTH_END_MS + HOUR_MS, ts=MONTH_END_MS - 1)
    closed_ms = MONTH_END_MS + 24 * HOUR_MS
    world.pass_time(closed_ms)
    world.take_over()
    world.pass_time(closed_ms)
    world.pass_time(closed_ms + 1)
    assert burned(world, "2026-11", "rollover") == 0
    assert burned(world, "2026-11", "rollover", "org_b") is None
    spend(world, 500, at=closed_ms + HOUR_MS)
    assert total(world, "2026-12") == 1_600
    world.pass_time(closed_ms + 30 * 24 * HOUR_MS)
    spend(world, 1)
    assert total(world, "2027-01") == 1_000
    world.pass_time(closed_ms + 31 * 24 * HOUR_MS)
    assert total(world, "2027-01") == 2_000


def _books(world: World) -> dict[bytes, bytes]:
    """The rows of grants and ledgers."""
    return {key: payload for key, payload in world.rows.items() if key[:2] in (b"j|", b"l|")}


def _two_months(owner_ends_after: int | None) -> World:
    world = free_world()
    steps = [
        lambda: world.obey(grant_put(until_ms=NOW_MS + HOUR_MS, priority=0), grant_put("g2", from_ms=MONTH_END_MS)),
        lambda: spend(world, 1_030),
        lambda: spend(world, 80, at=NOW_MS + 2 * HOUR_MS),
        lambda: spend(world, 1_050, at=MONTH_END_MS),
        lambda: spend(world, 60, at=MONTH_END_MS + HOUR_MS, ts=MONTH_END_MS - 1),
        lambda: world.pass_time(MONTH_END_MS + 2 * HOUR_MS),
    ]
    for number, step in enumerate(steps):
        step()
        if number == owner_ends_after:
            world.take_over()
    return world


@pytest.mark.parametrize("step", range(6))
def test_a_takeover_goes_on_where_the_rows_are(step: int) -> None:
    world = _two_months(step)
    assert _books(world) == _books(_two_months(None))
    assert (total(world), total(world, "2026-12")) == (1_100, 1_100)
    assert world.ledger("account", "org_a").used_micro == 1_170 * CREDIT


def boost_put(credits_micro: int, until_ms: int, command_id: str = "boost") -> bytes:
    return command(
        "boost.put", command_id, organization_id="org_a", boost_id="b1", effective_at=time_text(NOW_MS),
        until=time_text(until_ms), credits_micro=credits_micro,
    )  # fmt: skip


@pytest.mark.contract("1.18", "9.12")
def test_the_credits_of_a_boost_are_a_grant_of_its_time() -> None:
    world = free_world()
    world.obey(boost_put(100 * CREDIT, NOW_MS + HOUR_MS))
    spend(world, 30)
    world.obey(boost_put(20 * CREDIT, NOW_MS + 2 * HOUR_MS, "again"))
    assert total(world) == 1_050
    spend(world, 25)
    world.pass_time(NOW_MS + 2 * HOUR_MS)
    assert total(world) == 1_050
    world.obey(boost_put(70 * CREDIT, NOW_MS + 3 * HOUR_MS, "third"))
    assert total(world) == 1_120
    world.obey(command("boost.end", "end", organization_id="org_a", boost_id="b1"))
    assert total(world) == 1_050


def test_what_an_account_may_spend_is_what_its_total_leaves() -> None:
    world = free_world()

    def left() -> int | None:
        ledger = world.machine.ledgers.get("account", "org_a", month_index(world.log_time_ms))
        assert ledger is not None
        return None if ledger.total_micro is None else max(0, ledger.total_micro - ledger.used_micro)

    world.obey(grant_put())
    spend(world, 40)
    assert left() == 1_060 * CREDIT
    spend(world, 1_100)
    assert left() == 0
    world.obey(organization_put(tier="enterprise"))
    assert left() is None


def test_gates_are_told_how_much_is_used_as_the_credits_come_to_an_end() -> None:
    world = free_world()
    for amount in (9, 1, 39, 1, 749, 1, 50, 51, 79, 19, 1):
        spend(world, amount)
        world.take_over()
        world.early[:] = list({one.value: one for one in world.early}.values())
    said = dict.fromkeys((verdict, used) for verdict, _, used in verdicts(world))
    told = [10, 50, 799, 800, 850, 901, 980, 999]
    assert list(said) == [*(("allow", used) for used in told), ("block", 1_000)]


def test_one_event_that_passes_several_bands_is_told_of_once() -> None:
    world = free_world()
    spend(world, 985)
    spend(world, 1)
    assert verdicts(world) == [("allow", 1_000, 985)]


def test_what_came_before_a_late_event_burns_before_it() -> None:
    world = free_world()
    world.obey(grant_put())
    spend(world, 1_000)
    spend(world, 1_080, at=MONTH_END_MS + HOUR_MS)
    spend(world, 60, at=MONTH_END_MS + 2 * HOUR_MS, ts=MONTH_END_MS - 1)
    assert (world.ledger("account", "org_a").granted_burned_micro, total(world)) == (20 * CREDIT, 1_020)
    assert total(world, "2026-12") == 1_080


def test_an_account_has_so_many_grants_that_are_of_use() -> None:
    world = small_world("free", settings=DomainSettings(account_grants_max=2))
    world.obey(grant_put("a"), grant_put("b", until_ms=NOW_MS + HOUR_MS), grant_put("c"))
    assert len(world.rejects) == 1
    world.pass_time(NOW_MS + HOUR_MS)
    world.obey(grant_put("d"))
    assert len(world.rejects) == 1
    assert total(world) == 1_200


def test_grants_of_many_accounts_that_begin_at_once_are_seen_to_in_turn_and_when_touched() -> None:
    world = World(settings=DomainSettings(accounts_a_wake=1))
    names = ["org_a", "org_b", "org_c", "org_d"]
    for name in names:
        key = f"key_{name[4:]}"
        world.obey(organization_put(name, "free"), key_put(key, name))
        world.obey(grant_put(f"g-{name}", from_ms=NOW_MS + HOUR_MS, account=name))
    world.log_time_ms = NOW_MS + HOUR_MS
    world.send(usage("documents.create", org="org_d", key="key_d", ts=NOW_MS + HOUR_MS, quantities={"documents": 1}))
    assert world.ledger("account", "org_d").total_micro == 1_100 * CREDIT
    for _ in names:
        world.pass_time(NOW_MS + HOUR_MS)
    assert {world.ledger("account", name).total_micro for name in names} == {1_100 * CREDIT}
