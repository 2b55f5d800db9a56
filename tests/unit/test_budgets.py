"""Budgets and balances of labels (requirements, section 1)."""

import pytest

from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.outputs import ENTITLEMENT, Balance, OrganizationEntitlement
from streams.domain.budgets import BudgetFigures, Budgets
from streams.domain.period import DAY_MS
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, small_world, usage
from tests.grants import CREDIT, budget_put, budget_remove
from tests.unit.test_grants import HOUR_MS, MONTH_END_MS

NIGHT_MS = (NOW_MS // DAY_MS + 1) * DAY_MS
"""The end of the day."""


def budget_world() -> World:
    world = small_world("pro")
    world.early.clear()
    return world


def spend(world: World, amount: int, ts: int | None = None, labels: dict[str, str] | None = None) -> None:
    """Uses ``amount`` credits as of ``ts``, with labels."""
    event = usage("documents.create", ts=world.log_time_ms if ts is None else ts, quantities={"documents": amount})
    event.labels = labels
    world.send(event)


def verdicts(world: World) -> list[tuple[str, str, str, int, int]]:
    """(verdict, limit, scope, credits allowed, credits used)."""
    return [
        (one.verdict, one.limit_name, one.scope.text(), one.limit // CREDIT, one.observed // CREDIT)
        for one in world.decisions
    ]


def figures(world: World) -> BudgetFigures:
    """The only budget's."""
    (one,) = next(one for one in world.machine.participants.all if isinstance(one, Budgets)).all()
    return one


@pytest.mark.contract("1.21")
def test_a_budget_that_is_used_up_closes_its_scope_until_its_window_ends() -> None:
    world = budget_world()
    world.obey(budget_put(), budget_put(api_key_id="key_a", credits_micro=30 * CREDIT, command_id="second"))
    world.early.clear()
    spend(world, 11)
    (block,) = [one for one in world.decisions if one.verdict == "block"]
    assert ("block", "budget_day", "organization:org_a", 10, 11) in verdicts(world)
    assert block.until is not None
    assert block.until.timestamp() * 1000 == NIGHT_MS
    assert block.cause is not None
    world.early.clear()
    spend(world, 20)
    assert verdicts(world) == [("block", "budget_day", "key:key_a", 30, 31)]
    world.log_time_ms = NIGHT_MS
    world.early.clear()
    spend(world, 10)
    assert ("block", "budget_day", "organization:org_a", 10, 10) in verdicts(world)


def test_gates_are_told_how_much_of_a_budget_is_used_as_it_comes_to_an_end_but_not_of_one_that_only_warns() -> None:
    world = budget_world()
    world.obey(budget_put(100 * CREDIT), budget_put(100 * CREDIT, blocks=False, api_key_id="key_a", command_id="b"))
    said = {one.scope.text(): one.until for one in world.decisions}
    assert said["key:key_a"] is None, "there is nothing to reckon with"
    assert said["organization:org_a"] is not None
    assert said["organization:org_a"].timestamp() * 1000 == NIGHT_MS
    world.early.clear()
    for amount in (79, 1, 1, 18):
        spend(world, amount)
    assert [one[2:] for one in verdicts(world)] == [("organization:org_a", 100, used) for used in (79, 80, 99)]


def test_what_is_used_ahead_of_its_day_counts_in_its_day_and_what_comes_late_in_none() -> None:
    world = budget_world()
    world.log_time_ms = NIGHT_MS - 1_000
    world.obey(budget_put(100 * CREDIT))
    spend(world, 9)
    spend(world, 5, ts=NIGHT_MS)
    assert figures(world).used_micro == 9 * CREDIT
    world.pass_time(NIGHT_MS)
    assert figures(world).used_micro == 5 * CREDIT
    spend(world, 3, ts=NIGHT_MS - 1)
    spend(world, 1)
    assert figures(world).used_micro == 6 * CREDIT


@pytest.mark.parametrize("begins_with", ["the time", "a late event", "a cost"])
def test_a_window_that_was_used_up_ahead_of_it_is_closed_whatever_begins_it(begins_with: str) -> None:
    world = budget_world()
    world.log_time_ms = NIGHT_MS - 1_000
    world.obey(budget_put(10 * CREDIT))
    spend(world, 10, ts=NIGHT_MS)
    assert verdicts(world)[-1][:2] == ("allow", "budget_day")
    match begins_with:
        case "the time":
            world.pass_time(NIGHT_MS)
        case "a late event":
            world.log_time_ms = NIGHT_MS
            spend(world, 1, ts=NIGHT_MS - 1)
        case "a cost":
            world.log_time_ms = NIGHT_MS
            spend(world, 1, ts=NIGHT_MS)
    assert ("block", "budget_day", "organization:org_a") in [one[:3] for one in verdicts(world)]


def test_a_budget_that_is_put_smaller_is_closed_by_what_came_ahead_when_its_window_begins() -> None:
    world = budget_world()
    world.log_time_ms = NIGHT_MS - 1_000
    world.obey(budget_put(100 * CREDIT))
    spend(world, 60, ts=NIGHT_MS)
    world.obey(budget_put(50 * CREDIT, command_id="smaller"))
    world.early.clear()
    world.pass_time(NIGHT_MS)
    assert verdicts(world) == [("block", "budget_day", "organization:org_a", 50, 60)]


def test_the_event_that_uses_up_a_window_is_named_though_something_came_ahead_of_it() -> None:
    world = budget_world()
    world.log_time_ms = NIGHT_MS - 1_000
    world.obey(budget_put(10 * CREDIT))
    spend(world, 5, ts=NIGHT_MS)
    world.log_time_ms = NIGHT_MS
    spend(world, 5)
    blocks = [one for one in world.decisions if one.verdict == "block"]
    assert [one.cause is not None for one in blocks] == [True]


@pytest.mark.contract("1.21")
def test_a_months_budget_counts_what_was_used_before_it_was_put() -> None:
    world = budget_world()
    spend(world, 30)
    world.obey(budget_put(20 * CREDIT, "month"))
    assert verdicts(world)[-1] == ("block", "budget_month", "organization:org_a", 20, 30)
    assert figures(world).until_ms == MONTH_END_MS


def test_a_larger_budget_or_none_opens_the_scope() -> None:
    world = budget_world()
    world.obey(budget_put())
    spend(world, 10)
    world.obey(budget_put(20 * CREDIT, command_id="more"))
    assert verdicts(world)[-1][:2] == ("allow", "budget_day")
    spend(world, 10)
    assert verdicts(world)[-1][:2] == ("block", "budget_day")
    world.obey(budget_put(20 * CREDIT, blocks=False, command_id="free"))
    assert verdicts(world)[-1][:2] == ("allow", "budget_day")
    world.obey(budget_put(20 * CREDIT, command_id="closed"))
    assert verdicts(world)[-1][:2] == ("block", "budget_day")
    world.obey(budget_remove())
    assert verdicts(world)[-1][:2] == ("allow", "budget_day")
    world.obey(budget_remove(api_key_id="key_a"))
    assert [one.field for one in world.rejects] == ["command_id"]


@pytest.mark.contract("1.21")
def test_a_labels_budget_counts_what_carries_the_label() -> None:
    world = budget_world()
    world.obey(budget_put(label=("pipeline", "nightly")))
    spend(world, 50)
    spend(world, 50, labels={"pipeline": "daily"})
    spend(world, 10, labels={"pipeline": "nightly", "team": "a"})
    assert verdicts(world)[-1] == ("block", "budget_day", "label:org_a:pipeline=nightly", 10, 10)
    assert figures(world).thresholds_percent == (80,)


def test_gates_are_told_which_budgets_are_hard() -> None:
    world = budget_world()
    world.obey(budget_put(mode="hard"), budget_put(period="month", mode="hard", api_key_id="key_a", command_id="b"))
    told = [ENTITLEMENT.validate_json(one.value) for one in world.durable if one.topic == "entitlements"][-1]
    assert isinstance(told, OrganizationEntitlement)
    assert [scope.text() for scope in told.hard_budgets] == ["organization:org_a", "key:key_a"]


@pytest.mark.parametrize("ends_after", range(4))
def test_a_takeover_counts_on(ends_after: int) -> None:
    world = budget_world()
    for number in range(4):
        if number == 0:
            world.obey(budget_put(35 * CREDIT))
        else:
            spend(world, 10, ts=NIGHT_MS if number == 3 else None)
        world.log_time_ms += 1_000
        if number == 2:
            world.log_time_ms = NIGHT_MS - 10_000
        if number == ends_after:
            world.take_over()
    assert figures(world).used_micro == 20 * CREDIT
    world.pass_time(NIGHT_MS + HOUR_MS)
    assert figures(world).used_micro == 10 * CREDIT


def test_each_label_has_a_balance_of_its_own() -> None:
    world = budget_world()
    charges = [
        WireCharge("search.knn"), WireCharge("inference.llm", {"tokens": 5}), WireCharge("search.web", cached=True),
    ]  # fmt: skip
    event = usage("retriever.execute", charges=charges)
    event.labels = {"pipeline": "nightly", "team": "a:b/c"}
    world.send(event)
    world.pass_time(NOW_MS + 5_000)
    found = {
        one.label: one
        for one in (Balance.model_validate_json(record.value) for record in world.balances)
        if one.kind == "label"
    }
    assert found.keys() == {"pipeline=nightly", "team=a:b/c"}
    assert {one.id for one in found.values()} == {"org_a"}
    for one in found.values():
        assert one.breakdown_micro == {"search": CREDIT // 10, "inference": 10 * CREDIT}
        assert (one.used_micro, one.requests) == (CREDIT // 10 + 10 * CREDIT, 1)


def test_labels_above_the_bound_share_a_balance() -> None:
    world = small_world("pro", settings=DomainSettings(labels_max=2))
    for number in range(4):
        spend(world, 1, labels={"pipeline": f"p{number}"})
        world.take_over()
    held = {key.decode().split("|")[2]: key for key in world.rows if key.startswith(b"l|label|")}
    assert held.keys() == {"org_a:pipeline=p0", "org_a:pipeline=p1", "org_a:…"}
    assert world.used("label", "org_a:…") == 2 * CREDIT


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_window_that_was_used_up_before_it_began_is_closed_when_it_begins(taken_over: bool) -> None:
    world = budget_world()
    world.obey(budget_put())
    world.log_time_ms = NIGHT_MS - 60_000
    world.early.clear()
    spend(world, 11, ts=NIGHT_MS + 1)
    assert verdicts(world) == []
    if taken_over:
        world.take_over()
        world.early.clear()
    world.pass_time(NIGHT_MS)
    assert verdicts(world) == [("block", "budget_day", "organization:org_a", 10, 11)]


def test_an_organization_has_so_many_budgets() -> None:
    world = small_world("pro", settings=DomainSettings(organization_budgets_max=2))
    world.obey(budget_put(), budget_put(period="month", command_id="b"), budget_put(api_key_id="key_a", command_id="c"))
    assert len(world.rejects) == 1
    world.obey(budget_put(7, command_id="d"))
    assert len(world.rejects) == 1
