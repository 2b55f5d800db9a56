"""Quotas and concurrency against naive models over random histories with crashes: what was said last is true."""

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_schemas.envelope import DECODE_ENVELOPE, DECODE_GAUGE, ENCODE, WireEnvelope, WireInFlight
from streams.domain.gauges import Gauges
from streams.domain.quotas import Quotas
from tests.domain_world import NOW_MS, key_put, key_quota_off, organization_put, usage
from tests.limits_world import gauge, quota_recount
from tests.lossy_world import LogRecord, LossyWorld

CONCURRENCY = {"free": 5, "pro": 50}
COLLECTIONS = {"free": 5, "pro": 50}
CLUSTERS = ("c1", "c2")
STEPS_MS = st.sampled_from([0, 1, 100, 251, 900, 2_500, 5_000])
TIERS = st.sampled_from(["free", "pro"])


@st.composite
def histories(draw: st.DrawFn, kinds: dict[str, Any]) -> list[tuple[str, Any]]:
    """What happens: records of ``kinds`` (by the log that they go to), flushes and deaths."""
    found: list[tuple[str, Any]] = []
    at = NOW_MS
    for number in range(draw(st.integers(1, 25))):
        at += draw(STEPS_MS)
        kind = draw(st.sampled_from(["keep", "die", "time", "tier", *[name for name in kinds for _ in range(4)]]))
        match kind:
            case "keep":
                found.append(("keep", None))
            case "die":
                found.append(("die", draw(st.booleans())))
            case "time":
                found.append(("record", LogRecord("time", at)))
            case "tier":
                value = organization_put("org_a", draw(TIERS), command_id=f"t{number}")
                found.append(("record", LogRecord("accounts", at, value)))
            case _:
                topic, values = kinds[kind]
                found.append(("record", LogRecord(topic, at, draw(values(number)))))
    return found


def play(history: list[tuple[str, Any]]) -> LossyWorld:
    world = LossyWorld()
    world.obey(organization_put("org_a", "free"), key_quota_off(), key_put())
    world.keep()
    for what, content in history:
        match what:
            case "keep":
                world.keep()
            case "die":
                world.die(commands_first=content)
            case _:
                world.take_in(content)
    world.take_in(LogRecord("time", world.log_time_ms + 300))
    return world


def tier_of(world: LossyWorld) -> str:
    return world.machine.accounts.organizations["org_a"].tier


# ---- gauges ----


def gauges(number: int) -> st.SearchStrategy[bytes]:
    runs = st.lists(st.sampled_from(CLUSTERS), unique=True).map(
        lambda names: [("cluster.execute", name, 1) for name in names]
    )
    return st.builds(
        lambda node, boot, sequence, ttl_ms, in_flight, subjects: gauge(
            node=node, boot=boot, sequence=sequence, ttl_ms=ttl_ms,
            organizations=[WireInFlight("org_a", in_flight, subjects)],
        ),
        st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(["b1", "b2"]), st.integers(number, number + 1),
        st.sampled_from([1_000, 5_000]), st.sampled_from([0, 1, 2, 3, 5, 20, 48]), runs,
    )  # fmt: skip


def naive_gauges(world: LossyWorld) -> tuple[int, Counter[str]]:
    """(requests, runs by cluster) under way at the end."""
    nodes: dict[str, tuple[str, int, int, Any]] = {}
    now = NOW_MS
    for record in world.applied:
        now = max(now, record.at)
        nodes = {name: one for name, one in nodes.items() if one[2] > now}
        if record.topic == "usage":
            said = DECODE_GAUGE(record.value)
            before = nodes.get(said.node)
            if before is None or before[0] != said.boot_id or before[1] < said.sequence:
                nodes[said.node] = said.boot_id, said.sequence, now + said.ttl_ms, said.organizations[0]
    runs = Counter(subject for _, _, _, one in nodes.values() for _, subject, _ in one.subjects)
    return sum(one.in_flight for _, _, _, one in nodes.values()), runs


@given(histories({"gauge": ("usage", gauges)}))
@settings(max_examples=100, deadline=None)
def test_requests_under_way_are_what_living_nodes_said_last_and_a_block_stands_exactly_while_they_are_too_many(history):
    world = play(history)
    in_flight, runs = naive_gauges(world)
    (counted,) = (one for one in world.machine.participants.all if isinstance(one, Gauges))
    assert counted.in_flight_of("org_a") == in_flight
    said = world.last_said("concurrency", "organization:org_a")
    limit = CONCURRENCY[tier_of(world)]
    assert (said is not None and said.verdict == "block") == (in_flight >= limit)
    if said is not None and in_flight * 2 >= limit:
        bands = [sum(one * 100 >= limit * band for band in (50, 80, 90, 100)) for one in (said.observed, in_flight)]
        assert bands[0] == bands[1]
    for cluster in CLUSTERS:
        one = world.last_said("operation_concurrency", f"operation:org_a:cluster.execute:{cluster}")
        assert (one is not None and one.verdict == "block") == (runs[cluster] >= 1)


@given(histories({"gauge": ("usage", gauges)}))
@settings(max_examples=50, deadline=None)
def test_when_all_nodes_are_silent_everything_is_open_again(history):
    world = play(history)
    world.take_in(LogRecord("time", world.log_time_ms + 60_000))
    assert all(
        decision.verdict == "allow"
        for decision in {(one.limit_name, one.scope.text()): one for one in world.decisions}.values()
    )
    world.keep()
    assert not [key for key in world.rows if key.startswith(b"v|")]


# ---- quotas ----


def deltas(number: int) -> st.SearchStrategy[bytes]:
    def envelope(amounts: list[tuple[int, int]]) -> bytes:
        events = []
        for delta, status in amounts:
            event = usage("collections.create", status=status)
            event.resource_delta = {"collections": delta}
            events.append(event)
        return ENCODE(WireEnvelope(1, f"p{number}", 1, 1, 0, None, events))

    amount = st.tuples(st.sampled_from([1, 1, 2, 4, -1, -3, 45]), st.sampled_from([201, 200, 404, 500]))
    return st.lists(amount, min_size=1, max_size=4).map(envelope)


def recounts(number: int) -> st.SearchStrategy[bytes]:
    return st.sampled_from([0, 3, 5, 49, 60]).map(lambda count: quota_recount("org_a", f"r{number}", collections=count))


def naive_count(world: LossyWorld) -> int:
    count = 0
    for record in world.applied:
        if record.topic == "usage":
            for event in DECODE_ENVELOPE(record.value).events:
                if 200 <= event.status <= 299 and event.resource_delta:
                    count = max(0, count + event.resource_delta["collections"])
        elif record.topic == "accounts":
            command = json.loads(record.value)
            count = command.get("counts", {}).get("collections", count)
    return count


@given(histories({"delta": ("usage", deltas), "recount": ("accounts", recounts)}))
@settings(max_examples=150, deadline=None)
def test_a_quota_counts_what_succeeded_and_a_block_stands_exactly_while_it_is_reached(history):
    world = play(history)
    count = naive_count(world)
    (counted,) = (one for one in world.machine.participants.all if isinstance(one, Quotas))
    assert counted.count_of("org_a", "collections") == count
    limit = COLLECTIONS[tier_of(world)]
    said = world.last_said("quota_collections", "organization:org_a")
    assert (said is not None and said.verdict == "block") == (count >= limit)
    if count * 100 >= limit * 80:
        assert said is not None
        assert (said.observed, said.limit) == (count, limit)
