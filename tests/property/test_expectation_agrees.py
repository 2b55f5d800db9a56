"""The check's expectation and the workers' state machine, written apart, come to the same totals on any usage log.

Logs of two partitions over a month's end: named and nameless events, repeats, conflicts, late and early ones, wrong
partitions, forwards sent twice, storage samples, and prices that change.
"""

from collections import deque
from datetime import UTC, datetime
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.decode import Malformed
from sluicegate_schemas.envelope import ENCODE, WireCharge, WireEnvelope, WireEvent, WireForward
from sluicegate_schemas.outputs import Reject
from sluicegate_schemas.partitioning import partition_of
from stack.expected import Expectation, Place, tenants_of
from stack.rating import month_span_ms
from stack.state_rows import TOTALS_KEY, WorkerTotals, ledger_amounts, ledger_place, worker_totals
from stack.usage_log import parse_usage
from tests.domain_world import World, default_catalogue, key_put, organization_put

PARTITIONS = 2
ORGANIZATIONS = ("org_a", "org_b", "org_c")
DAY_MS = 86_400_000
END_MS = month_span_ms("2026-11")[1]
OPERATIONS = (
    "search.knn", "storage", "storage", "inference.llm", "documents.create", "retriever.execute", "never.heard",
    "inference.embedding", "cluster.execute",
)  # fmt: skip
LAGS_MS = (0, 0, 1_000, DAY_MS // 2, 2 * DAY_MS, 7 * DAY_MS - 10_000, 8 * DAY_MS, -200_000, -400_000)
STEPS_MS = (10, 1_000, 60_000, 3_600_000, DAY_MS // 3)


def versions(draw: Random) -> list[Catalogue]:
    """One to three versions that begin around the month's end, each with prices of its own."""
    base = default_catalogue()
    found = []
    for version in range(1, draw.choice((2, 3, 4))):
        operations = dict(base.operations)
        for name in ("storage", "search.knn"):
            price = operations[name].price.model_copy(update={"credits_micro": draw.randrange(3 * 10**8)})
            operations[name] = operations[name].model_copy(update={"price": price})
        start = datetime.fromtimestamp((END_MS + draw.randrange(-5 * DAY_MS, 5 * DAY_MS)) // 1000, UTC)
        found.append(base.model_copy(update={"version": version, "effective_at": start, "operations": operations}))
    return found


def some_event(draw: Random, now_ms: int, *, named: bool) -> WireEvent:
    """Any event, good or bad."""
    name = draw.choice((*ORGANIZATIONS * 5, "org_nobody"))[4:]
    operation, ts_ms = draw.choice(OPERATIONS), now_ms - draw.choice(LAGS_MS)
    key = draw.choice((f"key_{name}", f"key_{name}", f"key_{name}_test", "key_a"))
    quantities = [
        {"bytes": draw.randrange(10**12)},
        {"tokens": draw.randrange(20_000)},
        {"documents": 3, "requests": 2},
    ]
    odd = [{"dataset_size": 5_000}, {"tokens": -1}, {"documents": 10**15}, None]
    charges = [
        WireCharge(
            draw.choice(("search.knn", "storage", "search.web")), draw.choice((None, {"bytes": 5})), None, cached
        )
        for cached in (False, True)
    ]
    return WireEvent(
        f"id{draw.randrange(25)}" if named else None,
        f"org_{name}",
        None if operation == "storage" and draw.random() < 0.7 else key,
        operation,
        ts_ms - draw.choice((0, 5)),
        ts_ms,
        5,
        draw.choice((200,) * 8 + (429, 500, 302, 99)),
        draw.choice(quantities * 3 + odd),
        draw.choice((None, "text-large", "never-heard-of")),
        draw.random() < 0.1,
        charges if draw.random() < 0.2 else None,
        account_id=draw.choice((None,) * 8 + ORGANIZATIONS[:2]),
    )


class Both:
    """A log of all partitions, fed to both."""

    def __init__(self, draw: Random) -> None:
        catalogues = versions(draw)
        self.worlds = [World(None, catalogues, partition, PARTITIONS) for partition in range(PARTITIONS)]
        commands = []
        for name in ORGANIZATIONS:
            keys = key_put(f"key_{name[4:]}", name), key_put(f"key_{name[4:]}_test", name, mode="test")
            for command in (organization_put(name), *keys):
                self.worlds[partition_of(name, PARTITIONS)].obey(command)
                commands.append(ACCOUNT_COMMAND.validate_json(command))
        self.now_ms = END_MS - 6 * DAY_MS
        self.expectation = Expectation(catalogues, tenants_of(commands), PARTITIONS)
        self.forwards: deque[tuple[int, bytes]] = deque()

    def append(self, partition: int, value: bytes) -> None:
        world = self.worlds[partition]
        sent = len(world.durable)
        offset = world.append(value, max(self.now_ms, world.log_time_ms))
        self.forwards += [(one.partition, one.value) for one in world.durable[sent:] if one.topic == "usage"]
        place = Place(partition, offset, world.log_time_ms)
        match parse_usage(value):
            case WireEnvelope() as envelope:
                self.expectation.add_envelope(envelope, place)
            case WireForward() as forward:
                self.expectation.add_forward(forward, place)
            case WireEvent() as event:
                self.expectation.add_single(event, place)
            case Malformed() as malformed:
                self.expectation.add_malformed(malformed, place)

    def play(self, draw: Random, steps: int) -> None:
        sent: list[tuple[int, bytes]] = []
        for step in range(1, steps + 1):
            self.now_ms += draw.choice(STEPS_MS)
            if sent and draw.random() < 0.2:
                record = draw.choice(sent)
            elif draw.random() < 0.05:
                record = draw.randrange(PARTITIONS), b"credits please"
            else:
                events = [some_event(draw, self.now_ms, named=draw.random() < 0.6) for _ in range(draw.randrange(1, 5))]
                at_home = partition_of(events[0].org_id, PARTITIONS)
                partition = at_home if draw.random() < 0.7 else draw.randrange(PARTITIONS)
                record = partition, ENCODE(WireEnvelope(1, "producer", 1, step, self.now_ms, None, events))
            sent.append(record)
            self.append(*record)
            while self.forwards and draw.random() < 0.8:
                self._bring_home(twice=draw.random() < 0.1)
        while self.forwards:
            self._bring_home(twice=False)

    def _bring_home(self, *, twice: bool) -> None:
        forward = self.forwards.popleft()
        for _ in range(1 + twice):
            self.append(*forward)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_both_come_to_the_same_totals(seed: int, steps: int) -> None:
    draw = Random(seed)
    both = Both(draw)
    both.play(draw, steps)
    totals = both.expectation.totals

    rows = [world.rows for world in both.worlds]
    own = sum((worker_totals(one[TOTALS_KEY]) for one in rows if TOTALS_KEY in one), WorkerTotals())
    repeated = totals.forwards_repeated
    assert (own.counted, own.rejected, own.forwarded, own.duplicate - repeated) == (
        totals.events_counted, totals.events_rejected, totals.events_forwarded, totals.events_duplicate,
    )  # fmt: skip
    assert both.expectation.forwards_wrong() == []

    rejects: list[Reject] = [reject for world in both.worlds for reject in world.rejects]
    assert len(rejects) == totals.rejected_by_reason.total() == totals.events_rejected

    ledgers = {
        ledger_place(key): ledger_amounts(payload) for one in rows for key, payload in one.items() if key[:2] == b"l|"
    }
    used = {place: ledger.used_micro for place, ledger in ledgers.items() if ledger.used_micro}
    expected = {"account": totals.by_account, "organization": totals.by_organization, "key": totals.by_key}
    assert used == {(kind, *place): micro for kind, sums in expected.items() for place, micro in sums.items() if micro}
    requests = {
        place[1:]: one.requests for place, one in ledgers.items() if place[0] == "organization" and one.requests
    }
    assert requests == +totals.requests_by_organization
