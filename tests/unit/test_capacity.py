"""Reserved capacity: credits that only one category may use (requirements, section 1)."""

import pytest

from sluicegate_schemas.envelope import WireCharge
from tests.domain_world import World, usage
from tests.grants import CREDIT, command, grant_put
from tests.unit.test_grants import MINUTE_MS, MONTH_END_MS, free_world, spend


def reserve(category: str, amount: int, command_id: str | None = None) -> bytes:
    """The command that keeps ``amount`` credits of org_a for ``category``."""
    word = command_id or f"reserve-{category}-{amount}"
    return command("capacity.reserve", word, organization_id="org_a", category=category, credits_micro=amount * CREDIT)


def verdicts(world: World) -> list[tuple[str, str]]:
    """What was decided about the credits of categories, and the account's blocks."""
    return [
        (one.verdict, one.scope.category or one.scope.kind)
        for one in world.decisions
        if one.limit_name == "credits" and (one.scope.category or one.verdict == "block")
    ]


def reserving_world() -> World:
    """1,000 credits, 400 of them for search."""
    world = free_world()
    world.obey(reserve("search", 400))
    world.early.clear()
    return world


def search(world: World, times: int, ts: int | None = None) -> None:
    """A retriever run as of ``ts``, else now, that costs ``times`` ten credits; its charges are of its own category."""
    when = world.log_time_ms if ts is None else ts
    world.send(usage("retriever.execute", ts=when, charges=[WireCharge("search.web", {"requests": times})]))


@pytest.mark.contract("1.17")
def test_what_is_reserved_for_a_category_closes_the_others_once_nothing_else_is_left() -> None:
    world = reserving_world()
    spend(world, 599)
    assert verdicts(world) == []
    spend(world, 1)
    assert verdicts(world) == [("block", "data"), ("block", "upload"), ("block", "compute")]
    search(world, 39)
    assert len(verdicts(world)) == 3
    world.take_over()
    world.early.clear()
    search(world, 1)
    assert ("block", "account") in verdicts(world)


def test_what_came_ahead_of_a_month_closes_the_other_categories_when_it_begins() -> None:
    world = reserving_world()
    world.log_time_ms = MONTH_END_MS - MINUTE_MS
    spend(world, 600, ts=MONTH_END_MS)
    assert verdicts(world) == []
    world.pass_time(MONTH_END_MS)
    assert verdicts(world) == [("block", "data"), ("block", "upload"), ("block", "compute")]


def test_a_category_that_used_its_reserve_shares_the_rest() -> None:
    world = reserving_world()
    search(world, 40)
    spend(world, 599)
    assert verdicts(world) == []


def test_credits_or_a_smaller_reserve_open_the_categories() -> None:
    world = reserving_world()
    spend(world, 650)
    world.early.clear()
    world.obey(grant_put(credits_micro=51 * CREDIT))
    assert [one for one in verdicts(world) if one[0] == "allow"] == [
        ("allow", "data"), ("allow", "upload"), ("allow", "compute"),
    ]  # fmt: skip
    spend(world, 10)
    world.early.clear()
    world.obey(reserve("search", 0, "end"))
    assert {verdict for verdict, _ in verdicts(world)} == {"allow"}
    spend(world, 300)
    assert {verdict for verdict, _ in verdicts(world)} == {"allow"}


def test_a_reserve_is_of_each_month() -> None:
    world = reserving_world()
    search(world, 40)
    world.log_time_ms = MONTH_END_MS
    spend(world, 600)
    assert verdicts(world) == [("block", "data"), ("block", "upload"), ("block", "compute")]


def test_what_is_used_ahead_of_the_month_leaves_the_months_own_use_of_the_reserve_as_it_was() -> None:
    world = reserving_world()
    world.log_time_ms = MONTH_END_MS - 4 * MINUTE_MS
    search(world, 30)
    search(world, 35, MONTH_END_MS)
    search(world, 10)
    world.take_over()
    spend(world, 599)
    assert verdicts(world) == []
    world.log_time_ms = MONTH_END_MS
    search(world, 1)
    spend(world, 599)
    assert verdicts(world) == []
    spend(world, 1)
    assert verdicts(world) == [("block", "data"), ("block", "upload"), ("block", "compute")]


def test_a_reserve_is_whole_again_in_a_month_that_nothing_was_used_ahead_of() -> None:
    world = reserving_world()
    world.log_time_ms = MONTH_END_MS - MINUTE_MS
    search(world, 40, MONTH_END_MS)
    world.pass_time(MONTH_END_MS + 31 * 24 * 60 * MINUTE_MS)
    spend(world, 600)
    assert verdicts(world) == [("block", "data"), ("block", "upload"), ("block", "compute")]


def test_nothing_reserved_can_not_end() -> None:
    world = free_world()
    world.obey(reserve("search", 0))
    assert [one.field for one in world.rejects] == ["category"]
