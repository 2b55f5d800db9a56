"""Two writers of one organization: what was made from a put that is no longer in force changes nothing."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.tables import OrganizationRow
from tests.domain_world import World, organization_put

ORGANIZATIONS = ("org_a", "org_b")


class Step(NamedTuple):
    """A put of one organization. ``back``: made from the put so many before its last one; None: from none."""

    organization: str
    concurrency: int
    back: int | None
    dies_before: bool


STEPS = st.lists(
    st.builds(Step, st.sampled_from(ORGANIZATIONS), st.integers(1, 9), st.none() | st.integers(0, 2), st.booleans()),
    max_size=20,
)


def entitled(world: World, organization: str) -> OrganizationRow:
    return msgspec.msgpack.decode(world.rows[f"o|{organization}".encode()], type=OrganizationRow)


def facts(world: World) -> dict[bytes, bytes]:
    """Rows of what organizations are, and of the commands that acted."""
    return {key: row for key, row in world.rows.items() if key.startswith((b"o|", b"m|"))}


def new_world() -> World:
    world = World()
    world.obey(*(organization_put(name) for name in ORGANIZATIONS))
    world.durable.clear()
    return world


@given(STEPS)
def test_a_put_acts_if_what_it_was_made_from_is_in_force_and_else_changes_nothing(steps: list[Step]) -> None:
    world, again = new_world(), new_world()
    acted = {name: [number] for number, name in enumerate(ORGANIZATIONS)}
    for number, (organization, concurrency, back, dies_before) in enumerate(steps):
        puts = acted[organization]
        fields = {"concurrency": concurrency}
        if back is not None:
            fields["based_on"] = puts[max(0, len(puts) - 1 - back)]
        if dies_before:
            world.take_over()
        before, sent = facts(world), len(world.durable)
        command = organization_put(organization, command_id=f"c{number}", **fields)
        world.obey(command)
        again.obey(command)
        topics = [record.topic for record in world.durable[sent:]]
        if fields.get("based_on", puts[-1]) == puts[-1]:
            puts.append(world.accounts_offset)
            assert entitled(world, organization).concurrency_own == concurrency
            assert "trail" in topics
            assert "rejects" not in topics
        else:
            assert facts(world) == before
            assert topics == ["rejects"]
            assert (world.rejects[-1].reason, world.rejects[-1].field) == ("conflict", "based_on")
        assert entitled(world, organization).revision == puts[-1]
    assert facts(world) == facts(again)
    assert [one.source for one in world.rejects] == [one.source for one in again.rejects]


def test_of_two_changes_of_one_put_the_second_is_refused_and_named() -> None:
    world = new_world()
    first = organization_put("org_a", command_id="w1", concurrency=7, based_on=0)
    second = organization_put("org_a", command_id="w2", objects_per_batch=3, based_on=0)
    world.obey(first, second)
    (reject,) = world.rejects
    assert (reject.reason, reject.field, reject.event_id) == ("conflict", "based_on", "w2")
    row = entitled(world, "org_a")
    assert (row.concurrency_own, row.objects_per_batch_own, row.revision) == (7, None, 2)
    assert [entry.command_id for entry in world.trail] == ["w1"]


def test_a_refused_writer_may_try_again_under_the_same_id_and_acts_once() -> None:
    world = new_world()
    world.obey(organization_put("org_a", command_id="w1", concurrency=7, based_on=0))
    stale = {"concurrency": 7, "objects_per_batch": 3}
    world.obey(organization_put("org_a", command_id="w2", based_on=0, objects_per_batch=3))
    world.obey(organization_put("org_a", command_id="w2", based_on=2, **stale))
    world.obey(organization_put("org_a", command_id="w2", based_on=4, **stale))
    assert [(one.reason, one.field) for one in world.rejects] == [
        ("conflict", "based_on"),
        ("command_refused", "command_id"),
    ]
    assert entitled(world, "org_a").revision == 4


def test_a_command_that_acted_is_known_again_though_its_base_is_gone() -> None:
    world = new_world()
    change = organization_put("org_a", command_id="w1", concurrency=7, based_on=0)
    world.obey(change)
    world.take_over()
    world.durable.clear()
    world.obey(change)
    assert world.durable == []
    assert entitled(world, "org_a").revision == 2


def test_an_organization_that_is_not_there_has_no_put_to_change() -> None:
    world = World()
    world.obey(organization_put("org_a", based_on=0))
    assert [(one.reason, one.field) for one in world.rejects] == [("conflict", "based_on")]
    assert facts(world) == {}


def test_a_row_of_an_older_worker_takes_one_change_and_then_has_a_revision() -> None:
    world = new_world()
    row = b"o|org_a"
    world.rows[row] = msgspec.msgpack.encode(msgspec.msgpack.decode(world.rows[row])[:-1])
    world.take_over()
    world.durable.clear()
    for writer in ("w1", "w2"):
        world.obey(organization_put("org_a", command_id=writer, concurrency=7, based_on=0))
    assert [(one.reason, one.event_id) for one in world.rejects] == [("conflict", "w2")]
