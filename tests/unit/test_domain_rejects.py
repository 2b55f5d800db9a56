"""What can't be counted is rejected by name and place; the rest of its record is counted (requirements, section 8)."""

import json

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.envelope import DECODE_FORWARD, ENCODE, WireCharge, WireForward
from sluicegate_schemas.partitioning import partition_of
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, key_put, key_revoke, organization_put, small_world, usage

DAY_MS = 86_400_000


@pytest.mark.contract("2.1", "9.7")
@pytest.mark.parametrize(
    ("event", "reason", "field"),
    [
        (usage(org="org_nobody"), "unknown_organization", "org_id"),
        (usage(key="key_nobody"), "unknown_key", "api_key_id"),
        (usage(ts=NOW_MS + 300_001), "too_far_ahead", "ts"),
        (usage(started=NOW_MS - 7 * DAY_MS - 1), "too_far_behind", "started_at"),
        (usage("inference.llm"), "missing_quantity", "quantities.tokens"),
        (usage(charges=[WireCharge("upload.file")]), "missing_quantity", "charges[0].quantities.bytes"),
        (usage(charges=[WireCharge("No Operation")]), "invalid", "charges[0].operation"),
        (usage("No Operation"), "invalid", "operation"),
        (usage(status=99), "invalid", "status"),
        (usage(quantities={"requests": -1}), "invalid", "quantities.requests"),
        (usage(account="org_b"), "invalid", "account_id"),
        (usage("search.web", quantities={"requests": 10**15}), "invalid", "quantities"),
        (usage(charges=[WireCharge("search.web", {"requests": 10**15})]), "invalid", "quantities"),
    ],
)
def test_one_bad_event_costs_only_itself(event, reason, field):
    world = small_world()
    world.send(usage("search.knn"), event, usage("search.knn"))
    (reject,) = world.rejects
    assert (reject.reason, reject.field, reject.id) == (reason, field, "usage/0/0/1")
    assert reject.event_id == "p1-1-0-1-1"
    assert (reject.source.offset, reject.source.index, reject.producer_id) == (0, 1, "p1")
    assert world.used("account", "org_a") == 200_000
    assert (world.machine.totals.counted, world.machine.totals.rejected) == (2, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"{", "not_json"),
        (b'{"\xff"', "not_utf8"),
        (b"{" + b" " * 70_000 + b"}", "too_large"),
        (b"\x97\x01", "truncated_envelope"),
        (b"\x97\x09", "unknown_envelope_version"),
        (b"[]", "invalid"),
    ],
)
def test_a_poison_record_is_rejected_and_the_next_is_counted(value, reason):
    world = small_world()
    world.append(value)
    world.send(usage("search.knn"))
    assert [(reject.reason, reject.id) for reject in world.rejects] == [(reason, "usage/0/0/0")]
    assert world.used("account", "org_a") == 100_000


@pytest.mark.contract("9.8")
def test_both_edges_of_the_clock_bounds_are_inside():
    world = small_world()
    world.send(usage(ts=NOW_MS + 300_000), usage(started=NOW_MS - 7 * DAY_MS))
    assert world.rejects == []
    assert world.machine.totals.counted == 2


def test_a_record_of_an_unknown_organization_waits_for_the_accounts():
    world = small_world()
    value = world.envelope(usage(), usage(org="org_b", key="key_b"))
    before = dict(world.rows)
    world.append(value, accounts_current=False)
    assert world.machine.needs_accounts
    assert world.rows == before
    world.obey(organization_put("org_b"), key_put("key_b", "org_b"))
    world.append(value, accounts_current=False)
    assert not world.machine.needs_accounts
    assert world.machine.totals.counted == 2


def foreign(identifier: str, **fields):
    event = usage("search.knn", **fields)
    record = {
        "id": identifier, "started_at": _time(event.started_at_ms), "ts": _time(event.ts_ms), "duration_ms": 0,
        "org_id": event.org_id, "api_key_id": event.api_key_id, "operation": event.operation, "status": event.status,
    }  # fmt: skip
    return json.dumps(record).encode()


def _time(ms: int) -> str:
    return from_epoch_ms(ms).isoformat()


@pytest.mark.contract("9.9")
def test_a_foreign_event_counts_once_and_another_body_is_a_conflict():
    world = small_world()
    for value in (foreign("e1"), foreign("e1"), foreign("e1", status=500)):
        world.append(value)
    assert [reject.reason for reject in world.rejects] == ["id_conflict"]
    totals = world.machine.totals
    assert (totals.counted, totals.duplicate, totals.rejected) == (1, 1, 1)
    assert world.used("account", "org_a") == 100_000


def test_ids_that_were_forgotten_raise_the_horizon():
    world = small_world(settings=DomainSettings(dedup_ids_max=2))
    for second in range(3):
        world.append(foreign(f"e{second}", ts=NOW_MS + 1_000 * second))
    assert len(world.machine.event_ids) == 2
    world.take_over()
    world.append(foreign("e0"))
    world.append(foreign("e1", ts=NOW_MS + 1_000))
    assert [reject.reason for reject in world.rejects] == ["older_than_dedup_horizon"]
    assert world.machine.totals.duplicate == 1


def test_ids_are_kept_until_the_horizon_passes_their_time():
    world = small_world(settings=DomainSettings(dedup_horizon_ms=DAY_MS))
    world.append(foreign("e1"))
    world.append(foreign("e1"), at=NOW_MS + DAY_MS)
    assert world.machine.totals.duplicate == 1
    world.append(foreign("e1"), at=NOW_MS + DAY_MS + 61_000)
    assert [reject.reason for reject in world.rejects] == ["older_than_dedup_horizon"]
    assert len(world.machine.event_ids) == 0


def test_a_repeated_or_stale_envelope_is_counted_once_and_gaps_are_counted_as_missing():
    world = small_world()
    for sequence in (1, 1, 4, 3, 4):
        world.append(world.envelope(usage("search.knn"), sequence=sequence))
    assert world.used("account", "org_a") == 200_000
    assert world.machine.totals.duplicate == 3
    assert world.machine.producers.missing("p1") == 2


def test_above_their_bound_the_most_silent_producer_goes_and_its_repeats_are_rejected():
    world = small_world(settings=DomainSettings(producers_max=2))
    first = world.envelope(usage("search.knn"), producer="p1")
    world.append(first)
    for number in (2, 3):
        at = NOW_MS + 1_000 * number
        world.append(world.envelope(usage("search.knn", ts=at), producer=f"p{number}"), at)
    world.take_over()
    world.append(first)
    assert [reject.reason for reject in world.rejects] == ["older_than_dedup_horizon"]
    assert world.used("account", "org_a") == 300_000


def two_homes() -> tuple[str, str]:
    names = [f"org_{letter}" for letter in "abcdefgh"]
    here = next(name for name in names if partition_of(name, 2) == 0)
    there = next(name for name in names if partition_of(name, 2) == 1)
    return here, there


def test_an_event_in_the_wrong_partition_is_forwarded_home_and_counted_there_once():
    _, there = two_homes()
    away, home = World(partition=0, partitions=2), World(partition=1, partitions=2)
    home.obey(organization_put(there), key_put("key_b", there))
    away.send(usage("search.knn", org=there, key="key_b"))
    (record,) = away.durable
    assert (record.topic, record.partition, record.key) == ("usage", 1, there.encode())
    forward = DECODE_FORWARD(record.value)
    assert (forward.topic, forward.partition, forward.offset, forward.index) == ("usage", 0, 0, 0)
    assert forward.logged_at_ms == NOW_MS
    assert forward.event.id == "p1-1-0-1-0"
    for _ in range(2):
        home.append(record.value, at=NOW_MS + 60_000)
    assert home.used("account", there) == 100_000
    assert home.machine.totals.duplicate == 1
    assert away.machine.totals.forwarded == 1


def test_a_forward_is_never_forwarded_again():
    _, there = two_homes()
    world = World(partition=0, partitions=2)
    event = usage(org=there, key="key_b", event_id="e1")
    world.append(ENCODE(WireForward(2, "usage", 1, 5, 0, NOW_MS, event)))
    assert [(reject.reason, reject.field) for reject in world.rejects] == [("invalid", "account_id")]


@pytest.mark.parametrize(
    ("command", "reason", "field"),
    [
        (None, "empty", None),
        (b"{", "not_json", None),
        (b'"\xff"', "not_utf8", None),
        (b" " * 70_000, "too_large", None),
        (b'{"kind":"x","kind":"x"}', "duplicate_field", None),
        (b'{"kind":"gift.put"}', "unknown_command", "kind"),
        (organization_put(tier="gold"), "invalid", "organization.put.tier"),
        (organization_put(tier="free", command_id="put-org_a-pro"), "command_refused", "command_id"),
        (key_put("key_b", "org_b"), "command_refused", "organization_id"),
        (key_put(key_sha256="0" * 64, command_id="x"), "command_refused", "key_sha256"),
        (key_put("key_b", key_sha256="0" * 64, account_id="org_b"), "command_refused", "account_id"),
        (key_revoke("key_b"), "command_refused", "api_key_id"),
        (organization_put("org_c", account_id="org_b"), "command_refused", "account_id"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_rejected(command, reason, field):
    world = small_world()
    world.obey(command)
    (reject,) = world.rejects
    assert (reject.reason, reject.field, reject.source.topic) == (reason, field, "accounts")
    assert [record.topic for record in world.durable] == ["rejects"]


def test_a_command_in_the_wrong_partition_is_refused():
    _, there = two_homes()
    world = World(partition=0, partitions=2)
    world.obey(organization_put(there))
    assert [(one.reason, one.field) for one in world.rejects] == [("command_refused", "account_id")]


def test_commands_beyond_the_bounds_are_refused():
    world = small_world(settings=DomainSettings(organizations_max=1, keys_max=2))
    world.obey(organization_put("org_b"), key_put("key_b"))
    assert [one.reason for one in world.rejects] == ["command_refused"] * 2


def test_a_command_acts_once_also_after_a_takeover_within_its_memory():
    world = small_world(settings=DomainSettings(commands_max=4))
    world.take_over()
    world.obey(organization_put(tier="pro"))
    assert world.machine.totals.commands_repeated == 1
    assert world.durable == []
    world.obey(*(organization_put(tier=tier) for tier in ("free", "team")), key_revoke())
    assert sum(key.startswith(b"m|") for key in world.rows) == 4


@pytest.mark.contract("1.4")
def test_a_revoked_key_is_told_to_gates_and_its_usage_still_counts():
    world = small_world()
    world.obey(key_revoke())
    (told,) = world.sent("entitlements")
    assert told["revoked"] is True
    world.send(usage("search.knn"))
    assert world.used("account", "org_a") == 100_000
    world.obey(key_put(command_id="again"))
    assert [one.reason for one in world.rejects] == ["command_refused"]


def test_an_event_refused_in_another_minute_leaves_what_was_gathered_before():
    world = small_world()
    world.send(usage("inference.llm", quantities={"tokens": 1}), usage("inference.llm", ts=NOW_MS - 60_000))
    assert [reject.reason for reject in world.rejects] == ["missing_quantity"]
    assert world.used("account", "org_a") == 10_000_000
    assert [(key[3], cell.events) for key, cell in world.cells.items()] == [(NOW_MS // 60_000, 1)]


def test_an_id_of_ones_own_counts_once_whatever_envelope_or_client_brings_it():
    world = small_world()
    for _ in range(2):
        world.send(usage("search.knn", event_id="same"), usage("search.knn"))
    world.append(foreign("same"))
    world.take_over()
    world.send(usage("search.knn", event_id="same"), producer="p2")
    totals = world.machine.totals
    assert (totals.counted, totals.duplicate, totals.rejected) == (3, 3, 0)
    assert world.used("account", "org_a") == 300_000


def test_an_id_counts_once_inside_an_envelope_and_the_first_that_is_usable_counts():
    world = small_world()
    bad = usage("inference.llm", event_id="e1")
    good = usage("inference.llm", event_id="e1", quantities={"tokens": 1})
    other = usage("inference.llm", event_id="e1", quantities={"tokens": 2})
    world.send(usage("search.knn"), bad, good, good, other, usage("search.knn"))
    assert [(one.reason, one.source.index, one.event_id) for one in world.rejects] == [
        ("missing_quantity", 1, "e1"),
        ("id_conflict", 4, "e1"),
    ]
    totals = world.machine.totals
    assert (totals.counted, totals.duplicate, totals.rejected) == (3, 1, 2)
    assert world.used("account", "org_a") == 10_200_000


@pytest.mark.contract("9.9")
def test_an_own_id_before_the_horizon_is_rejected_and_an_event_without_one_is_not():
    world = small_world(settings=DomainSettings(dedup_horizon_ms=DAY_MS))
    old = NOW_MS - DAY_MS - 1_000
    world.send(usage("search.knn", ts=old, event_id="e1"), usage("search.knn", ts=old))
    assert [(one.reason, one.source.index) for one in world.rejects] == [("older_than_dedup_horizon", 0)]
    assert world.used("account", "org_a") == 100_000


@pytest.mark.contract("3.11")
def test_a_decision_names_the_event_by_its_place_in_an_envelope_with_own_ids():
    world = small_world("free")
    world.send(*(usage(event_id=f"e{number}") for number in range(30)))
    (decision,) = world.decisions
    assert decision.cause is not None
    assert (decision.cause.position.index, decision.cause.event_id, decision.observed) == (20, "e20", 30)


@pytest.mark.parametrize(
    ("api_key_id", "operation"),
    [(None, "search.web"), ("", "search.web"), ("", "storage"), ("org_a", "storage"), ("org_a", "search.web")],
)
def test_what_has_no_key_is_rejected_whatever_was_counted_before(api_key_id, operation):
    world = small_world()
    charges = [WireCharge("search.web")]
    world.send(usage("storage", key=None, quantities={"bytes": 1}))
    world.send(usage("storage", key=None, quantities={"bytes": 1}, charges=charges))
    world.durable.clear()
    counted = world.machine.totals.counted
    world.send(usage(operation, key=api_key_id, quantities={"bytes": 1}))
    assert [(one.reason, one.field) for one in world.rejects] == [("invalid", "api_key_id")]
    assert world.machine.totals.counted == counted == 1


def test_a_storage_sample_without_a_key_may_not_charge_other_operations():
    world = small_world()
    sample = usage("storage", key=None, quantities={"bytes": 1}, charges=[WireCharge("search.web")])
    world.send(sample)
    assert [(one.reason, one.field) for one in world.rejects] == [("invalid", "api_key_id")]
    assert not any(key.startswith((b"s|", b"l|")) for key in world.rows)
    sample.api_key_id = "key_a"
    world.send(sample)
    assert world.used("account", "org_a") == 10_000_000
