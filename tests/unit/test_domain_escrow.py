"""Hard limits in the worker: what is lent, used, given back, freed."""

from __future__ import annotations

import msgspec
import pytest

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, from_epoch_ms
from sluicegate_schemas.envelope import DECODE_LEASE_REQUEST, WireEvent
from sluicegate_schemas.outputs import Balance
from streams.domain.escrow import lendable
from streams.domain.lease_time import STEP_MS_MAX
from streams.domain.period import DAY_MS
from streams.domain.settings import DomainSettings
from streams.domain.tables import COUNT_MAX, LeaseRow, LeaseTimeRow
from tests.domain_world import NOW_MS, World, key_put, organization_put, usage
from tests.grants import command
from tests.leases import ask, lease_request, leases

CREDIT = 1_000_000
SETTINGS = DomainSettings(lease_ttl_ms=30_000, lease_request_ms=60_000, lease_late_ms=120_000)
FREED_AFTER_MS = 210_000
DECEMBER_MS = 1_796_083_200_000


def world_of(total: int) -> World:
    """org_a has so many credits a month."""
    world = World(SETTINGS)
    world.obey(organization_put(credits_micro_per_month=total * CREDIT), key_put())
    world.durable.clear()
    return world


def spent(documents: int, *lease_ids: str, ts: int = NOW_MS) -> WireEvent:
    """A request that cost one credit a document, out of these leases."""
    event = usage("documents.create", quantities={"documents": documents}, ts=ts)
    event.leases = list(lease_ids)
    return event


def rows(world: World) -> dict[str, LeaseRow]:
    kept = (item for item in world.rows.items() if item[0].startswith(b"e|"))
    return {key.decode()[2:]: msgspec.msgpack.decode(payload, type=LeaseRow) for key, payload in kept}


def breaches(world: World) -> LeaseTimeRow:
    return msgspec.msgpack.decode(world.rows[b"et|leases"], type=LeaseTimeRow)


def lent(world: World) -> int:
    return sum(row.left_micro for row in rows(world).values())


def pass_slowly(world: World, for_ms: int) -> None:
    """Time passes with ticks, as on an idle partition."""
    end_ms = world.log_time_ms + for_ms
    while world.log_time_ms < end_ms:
        world.pass_time(min(end_ms, world.log_time_ms + 5_000))


@pytest.mark.contract("3.18")
def test_what_is_lent_is_out_of_everybody_elses_reach() -> None:
    world = world_of(100)
    first = ask(world, 60 * CREDIT)
    second = ask(world, 60 * CREDIT, node="node-2")
    third = ask(world, 60 * CREDIT, node="node-3")
    assert [one.credits_micro // CREDIT for one in (first, second, third)] == [60, 40, 0]
    assert (second.lent_micro, second.limit, second.used) == (100 * CREDIT, 100 * CREDIT, 0)
    assert lent(world) == 100 * CREDIT


def test_an_answer_waits_for_the_flush_that_holds_its_lease() -> None:
    world = world_of(100)
    world.append(lease_request(CREDIT))
    assert not [one for one in world.early if one.value.startswith(b'{"kind":"lease"')]
    assert [one.lease_id for one in leases(world)] == list(rows(world))


def test_a_cost_moves_from_lent_to_used() -> None:
    world = world_of(100)
    lease = ask(world, 60 * CREDIT)
    world.send(spent(25, lease.lease_id))
    assert (world.used("account", "org_a"), lent(world)) == (25 * CREDIT, 35 * CREDIT)
    assert ask(world, 99 * CREDIT, node="node-2").credits_micro == 40 * CREDIT


def test_a_lease_that_is_given_back_can_be_lent_again_at_once() -> None:
    world = world_of(100)
    lease = ask(world, 100 * CREDIT)
    world.send(spent(30, lease.lease_id))
    again = ask(world, 100 * CREDIT, node="node-1", returned=(lease.lease_id,))
    assert again.credits_micro == 70 * CREDIT
    assert list(rows(world)) == [again.lease_id]


def test_a_node_gives_back_only_what_is_its_own() -> None:
    world = world_of(100)
    lease = ask(world, 100 * CREDIT)
    world.append(lease_request(0, node="node-2", returned=(lease.lease_id,)))
    assert lent(world) == 100 * CREDIT
    world.append(lease_request(0, returned=(lease.lease_id, lease.lease_id, "0-999")))
    assert lent(world) == 0


def test_a_repeated_request_is_answered_with_the_same_lease() -> None:
    world = world_of(100)
    first = ask(world, 10 * CREDIT, request_id="once")
    second = ask(world, 10 * CREDIT, request_id="once")
    assert second.lease_id == first.lease_id
    assert second.sequence.counter > first.sequence.counter
    assert lent(world) == 10 * CREDIT


@pytest.mark.contract("3.19")
def test_what_a_dead_node_held_comes_back_after_the_stated_time_and_not_before() -> None:
    world = world_of(100)
    ask(world, 100 * CREDIT)
    pass_slowly(world, FREED_AFTER_MS - 5_000)
    assert ask(world, 100 * CREDIT, node="node-2").credits_micro == 0
    pass_slowly(world, 10_000)
    assert ask(world, 100 * CREDIT, node="node-2").credits_micro == 100 * CREDIT


def test_what_a_dead_node_held_comes_back_though_others_ask_all_the_while() -> None:
    world = world_of(100)
    ask(world, 100 * CREDIT)
    for at_ms in range(NOW_MS, NOW_MS + FREED_AFTER_MS, 500):
        assert ask(world, CREDIT, at_ms, node="node-2").credits_micro == 0
    assert ask(world, 100 * CREDIT, NOW_MS + FREED_AFTER_MS, node="node-2").credits_micro == 100 * CREDIT


def test_a_silence_of_the_log_frees_nothing() -> None:
    world = world_of(100)
    ask(world, 100 * CREDIT)
    world.pass_time(NOW_MS + 100 * FREED_AFTER_MS)
    assert lent(world) == 100 * CREDIT
    pass_slowly(world, FREED_AFTER_MS - STEP_MS_MAX)
    assert lent(world) == 0


def test_usage_of_a_freed_lease_is_counted_and_takes_nothing_of_the_others() -> None:
    world = world_of(100)
    late = ask(world, 100 * CREDIT)
    pass_slowly(world, FREED_AFTER_MS + 5_000)
    ask(world, 80 * CREDIT, node="node-2")
    world.send(spent(30, late.lease_id, ts=world.log_time_ms))
    assert (world.used("account", "org_a"), lent(world)) == (30 * CREDIT, 80 * CREDIT)
    assert ask(world, CREDIT, node="node-3").credits_micro == 0
    assert breaches(world).late_micro == 30 * CREDIT


def test_usage_beyond_what_a_lease_held_is_counted_as_a_breach() -> None:
    world = world_of(100)
    lease = ask(world, 10 * CREDIT)
    world.send(spent(25, lease.lease_id))
    assert (world.used("account", "org_a"), lent(world)) == (25 * CREDIT, 0)
    assert breaches(world).excess_micro == 15 * CREDIT


def test_a_new_owner_lends_no_more_than_the_old_one_left() -> None:
    world = world_of(100)
    lease = ask(world, 60 * CREDIT, request_id="once")
    world.send(spent(20, lease.lease_id))
    world.take_over()
    assert ask(world, 60 * CREDIT, request_id="once").lease_id == lease.lease_id
    assert ask(world, 99 * CREDIT, node="node-2").credits_micro == 40 * CREDIT
    pass_slowly(world, FREED_AFTER_MS + 5_000)
    assert ask(world, 99 * CREDIT, node="node-3").credits_micro == 80 * CREDIT


def test_a_lease_that_may_be_used_in_the_next_month_is_held_against_both() -> None:
    world = world_of(100)
    world.obey(organization_put("org_a", credits_micro_per_month=30 * CREDIT, command_id="downgrade"))
    before = ask(world, 100 * CREDIT, at=DECEMBER_MS - 120_000)
    assert before.credits_micro == 100 * CREDIT
    world.append(lease_request(0, returned=(before.lease_id,)))
    across = ask(world, 100 * CREDIT, at=DECEMBER_MS - 60_000)
    assert across.credits_micro == 30 * CREDIT
    world.send(spent(10, across.lease_id, ts=DECEMBER_MS + 1), at=DECEMBER_MS + 2)
    assert world.used("account", "org_a", "2026-12") == 10 * CREDIT
    assert ask(world, 100 * CREDIT, node="node-2").credits_micro == 0
    world.append(lease_request(0, returned=(across.lease_id,)))
    assert ask(world, 100 * CREDIT, node="node-2").credits_micro == 20 * CREDIT


@pytest.mark.contract("3.18")
def test_nothing_is_lent_while_more_is_used_and_lent_than_there_is() -> None:
    world = world_of(100)
    lease = ask(world, 90 * CREDIT)
    world.send(usage("documents.create", quantities={"documents": 50}))
    assert ask(world, CREDIT, node="node-2").credits_micro == 0
    world.append(lease_request(0, returned=(lease.lease_id,)))
    assert ask(world, 99 * CREDIT, node="node-2").credits_micro == 50 * CREDIT


def test_a_node_holds_so_many_leases_of_a_limit_at_most() -> None:
    world = world_of(100)
    for _ in range(SETTINGS.leases_node_max):
        assert ask(world, CREDIT).credits_micro == CREDIT
    assert ask(world, CREDIT).credits_micro == 0
    assert ask(world, CREDIT, node="node-2").credits_micro == CREDIT


def test_balances_say_how_much_is_lent() -> None:
    world = world_of(100)
    world.send(spent(1))
    lease = ask(world, 60 * CREDIT)
    world.pass_time(NOW_MS + 2_000)
    balances = [Balance.model_validate_json(one.value) for one in world.balances]
    account = [one for one in balances if one.kind == "account"][-1]
    assert account.lent_micro == 60 * CREDIT
    world.append(lease_request(0, returned=(lease.lease_id,)))
    world.pass_time(NOW_MS + 4_000)
    assert Balance.model_validate_json(world.balances[-1].value).lent_micro == 0


def test_a_hard_budget_is_lent_by_the_day_and_held_against_the_next_one_at_its_end() -> None:
    world = world_of(100)
    budget = {"period": "day", "credits_micro": 30 * CREDIT, "blocks": True, "mode": "hard", "api_key_id": "key_a"}
    world.obey(command("budget.put", "budget", organization_id="org_a", **budget))
    limit = {"limit_name": "budget_day", "scope": "key:key_a"}
    lease = ask(world, 50 * CREDIT, **limit)
    assert (lease.credits_micro, lease.limit) == (30 * CREDIT, 30 * CREDIT)
    world.send(spent(10, lease.lease_id))
    assert ask(world, 50 * CREDIT, node="node-2", **limit).credits_micro == 0
    world.append(lease_request(0, returned=(lease.lease_id,), **limit))
    end_ms = (NOW_MS // DAY_MS + 1) * DAY_MS
    across = ask(world, 50 * CREDIT, end_ms - 1_000, node="node-2", **limit)
    assert (across.credits_micro, across.until) == (20 * CREDIT, from_epoch_ms(end_ms))
    world.send(spent(15, across.lease_id, ts=end_ms + 1), at=end_ms + 2)
    assert ask(world, 50 * CREDIT, **limit).credits_micro == 10 * CREDIT


@pytest.mark.parametrize(
    "limit", [{}, {"limit_name": "budget_day", "scope": "organization:org_a"}], ids=["credits", "no such budget"]
)
def test_without_a_limit_no_more_is_lent_than_a_lease_can_state(limit: dict[str, str]) -> None:
    world = World(SETTINGS)
    world.obey(organization_put(tier="enterprise"), key_put())
    world.durable.clear()
    answers = [ask(world, CREDITS_MICRO_MAX, node=f"node-{number}", **limit) for number in range(3)]
    assert [answer.credits_micro for answer in answers] == [CREDITS_MICRO_MAX, 0, 0]
    assert {answer.limit for answer in answers} == {None}


def test_a_budget_that_took_in_more_than_a_lease_can_state_is_answered_all_the_same() -> None:
    world = World(SETTINGS)
    world.obey(organization_put(tier="enterprise"), key_put())
    world.pass_time(DECEMBER_MS + 3_600_000)
    budget = {"period": "month", "credits_micro": CREDITS_MICRO_MAX, "blocks": True, "mode": "hard"}
    world.obey(command("budget.put", "budget", organization_id="org_a", **budget))
    for month in ("2026-11", "2026-12"):
        charge = {"month": month, "direction": "charge", "credits_micro": CREDITS_MICRO_MAX}
        world.obey(command("correction.put", f"correction-{month}", organization_id="org_a", **charge))
    assert not world.rejects
    world.durable.clear()
    answer = ask(world, CREDIT, limit_name="budget_month", scope="organization:org_a")
    assert (answer.credits_micro, answer.used) == (0, CREDITS_MICRO_MAX)


def test_breaches_are_counted_as_far_as_a_row_holds_them() -> None:
    world = world_of(100)
    lease = ask(world, 20 * CREDIT)
    full = LeaseTimeRow(excess_micro=COUNT_MAX - 1, late_micro=COUNT_MAX - 1, astray_micro=COUNT_MAX - 1)
    world.rows[b"et|leases"] = msgspec.msgpack.encode(full)
    world.take_over()
    world.send(spent(25, lease.lease_id, ts=DECEMBER_MS), at=DECEMBER_MS)
    world.send(spent(5, "0-never", ts=DECEMBER_MS))
    found = breaches(world)
    assert (found.excess_micro, found.late_micro, found.astray_micro) == (COUNT_MAX,) * 3


def test_a_budget_that_is_no_more_limits_nothing() -> None:
    lease = ask(world_of(100), 500 * CREDIT, limit_name="budget_month", scope="organization:org_a")
    assert (lease.credits_micro, lease.limit) == (500 * CREDIT, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"org_id": "org_nobody"}, "org_id"),
        ({"account_id": "org_b"}, "account_id"),
        ({"scope": "account:org_b"}, "scope"),
        ({"limit_name": "budget_day"}, "scope"),
        ({"limit_name": "budget_day", "scope": "key:key_nobody"}, "scope"),
        ({"limit_name": "budget_day", "scope": "label:org_b:pipeline=a"}, "scope"),
    ],
)
def test_a_request_about_what_is_not_there_is_rejected_by_its_field(fields: dict[str, str], field: str) -> None:
    world = world_of(100)
    world.append(lease_request(CREDIT, **fields))
    (reject,) = world.rejects
    assert (reject.field, reject.organization_id) == (field, fields.get("org_id", "org_a"))
    assert world.machine.tally()[0]["rejected"] == 1
    assert not leases(world)


@pytest.mark.parametrize(
    ("left", "wanted", "needed", "least", "lent_micro"),
    [
        (1000, 80, 0, 0, 80),
        (100, 80, 0, 0, 25),
        (100, 80, 0, 40, 0),
        (160, 80, 0, 40, 40),
        (100, 80, 60, 20, 60),
        (50, 80, 60, 20, 50),
        (19, 80, 60, 20, 0),
        (0, 80, 0, 0, 0),
        (-5, 80, 60, 0, 0),
    ],
)
def test_parts_shrink_as_it_gets_scarce_and_never_below_what_helps(
    left: int, wanted: int, needed: int, least: int, lent_micro: int
) -> None:
    request = DECODE_LEASE_REQUEST(lease_request(wanted, needed_micro=needed, least_micro=least))
    assert lendable(left, request, 4) == lent_micro


def test_the_reset_is_said_with_a_lease() -> None:
    lease = ask(world_of(100), CREDIT)
    assert (lease.month, lease.until) == ("2026-11", from_epoch_ms(DECEMBER_MS))
    assert (lease.ttl_ms, lease.request_ms_max) == (SETTINGS.lease_ttl_ms, SETTINGS.lease_request_ms)
