"""Corrections: a charge is usage of a month that is open, a credit is a grant (requirements, section 9)."""

import pytest

from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.outputs import Balance
from stack.expected import Tenants, Totals
from stack.expected_corrections import book_corrections
from tests.domain_world import NOW_MS, World, usage
from tests.grants import CREDIT, command
from tests.unit.test_grants import HOUR_MS, MONTH_END_MS, burned, free_world, spend, total, verdicts

DAY_MS = 24 * HOUR_MS


def correction(amount: int, month: str = "2026-11", direction: str = "charge", **fields: object) -> bytes:
    """The command that corrects ``amount`` credits."""
    return command(
        "correction.put",
        str(fields.pop("command_id", f"correct-{amount}-{month}-{direction}")),
        organization_id="org_a",
        month=month,
        direction=direction,
        credits_micro=amount * CREDIT,
        **fields,
    )


def rolled_up(world: World) -> dict[int, int]:
    """Micro-credits of the cells of corrections by minute."""
    return {minute: one.credits_micro for (_, _, name, minute, _), one in world.cells.items() if name == "correction"}


def test_a_charge_is_usage_of_its_month_in_every_book() -> None:
    world = free_world()
    spend(world, 10)
    world.obey(correction(5, api_key_id="key_a", breakdown="inference"))
    assert [world.used(*one) for one in (("account", "org_a"), ("organization", "org_a"), ("key", "key_a"))] == [
        15 * CREDIT
    ] * 3
    assert world.ledger("account", "org_a").breakdown_micro[:2] == [10 * CREDIT, 5 * CREDIT]
    assert rolled_up(world) == {NOW_MS // 60_000: 5 * CREDIT}


def test_a_charge_closes_the_gate_where_it_uses_up_the_credits() -> None:
    world = free_world()
    world.obey(correction(1_000))
    assert verdicts(world) == [("block", 1_000, 1_000)]


def test_a_charge_in_the_grace_is_of_its_month() -> None:
    world = free_world()
    spend(world, 10)
    world.pass_time(MONTH_END_MS + DAY_MS - 1)
    world.obey(correction(5))
    assert world.used("account", "org_a") == 15 * CREDIT
    assert rolled_up(world) == {(MONTH_END_MS - 1) // 60_000: 5 * CREDIT}


def test_a_charge_for_a_closed_month_is_of_the_current_one_and_names_its_own() -> None:
    world = free_world()
    spend(world, 10)
    world.pass_time(MONTH_END_MS + DAY_MS)
    world.obey(correction(5), correction(7, "2026-03"))
    world.take_over()
    world.obey(correction(2, command_id="more"))
    world.pass_time(MONTH_END_MS + DAY_MS + 5_000)
    assert world.used("account", "org_a") == 10 * CREDIT
    assert world.used("account", "org_a", "2026-12") == 14 * CREDIT
    assert world.ledger("account", "org_a", "2026-12").charges_micro == {"2026-11": 7 * CREDIT, "2026-03": 7 * CREDIT}
    assert sum(rolled_up(world).values()) == 14 * CREDIT
    assert min(rolled_up(world)) * 60_000 >= MONTH_END_MS
    newest = [Balance.model_validate_json(one.value) for one in world.balances][-1]
    assert newest.corrections_micro == {"2026-03": 7 * CREDIT, "2026-11": 7 * CREDIT}


def test_a_credit_is_a_grant_of_the_current_month_that_burns_first() -> None:
    world = free_world()
    spend(world, 1_000)
    world.obey(correction(30, "2026-10", "credit", command_id="back"))
    assert verdicts(world)[-1] == ("allow", 1_030, 1_000)
    assert world.used("account", "org_a") == 1_000 * CREDIT
    spend(world, 20, at=MONTH_END_MS)
    assert total(world, "2026-12") == 1_000
    assert burned(world, "back", "correction") == 0


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (correction(1, "2026-12"), "month"),
        (correction(10**12), "credits_micro"),
        (correction(1, api_key_id="key_nobody"), "api_key_id"),
    ],
)
def test_an_impossible_correction_changes_nothing(wrong: bytes, field: str) -> None:
    world = free_world()
    spend(world, 1)
    rows = {key: one for key, one in world.rows.items() if key[:1] in b"lcj"}
    world.obey(wrong)
    assert [one.field for one in world.rejects] == [field]
    assert {key: one for key, one in world.rows.items() if key[:1] in b"lcj"} == rows


def test_cells_of_usage_with_the_same_operation_and_of_charges_never_replace_each_other() -> None:
    world = free_world()
    world.send(usage("correction"))
    world.obey(correction(5), correction(6))
    assert sum(rolled_up(world).values()) == 11 * CREDIT


def test_the_check_expects_each_charge_once_and_where_it_is_booked() -> None:
    world = free_world()
    at_ms = MONTH_END_MS + DAY_MS
    sent = [
        (correction(3, breakdown="search", api_key_id="key_a"), NOW_MS),
        (correction(3, breakdown="search", api_key_id="key_a"), NOW_MS),
        (correction(4, direction="credit"), NOW_MS),
        (correction(5, "2026-12"), NOW_MS),
        (correction(6, api_key_id="key_b"), NOW_MS),
        (correction(7), at_ms - 1),
        (correction(8), at_ms),
    ]
    for value, time_ms in sent:
        world.obey(value, at=time_ms)
    totals = Totals()
    tenants = Tenants({"org_a": "org_a"}, {"key_a": "org_a"})
    book_corrections(totals, tenants, [(ACCOUNT_COMMAND.validate_json(value), time_ms) for value, time_ms in sent])
    found = {month: world.used("account", "org_a", month) for month in ("2026-11", "2026-12")}
    assert found == {month: totals.by_account["org_a", month] for month in found}
    assert totals.by_key["key_a", "2026-11"] == world.used("key", "key_a") == 3 * CREDIT
    assert totals.by_breakdown["org_a", "2026-11", "search"] == 3 * CREDIT
    assert sum(rolled_up(world).values()) == totals.credits_micro == sum(found.values())
