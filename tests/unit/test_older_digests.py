"""Repeats across an upgrade: what an older worker remembered of an event or command is known by the rows it wrote,
though events and commands have more fields since."""

import hashlib
import json
from typing import Any

import msgspec

from sluicegate_schemas.envelope import WireCharge, WireEvent
from streams.domain.tables import CommandRow, EventIdRow
from tests.domain_world import World, key_put, organization_put, small_world, usage

EVENT_ROW = b"f|org_a|e1"


def digest(content: Any) -> int:
    """As the first workers wrote it: of all the fields that events and commands had then."""
    encoded = msgspec.msgpack.encode(content, order="deterministic")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")


def event(status: int = 200, leases: list[str] | None = None) -> WireEvent:
    one = usage("search.knn", event_id="e1", status=status, charges=[WireCharge("search.web", {"requests": 1})])
    one.leases = leases
    return one


def world_after_upgrade() -> World:
    """A worker that recovers rows of one whose events ended with ``node`` and whose plans were a tier, credits and
    rates."""
    world = small_world("pro")
    world.send(event())
    row = msgspec.msgpack.decode(world.rows[EVENT_ROW], type=EventIdRow)
    world.rows[EVENT_ROW] = EventIdRow(row.second, digest(msgspec.to_builtins(event())[:17])).encode()
    for command, fields in (
        (organization_put(tier="pro"), {"reason": "", "credits_micro_per_month": None, "rates": None}),
        (key_put(), {"reason": ""}),
    ):
        content = json.loads(command) | fields
        name = f"m|org_a|{content['command_id']}".encode()
        done = msgspec.msgpack.decode(world.rows[name], type=CommandRow)
        world.rows[name] = CommandRow(done.offset, digest(content)).encode()
    world.take_over()
    world.durable.clear()
    return world


def test_an_event_that_an_older_worker_counted_is_not_counted_again() -> None:
    world = world_after_upgrade()
    world.send(event())
    assert (world.rejects, world.machine.totals.duplicate) == ([], 1)


def test_an_event_that_differs_from_the_one_that_an_older_worker_counted_is_a_conflict() -> None:
    for other in (event(status=500), event(leases=["lease-1"])):
        world = world_after_upgrade()
        world.send(other)
        assert [reject.reason for reject in world.rejects] == ["id_conflict"]


def test_events_that_differ_in_their_leases_alone_conflict() -> None:
    world = small_world("pro")
    world.send(event(leases=["lease-1"]))
    world.send(event(leases=["lease-1"]), event(leases=["lease-2"]), event())
    assert world.machine.totals.duplicate == 1
    assert [reject.reason for reject in world.rejects] == ["id_conflict", "id_conflict"]


def test_a_command_that_an_older_worker_carried_out_is_not_carried_out_again() -> None:
    world = world_after_upgrade()
    repeated = world.machine.totals.commands_repeated
    world.obey(organization_put(tier="pro"), key_put())
    assert (world.rejects, world.machine.totals.commands_repeated) == ([], repeated + 2)


def test_a_command_that_differs_from_the_one_that_an_older_worker_carried_out_is_refused() -> None:
    world = world_after_upgrade()
    world.obey(organization_put(tier="pro", reason="other"), organization_put(tier="pro", concurrency=3))
    assert [reject.field for reject in world.rejects] == ["command_id", "command_id"]
