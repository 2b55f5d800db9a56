"""Each table of a partition, filled past its limit: what the overflow means, and that no more is held.

The limits' list: docs/bounds.md.
"""

from typing import Any

import msgspec
import pytest

from sluicegate_schemas.decode import Malformed, decode_usage
from sluicegate_schemas.envelope import ENCODE, WireCharge, WireEnvelope
from streams.domain.notices import MODEL, OPERATION
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage


def rows(world: World, table: str) -> int:
    return sum(key.startswith(f"{table}|".encode()) for key in world.rows)


def test_organizations_and_keys_beyond_their_limit_are_refused_and_those_that_are_there_change() -> None:
    world = World(settings=DomainSettings(organizations_max=2, keys_max=3))
    world.obey(*[organization_put(f"org_{number}") for number in range(4)])
    world.obey(*[key_put(f"key_{number}", "org_1") for number in range(5)])
    world.obey(organization_put("org_0", "team"), key_put("key_0", "org_1", command_id="again"))
    assert [reject.reason for reject in world.rejects] == ["command_refused"] * 4
    assert ["holds 2 organizations at most" in reject.detail for reject in world.rejects[:2]] == [True, True]
    assert ["holds 3 keys at most" in reject.detail for reject in world.rejects[2:]] == [True, True]
    assert (rows(world, "o"), rows(world, "k")) == (2, 3)
    world.take_over()
    assert (len(world.machine.accounts.organizations), len(world.machine.accounts.keys)) == (2, 3)


def test_of_commands_beyond_their_limit_the_oldest_is_forgotten_and_would_act_again() -> None:
    world = World(settings=DomainSettings(commands_max=2))
    world.obey(*[organization_put(f"org_{number}") for number in range(4)])
    assert rows(world, "m") == 2
    world.obey(organization_put("org_3"))
    assert world.machine.totals.commands_repeated == 1
    world.obey(organization_put("org_0"))
    assert (world.machine.totals.commands, world.machine.totals.commands_repeated) == (5, 1)


def test_dedup_ids_stay_within_their_number_and_what_is_forgotten_is_rejected_not_counted_twice() -> None:
    world = small_world(settings=DomainSettings(dedup_ids_max=50))
    for second in range(100):
        world.send(usage(event_id=f"own-{second}", ts=NOW_MS + second * 1000), at=NOW_MS + second * 1000)
    assert (len(world.machine.event_ids), rows(world, "f")) == (50, 50)
    world.send(usage(event_id="own-0", ts=NOW_MS))
    world.send(usage(event_id="own-99", ts=NOW_MS + 99_000))
    totals = world.machine.totals
    assert (totals.counted, totals.duplicate) == (100, 1)
    assert [reject.reason for reject in world.rejects] == ["older_than_dedup_horizon"]


def test_a_second_full_of_own_ids_is_forgotten_one_by_one_the_same_by_every_owner() -> None:
    settings = DomainSettings(dedup_ids_max=2_000)
    owner, heir = small_world(settings=settings), small_world(settings=settings)
    for begin in range(1_999, -1, -500):
        stamped_alike = [usage(event_id=f"own-{number:04}") for number in range(begin, begin - 500, -1)]
        for world in (owner, heir):
            world.send(*stamped_alike)
    heir.take_over()
    later = [usage(event_id=f"later-{number}", ts=NOW_MS + 1_000) for number in range(2)]
    for world in (owner, heir):
        world.offset += 1
        world.machine.apply_usage([(world.offset, NOW_MS, None, world.envelope(*later))], accounts_current=True)
        assert world.machine.changed_rows < 20
        world.flush()
        assert (len(world.machine.event_ids), rows(world, "f")) == (2_000, 2_000)
        world.send(usage(event_id="own-0001"), usage(event_id="own-0002"), usage(event_id="unheard-of"))
        assert [(one.reason, one.event_id) for one in world.rejects] == [
            ("older_than_dedup_horizon", "own-0001"), ("older_than_dedup_horizon", "unheard-of"),
        ]  # fmt: skip
    minutes = [NOW_MS + number * 60_000 for number in range(1, 3)]
    for minute in minutes:
        owner.pass_time(minute)
    assert rows(owner, "f") == 2


def test_producers_stay_within_their_number_and_a_forgotten_ones_repeat_is_rejected() -> None:
    world = small_world(settings=DomainSettings(producers_max=20))
    first = world.envelope(usage(), producer="p0")
    world.append(first)
    for number in range(1, 60):
        at = NOW_MS + number * 1000
        world.send(usage(ts=at), producer=f"p{number}", at=at)
    assert (len(world.machine.producers), rows(world, "p")) == (20, 20)
    world.append(first)
    assert world.machine.totals.counted == 60
    assert [reject.reason for reject in world.rejects] == ["older_than_dedup_horizon"]


@pytest.mark.contract("8.6")
def test_cells_beyond_their_number_share_one_a_minute_and_organization_and_the_sums_stay_exact() -> None:
    world = small_world(settings=DomainSettings(cells_max=10))
    for number in range(50):
        world.send(usage(f"invented.o{number}"))
    assert len(world.machine.cells) == 11
    cells = world.cells
    overflow = [cell for (_, key, operation, _, _), cell in cells.items() if (key, operation) == ("", "overflow")]
    assert [cell.events for cell in overflow] == [40]
    assert sum(cell.events for cell in cells.values()) == 50
    assert world.machine.totals.counted == 50


def test_unknown_names_beyond_their_number_share_one_row() -> None:
    world = small_world(settings=DomainSettings(notices_max=5))
    for number in range(20):
        world.send(usage(f"invented.o{number}"))
        world.send(usage("inference.embedding", model=f"model-{number}"))
    assert rows(world, "n") == 7
    others = world.machine.notices.get(OPERATION, "…") + world.machine.notices.get(MODEL, "inference.embedding:…")
    assert others + world.machine.notices.get(MODEL, "…") == 35


def test_routes_beyond_their_number_begin_anew_and_nothing_that_was_gathered_is_lost() -> None:
    world = small_world(settings=DomainSettings(routes_max=5))
    for _ in range(3):
        world.send(*[usage(f"invented.o{number}") for number in range(30)])
    assert sum(cell.events for cell in world.cells.values()) == 90
    assert world.ledger("account", "org_a").requests == 90


def test_standing_decisions_are_no_more_than_the_limits_of_keys_and_accounts() -> None:
    world = World()
    world.obey(organization_put("org_a", "free", credits_micro_per_month=1), key_put())
    for number in range(200):
        world.send(usage("search.knn", ts=NOW_MS + number), at=NOW_MS + number)
    assert rows(world, "d") == 4, "a second, a minute and a category of the key, and the account's credits"
    assert len(world.decisions) < 30


def test_a_record_of_the_most_events_is_taken_and_one_more_is_none() -> None:
    world = small_world()
    world.append(world.envelope(*[usage() for _ in range(500)]))
    assert world.machine.totals.counted == 500
    world.append(world.envelope(*[usage() for _ in range(501)]))
    assert [(reject.reason, reject.field) for reject in world.rejects] == [("invalid", "events")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"labels": {f"l{number}": "x" for number in range(9)}}, "labels"),
        ({"charges": [WireCharge("search.knn")] * 17}, "charges"),
        ({"quantities": {"tokens": 10**15 + 1}}, "quantities.tokens"),
        ({"duration_ms": 31 * 86_400_000 + 1}, "duration_ms"),
        ({"subject": "s" * 129}, "subject"),
        ({"model": "m" * 65}, "model"),
    ],
)
def test_an_event_beyond_a_bound_is_rejected_by_its_field_and_its_neighbours_count(
    changes: dict[str, Any], field: str
) -> None:
    world = small_world()
    world.send(usage(), msgspec.structs.replace(usage(), **changes), usage())
    assert [(reject.reason, reject.field) for reject in world.rejects] == [("invalid", field)]
    assert world.machine.totals.counted == 2


def test_an_envelope_of_one_byte_too_many_is_rejected_unread() -> None:
    value = ENCODE(WireEnvelope(1, "p1", 1, 1, NOW_MS, None, [usage()]))
    with pytest.raises(Malformed) as refused:
        decode_usage(value.ljust(1_000_001, b"\xc0"))
    assert refused.value.reason == "too_large"


def test_one_record_of_rejects_makes_a_bounded_outbox_and_the_machine_asks_for_a_flush() -> None:
    world = small_world()
    bad = usage(org="org_nobody")
    values = [ENCODE(WireEnvelope(1, "p1", 1, sequence, NOW_MS, None, [bad] * 500)) for sequence in range(1, 9)]
    consumed = world.machine.apply_usage(
        [(offset, NOW_MS, None, value) for offset, value in enumerate(values)], accounts_current=True
    )
    assert consumed == 2, "1,000 durable outputs are enough"
    assert len(world.machine.take_outputs().durable) == 1_000
