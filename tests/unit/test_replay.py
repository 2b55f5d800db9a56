"""A replay of past traffic: the worker's own decisions, summed up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.files import load_accounts, load_catalogue
from sluicegate_schemas.outputs import Decision, Scope
from streams.replay.blocks import Block, Blocks
from streams.replay.partition import PartitionReplay
from tests.domain_world import NOW_MS, World, default_catalogue, key_put, organization_put, usage
from tests.recorded_hour import HOUR_MS, ROOT, other_plan, records

SECOND_MS = 1_000


def accounts() -> list[bytes]:
    commands = load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8"))
    return [command.model_dump_json(exclude_none=True).encode() for command in commands]


def told(decisions: Sequence[Decision]) -> set[str]:
    """Decisions without what each owner counts anew."""
    return {one.model_dump_json(exclude={"sequence"}) for one in decisions}


def replayed(
    catalogue: Catalogue,
    log: Sequence[tuple[int, bytes]],
    *,
    commands: Sequence[tuple[int, bytes]] = (),
    begins_ms: int = 0,
    ends_ms: int,
    at_once: int = 500,
) -> tuple[PartitionReplay, list[Decision]]:
    decisions: list[Decision] = []
    numbered = [(number, at, None, value) for number, (at, value) in enumerate(commands)]
    one = PartitionReplay(0, 1, catalogue, numbered, begins_ms=begins_ms, on_decision=decisions.append)
    numbered = [(number, at, None, value) for number, (at, value) in enumerate(log)]
    for start in range(0, len(numbered), at_once):
        one.feed(numbered[start : start + at_once])
    one.finish(ends_ms)
    return one, decisions


@pytest.mark.parametrize("at_once", [1, 500])
def test_an_hour_of_real_traffic_is_decided_as_by_a_worker_that_flushes_and_dies(at_once: int) -> None:
    catalogue = load_catalogue(other_plan())
    log = [(record.log_time_ms, record.value) for record in records(NOW_MS, 1)]
    world = World(catalogues=[catalogue])
    world.obey(*accounts(), at=NOW_MS)
    for number, (at, value) in enumerate(log):
        world.append(value, at)
        if number % 2_000 == 1_999:
            world.take_over()
    commands = [(NOW_MS, value) for value in accounts()]
    one, decisions = replayed(catalogue, log, commands=commands, ends_ms=log[-1][0] + 1, at_once=at_once)
    assert told(decisions) == told(world.decisions)
    assert sum(decision.verdict == "block" for decision in decisions) > 100
    assert {"credits", "compute_per_minute", "operation_quantity"} <= {block.limit_name for block in one.blocks.told}
    for organization in one.organizations(log[-1][0]):
        row = world.ledger("account", organization.account_id)
        assert (organization.used_micro, organization.total_micro) == (row.used_micro, row.total_micro)
        assert organization.credits_micro == organization.used_micro


SMALL = [(NOW_MS, organization_put(tier="free")), (NOW_MS, key_put())]


def spend(world: World, documents: int, at: int) -> bytes:
    return world.envelope(usage("documents.create", ts=at, quantities={"documents": documents}))


def test_it_says_who_was_blocked_by_what_from_when_and_what_it_cost() -> None:
    world = World()
    log = [(at, spend(world, 400, at)) for at in range(NOW_MS, NOW_MS + 4 * SECOND_MS, SECOND_MS)]
    ends_ms = NOW_MS + HOUR_MS
    one, _ = replayed(default_catalogue(), log, commands=SMALL, ends_ms=ends_ms)
    (organization,) = one.organizations(ends_ms)
    assert organization.requests == 4
    assert organization.credits_micro == organization.used_micro == 1_600_000_000
    assert (organization.total_micro, organization.beyond_micro) == (1_000_000_000, 600_000_000)
    (limit,) = organization.blocked
    assert (limit.limit_name, limit.blocks) == ("credits", 1)
    assert limit.first_at == from_epoch_ms(NOW_MS + 2 * SECOND_MS)
    assert limit.blocked_ms == HOUR_MS - 2 * SECOND_MS
    (block,) = one.blocks.told
    assert (block.organization_id, block.limit, block.observed) == ("org_a", 1_000_000_000, 1_200_000_000)
    assert block.ended_at is None, "it stands until the month's end"


def test_what_was_before_counts_and_is_not_told() -> None:
    world = World()
    log = [(at, spend(world, 600, at)) for at in (NOW_MS, NOW_MS + HOUR_MS)]
    begins_ms, ends_ms = NOW_MS + HOUR_MS // 2, NOW_MS + 2 * HOUR_MS
    one, decisions = replayed(default_catalogue(), log, commands=SMALL, begins_ms=begins_ms, ends_ms=ends_ms)
    (organization,) = one.organizations(ends_ms)
    assert (organization.credits_micro, organization.used_micro) == (600_000_000, 1_200_000_000)
    assert (one.events, organization.requests) == (1, 1)
    assert [block.limit_name for block in one.blocks.told] == ["credits"]
    assert all(decision.decided_at >= from_epoch_ms(begins_ms) for decision in decisions)
    assert one.known_since_ms == NOW_MS


def test_a_command_takes_effect_at_its_own_time() -> None:
    world = World()
    later = NOW_MS + 10 * SECOND_MS
    log = [(at, spend(world, 900, at)) for at in (NOW_MS, NOW_MS + 5 * SECOND_MS, later + 1, later + 2)]
    commands = [*SMALL, (later, organization_put(tier="pro"))]
    one, _ = replayed(default_catalogue(), log, commands=commands, ends_ms=NOW_MS + HOUR_MS, at_once=4)
    (block,) = [block for block in one.blocks.told if block.limit_name == "credits"]
    assert (block.began_at, block.ended_at) == (from_epoch_ms(NOW_MS + 5 * SECOND_MS), from_epoch_ms(later))
    (organization,) = one.organizations(NOW_MS + HOUR_MS)
    assert (organization.tier, organization.beyond_micro) == ("pro", 0)


def test_usage_of_nobody_is_rejected_as_it_was() -> None:
    world = World()
    one, _ = replayed(default_catalogue(), [(NOW_MS, spend(world, 1, NOW_MS))], ends_ms=NOW_MS + 1)
    assert (one.events, one.rejected, one.organizations(NOW_MS)) == (0, 1, [])


def decision(verdict: str, at_s: int, until_s: int | None = None) -> Decision:
    fields = {
        "decision_id": f"{verdict}/{at_s}",
        "scope": Scope(kind="key", id="key_a"),
        "verdict": verdict,
        "limit_name": "requests_per_minute",
        "limit": 60,
        "observed": 60,
        "until": None if until_s is None else from_epoch_ms(NOW_MS + until_s * SECOND_MS),
        "tier": "free",
        "plan_version": 1,
        "cause": None,
        "decided_at": from_epoch_ms(NOW_MS + at_s * SECOND_MS),
        "sequence": {"epoch": 1, "counter": at_s},
    }
    return Decision.model_validate(fields)


def spans(*decisions: Decision, now_s: int = 1_000) -> list[tuple[int, int | None]]:
    blocks = Blocks()
    found: list[Block] = [block for one in decisions if (block := blocks.take(one)) is not None]
    found += blocks.rest(from_epoch_ms(NOW_MS + now_s * SECOND_MS))

    def seconds(at: object) -> int:
        return int((at - from_epoch_ms(NOW_MS)).total_seconds())  # type: ignore[operator]  # a datetime

    return [(seconds(one.first.decided_at), one.ended_at and seconds(one.ended_at)) for one in found]


def test_a_block_ends_with_its_time_or_with_the_allow_that_comes_before() -> None:
    assert spans(decision("block", 0, 10)) == [(0, 10)]
    assert spans(decision("block", 0, 10), decision("allow", 4)) == [(0, 4)]
    assert spans(decision("block", 0, 10), decision("allow", 40)) == [(0, 10)]
    assert spans(decision("block", 0), decision("allow", 40)) == [(0, 40)]
    assert spans(decision("block", 0)) == [(0, None)]
    assert spans(decision("block", 0, 2_000)) == [(0, None)]


def test_a_block_that_is_said_again_goes_on_and_one_after_its_end_is_another() -> None:
    assert spans(decision("block", 0, 10), decision("block", 5, 20)) == [(0, 20)]
    assert spans(decision("block", 0, 10), decision("block", 10, 20)) == [(0, 10), (10, 20)]
    assert spans(decision("allow", 0)) == []
