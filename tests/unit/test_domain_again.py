"""What an owner says when a former owner's records came late to its compacted outputs."""

from __future__ import annotations

import json

from sluicegate_schemas.outputs import Decision
from sluicegate_schemas.state import OutboxRecord
from tests.domain_world import NOW_MS, World, key_put, key_revoke, organization_put, small_world, usage


def as_found(record: OutboxRecord) -> tuple[str, bytes, bytes]:
    assert record.key is not None
    return record.topic, record.key, record.value


def said(world: World, records: list[tuple[str, bytes, bytes]]) -> list[OutboxRecord]:
    world.machine.say_again(records)
    early, durable = world.machine.take_outputs()
    return [*early, *durable]


def blocked() -> tuple[World, OutboxRecord]:
    world = small_world("free")
    world.send(*(usage("metadata.free") for _ in range(61)))
    return world, world.early[-1]


def test_a_standing_block_is_said_again_with_a_higher_sequence() -> None:
    world, late = blocked()
    (again,) = said(world, [as_found(late)])
    before, after = Decision.model_validate_json(late.value), Decision.model_validate_json(again.value)
    assert again.key == late.key
    assert (after.sequence.epoch, after.sequence.counter) > (before.sequence.epoch, before.sequence.counter)
    assert after.model_copy(update={"sequence": before.sequence}) == before


def test_a_late_block_where_nothing_stands_is_answered_by_an_allow() -> None:
    _, late = blocked()
    fresh = small_world("free")
    fresh.send(usage("metadata.free", ts=NOW_MS))
    (again,) = said(fresh, [as_found(late)])
    decision = Decision.model_validate_json(again.value)
    assert again.key == late.key
    assert decision.verdict == "allow"
    assert decision.until is None
    assert not [key for key, _ in fresh.machine.take_changes() if key.startswith(b"d|")], "the state is as it was"


def test_a_revoked_key_stays_revoked_for_a_gate_that_starts_cold() -> None:
    world = World()
    world.obey(organization_put(), key_put())
    alive = next(record for record in world.durable if b'"kind":"key"' in record.value)
    world.obey(key_revoke())
    (again,) = said(world, [as_found(alive)])
    assert again.key == alive.key
    assert json.loads(again.value)["revoked"] is True


def test_an_organization_and_a_balance_are_said_again() -> None:
    world = World()
    world.obey(organization_put(), key_put())
    organization = next(record for record in world.durable if b'"kind":"organization"' in record.value)
    world.send(usage("search.web", ts=NOW_MS))
    world.pass_time(NOW_MS + 60_000)
    balance = world.balances[-1]
    world.balances.clear()
    (again,) = said(world, [as_found(organization), as_found(balance)])
    assert again.key == organization.key
    world.pass_time(NOW_MS + 120_000)
    assert [record.key for record in world.balances] == [balance.key]
    assert json.loads(world.balances[0].value)["used_micro"] == json.loads(balance.value)["used_micro"]


def test_what_no_worker_wrote_is_left_alone() -> None:
    world = small_world("pro")
    strange = [("decisions", b"x", b"{}"), ("entitlements", b"key:unknown", b"{}"), ("balances", b"\xff", b"")]
    assert said(world, strange) == []
