"""Whatever comes in whatever order: used is the sum of the rated events, and nothing counts twice or is lost."""

import json
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import DECODE_ENVELOPE, ENCODE, WireCharge, WireEnvelope, WireEvent
from streams.domain.partition import Partition
from streams.domain.tables import BucketsRow
from tests.domain_world import NOW_MS, World, default_catalogue, key_put, organization_put, usage
from tests.property.domain_reference import Reference

ORGANIZATIONS = {"org_a": "org_a", "org_b": "org_b", "org_sub": "org_a"}
KEYS = {"key_a": "org_a", "key_t": "org_a", "key_b": "org_b", "key_s": "org_sub"}
MONTH_END_MS = 1_796_083_200_000
HOUR_MS = 3_600_000
OPERATIONS = [*sorted(default_catalogue().operations.keys() - {"storage"})[:40], "nobody.knows"]
PRICED = ["documents.create", "inference.embedding", "inference.llm", "search.knn", "search.web", "cluster.execute",
          "upload.file", "video.process"]  # fmt: skip


def _versions() -> list[Catalogue]:
    """The project's catalogue, and two that follow with other prices."""
    first = default_catalogue()
    versions = [first]
    for version, starts_ms, credits_micro in ((2, NOW_MS + 31 * 60_000, 7), (3, MONTH_END_MS - HOUR_MS, 10**10)):
        held, web = (first.operations[name] for name in ("storage", "search.web"))
        dear = {
            name: entry.model_copy(update={"price": entry.price.model_copy(update={"credits_micro": credits_micro})})
            for name, entry in (("storage", held), ("search.web", web))
        }
        update = {"version": version, "effective_at": from_epoch_ms(starts_ms), "operations": first.operations | dear}
        versions.append(first.model_copy(update=update))
    return versions


VERSIONS = _versions()
Entry = tuple[str, int, bytes, list[WireEvent]]
"""(topic, log time, value, events that count if it is not repeated)."""


@st.composite
def quantities(draw: st.DrawFn, operation: str) -> dict[str, int] | None:
    names = {"documents.create": "documents", "inference.llm": "tokens", "cluster.execute": "dataset_size",
             "upload.file": "bytes", "video.process": "milliseconds"}  # fmt: skip
    given_: dict[str, int] = {}
    if operation in names and draw(st.integers(0, 9)):
        given_[names[operation]] = draw(st.integers(0, 200_000))
    if draw(st.integers(0, 9)) == 0:
        given_["requests"] = draw(st.integers(0, 3))
    return given_ or None


@st.composite
def events(draw: st.DrawFn, log_time_ms: int) -> WireEvent:
    ts = log_time_ms - draw(st.sampled_from([0, 0, 1, 7, 60_000, 61_000, HOUR_MS, 25 * HOUR_MS, 50 * HOUR_MS, -9]))
    org = draw(st.sampled_from(sorted(ORGANIZATIONS)))
    account = None if org != "org_sub" or draw(st.booleans()) else "org_a"
    if draw(st.integers(0, 3)) == 0:
        return usage(
            "storage", org=org, ts=ts, account=account,
            key=draw(st.sampled_from([None, "key_a", "key_t"] if org == "org_a" else [None])),
            quantities={"bytes": draw(st.integers(0, 10**13))}, status=draw(st.sampled_from([200, 200, 500])),
        )  # fmt: skip
    operation = draw(st.sampled_from(PRICED + OPERATIONS))
    charges = None
    if draw(st.integers(0, 4)) == 0:
        names = draw(st.lists(st.sampled_from([*PRICED, "nobody.knows"]), max_size=3))
        charges = [WireCharge(name, draw(quantities(name)), None, draw(st.booleans())) for name in names]
    return usage(
        operation,
        key=draw(st.sampled_from([key for key, owner in KEYS.items() if owner == org])),
        org=org,
        ts=ts,
        status=draw(st.sampled_from([200, 200, 200, 204, 302, 404, 429, 500])),
        quantities=draw(quantities(operation)),
        model=draw(st.sampled_from([None, "text-small", "text-large", "strange"])),
        cached=draw(st.integers(0, 5)) == 0,
        charges=charges,
        account=account,
    )


def json_event(event: WireEvent) -> bytes:
    plain = {
        "id": event.id, "org_id": event.org_id, "api_key_id": event.api_key_id, "operation": event.operation,
        "started_at": from_epoch_ms(event.started_at_ms).isoformat(), "ts": from_epoch_ms(event.ts_ms).isoformat(),
        "duration_ms": event.duration_ms, "status": event.status, "quantities": event.quantities or {},
        "model": event.model, "cached": event.cached, "account_id": event.account_id,
        "charges": [
            {"operation": one.operation, "quantities": one.quantities or {}, "model": one.model, "cached": one.cached}
            for one in event.charges or []
        ],
    }  # fmt: skip
    return json.dumps({name: value for name, value in plain.items() if value is not None}).encode()


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """A log with envelopes, foreign events, ticks, tier changes and repeats, around a month's end."""
    entries: list[Entry] = []
    log_time_ms = draw(st.sampled_from([NOW_MS, MONTH_END_MS - 30 * HOUR_MS, MONTH_END_MS - 2_000]))
    sequences: Counter[str] = Counter()
    for number in range(draw(st.integers(1, 14))):
        log_time_ms += draw(st.sampled_from([0, 1, 40, 1_000, 60_000, 11 * 60_000, HOUR_MS, 26 * HOUR_MS]))
        match draw(st.sampled_from(["envelope", "envelope", "envelope", "foreign", "foreign", "tick", "tier"])):
            case "envelope":
                producer = draw(st.sampled_from(["p1", "p2"]))
                sequences[producer] += draw(st.integers(1, 2))
                held = draw(st.lists(events(log_time_ms), min_size=1, max_size=5))
                for at, event in enumerate(held):
                    event.id = draw(st.sampled_from([None, None, f"o{number}-{at}"]))
                value = ENCODE(WireEnvelope(1, producer, 1, sequences[producer], 0, None, held))
                entries.append(("usage", log_time_ms, value, held))
            case "foreign":
                event = draw(events(log_time_ms))
                event.id = f"e{number}"
                entries.append(("usage", log_time_ms, json_event(event), [event]))
            case "tick":
                entries.append(("usage", log_time_ms, b"\x91\x03", []))
            case "tier":
                tier = draw(st.sampled_from(["free", "pro", "team", "enterprise"]))
                org = draw(st.sampled_from(["org_a", "org_b"]))
                value = organization_put(org, tier, command_id=f"t{number}")
                entries.append(("accounts", log_time_ms, value, []))
    return entries


def with_repeats(entries: list[Entry], seed: int) -> list[Entry]:
    """The same log with envelopes and foreign events sent again, some of them several times; the events with an id
    of their own also in another envelope or alone."""
    source = random.Random(seed)
    log = list(entries)
    for _ in range(source.randint(1, 8)):
        origin = source.randrange(len(log))
        if log[origin][0] == "usage":
            at = source.randint(origin + 1, len(log))
            time = log[at - 1][1]
            log.insert(at, ("usage", time, _sent_again(log[origin][2], source), []))
    return log


def _sent_again(value: bytes, source: random.Random) -> bytes:
    known = DECODE_ENVELOPE(value).events if value[:1] == b"\x97" else []
    own = [event for event in known if event.id is not None]
    match source.randrange(3):
        case 1 if own:
            return ENCODE(WireEnvelope(1, f"again{source.random()}", 1, 1, 0, None, own))
        case 2 if own:
            return json_event(source.choice(own))
    return value


def prepared() -> World:
    world = World(catalogues=VERSIONS)
    world.log_time_ms = NOW_MS - HOUR_MS
    world.obey(
        organization_put("org_a", "free"), organization_put("org_b"), organization_put("org_sub", account_id="org_a"),
        *(key_put(key, org, "test" if key == "key_t" else "live", account_id=ORGANIZATIONS[org])
          for key, org in KEYS.items()),
    )  # fmt: skip
    return world


def play(world: World, entries: list[Entry]) -> None:
    for topic, log_time_ms, value, _ in entries:
        if topic == "usage":
            world.append(value, log_time_ms)
        else:
            world.obey(value, at=log_time_ms)


def summed(world: World) -> dict[tuple[str, str, str, int], Counter[str]]:
    cells: dict[tuple[str, str, str, int], Counter[str]] = {}
    for (org, key, operation, minute, _), cell in world.cells.items():
        total = cells.setdefault((org, key, operation, minute), Counter())
        total.update(
            requests=cell.requests, errors=cell.errors, throttled=cell.throttled, units=cell.units,
            credits=cell.credits_micro, events=cell.events,
        )  # fmt: skip
    return {key: +total for key, total in cells.items() if +total}


@pytest.mark.contract("2.5", "2.7", "9.5", "9.10", "8.3")
@given(logs())
@settings(max_examples=60, deadline=None)
def test_used_is_the_sum_of_the_rated_events_and_rollups_sum_to_the_ledgers(entries):
    world = prepared()
    reference = Reference(VERSIONS, {"key_t"})
    play(world, entries)
    for _, log_time_ms, _, held in entries:
        reference.now = max(reference.now, log_time_ms)
        for event in held:
            reference.add(event, ORGANIZATIONS[event.org_id], log_time_ms)
    for (kind, identifier, month), micro in reference.used.items():
        assert world.used(kind, identifier, month) == micro
    ledgers = {tuple(key.decode().split("|")[1:]) for key in world.rows if key.startswith(b"l|")}
    for kind, identifier, month in ledgers:
        row = world.ledger(kind, identifier, month)
        assert row.used_micro == sum(row.breakdown_micro) == reference.used[kind, identifier, month]
        assert row.requests == reference.requests[kind, identifier, month]
        corrections = {key[3]: value for key, value in reference.corrections.items()
                       if key[:3] == (kind, identifier, month)}  # fmt: skip
        assert row.corrections_micro == corrections
    assert summed(world) == {key: +cell for key, cell in reference.cells.items() if +cell}
    assert world.machine.totals.counted == reference.counted
    accounts = sum(world.used(*ledger) for ledger in ledgers if ledger[0] == "account")
    assert accounts == sum(cell.credits_micro for cell in world.cells.values())


def told(key: bytes, payload: bytes) -> list[Any]:
    """What a row says. Buckets have their limits since somebody looked for them first, and a repeat looks for them."""
    row = msgspec.msgpack.decode(payload)
    if key.startswith(b"b|"):
        del row[BucketsRow.__struct_fields__.index("as_of_ms")]
    return row


@given(logs(), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_repeats_change_nothing_but_the_count_of_duplicates(entries, seed):
    once, again = prepared(), prepared()
    play(once, entries)
    play(again, with_repeats(entries, seed))
    assert summed(again) == summed(once)
    for key, payload in once.rows.items():
        if key.startswith((b"l|", b"h|", b"s|", b"b|")):
            assert told(key, again.rows[key]) == told(key, payload)
    assert again.machine.totals.counted == once.machine.totals.counted


def rows_after(entries: list[Entry], flushes: set[int], crashes: set[int]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The rows after ``entries``; flushed after the entries in ``flushes``, and after ``crashes`` all that was not
    flushed is lost and played again by a new owner. Also all rejects."""
    start = prepared()
    rows, machine = dict(start.rows), start.machine
    epoch, position, flushed, log_time, flushed_time = 1, 0, 0, start.log_time_ms, start.log_time_ms
    left = set(crashes)
    sent: list[bytes] = []

    def flush() -> None:
        for key, payload in machine.take_changes():
            if payload is None:
                rows.pop(key, None)
            else:
                rows[key] = payload
        sent.extend(record.value for record in machine.take_outputs().durable if record.topic == "rejects")
        machine.flushed(1, 10**6)

    while True:
        if position in left:
            left.discard(position)
            epoch += 1
            machine = Partition(0, 1)
            machine.use_catalogues(VERSIONS)
            for key, payload in sorted(rows.items()):
                machine.restore(key, payload)
            machine.resume(epoch << 32, flushed, flushed_time)
            position, log_time = flushed, flushed_time
        if position == len(entries):
            break
        topic, log_time_ms, value, _ = entries[position]
        log_time = max(log_time, log_time_ms)
        if topic == "usage":
            assert machine.apply_usage([(position, log_time_ms, None, value)], accounts_current=True) == 1
        else:
            machine.apply_accounts([(position, log_time_ms, None, value)])
        position += 1
        if position in flushes:
            flush()
            flushed, flushed_time = position, log_time
    machine.advance(log_time + 25 * 60_000)
    flush()
    return rows, sent


@given(logs(), st.sets(st.integers(1, 20), max_size=6), st.sets(st.integers(0, 14), max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_crash_at_any_point_leaves_the_same_rows_and_the_same_rejects(entries, flushes, crashes):
    expected = rows_after(entries, {len(entries)}, set())
    assert rows_after(entries, flushes, crashes) == expected


@given(logs())
@settings(max_examples=25, deadline=None)
def test_the_same_log_gives_the_same_outputs_and_decisions_only_rise(entries):
    first, second = prepared(), prepared()
    play(first, with_repeats(entries, 7))
    play(second, with_repeats(entries, 7))
    assert (first.early, first.durable, first.balances) == (second.early, second.durable, second.balances)
    for earlier, later in pairwise(first.decisions):
        assert (earlier.sequence.epoch, earlier.sequence.counter) < (later.sequence.epoch, later.sequence.counter)
    identifiers = [one.decision_id for one in first.decisions]
    assert len(identifiers) == len(set(identifiers))
