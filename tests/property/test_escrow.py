"""Hard limits over one partition and several gates: nothing overspends, whatever is lost, late, repeated or killed.

The log is the truth: what the nodes send gets into it late, in each node's order, lease requests perhaps twice; answers
come late, repeated, in any order, or never. Worker and nodes are killed and cut off, months end, totals shrink.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluicegate.gate.escrow import Covering, Escrow, EscrowSettings, LeaseHold
from sluicegate_schemas.envelope import ENCODE
from sluicegate_schemas.outputs import Lease
from streams.domain.lease_time import STEP_MS_MAX
from streams.domain.period import month_start_ms
from streams.domain.settings import DomainSettings
from streams.domain.tables import LeaseRow, LedgerRow
from tests.domain_world import World, key_put, organization_put, usage
from tests.leases import leases

MICRO = 1_000_000
DECEMBER = 683
"""Months since January 1970."""
DECEMBER_MS = month_start_ms(DECEMBER)
MONTHS = ("2026-11", "2026-12", "2027-01")
TTL_MS, REQUEST_MS, LATE_MS = 20_000, 30_000, 60_000
DOMAIN = DomainSettings(lease_ttl_ms=TTL_MS, lease_request_ms=REQUEST_MS, lease_late_ms=LATE_MS)
GATES = EscrowSettings(idle_ms=8_000, refused_ms=200, lost_ms=3_000)
COVERING = [Covering("credits", "account:org_a", "org_a", "org_a")]
LATEST_MS = LATE_MS // 2
"""How long a record may be on its way: less than the worker waits for it."""
NODES = 3


@dataclass
class Request:
    """One that runs: what it holds, what it will cost, and when it must be over."""

    hold: LeaseHold
    cost_micro: int
    ends_by_ms: int


@dataclass
class Node:
    """A gateway process: ``clock_ms`` is how far its wall clock is off; its monotonic clock began somewhere."""

    name: str
    clock_ms: int
    began_ms: int
    escrow: Escrow
    running: list[Request] = field(default_factory=list)
    outgoing: list[tuple[int, bytes]] = field(default_factory=list)
    """(when it was sent, record), in order: none overtakes another."""
    sequence: int = 0
    is_cut_off: bool = False


class Spending(RuleBasedStateMachine):
    """Never more than there is; all of it comes back; every admitted request is in the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = DECEMBER_MS - 60_000
        self.boots = 0
        self.nodes: list[Node] = []
        self.answers: list[Lease] = []
        self.admitted_micro = 0
        self.most_total: dict[str, int] = {}

    @initialize(
        total=st.integers(0, 60), skews=st.lists(st.integers(-600_000, 600_000), min_size=NODES, max_size=NODES)
    )
    def begin(self, total: int, skews: list[int]) -> None:
        self.world = World(DOMAIN)
        self.world.log_time_ms = self.now_ms
        self.world.obey(organization_put(credits_micro_per_month=total * MICRO), key_put(), at=self.now_ms)
        self.world.durable.clear()
        self.puts = 0
        self.most_total = dict.fromkeys(MONTHS, total * MICRO)
        self.nodes = [self._boot(f"node-{number}", skew) for number, skew in enumerate(skews)]

    def _boot(self, name: str, clock_ms: int) -> Node:
        self.boots += 1
        began_ms = self.now_ms - 1_000 * self.boots
        return Node(name, clock_ms, began_ms, Escrow(name, f"boot{self.boots}", GATES))

    def _mono(self, node: Node) -> int:
        return self.now_ms - node.began_ms

    # ---- requests ----

    @rule(number=st.integers(0, NODES - 1), worst=st.integers(1, 20), share=st.integers(0, 100))
    def ask_the_gate(self, number: int, worst: int, share: int) -> None:
        node = self.nodes[number]
        now = self._mono(node)
        found = node.escrow.find(COVERING, worst * MICRO, now)
        if isinstance(found, LeaseHold):
            node.escrow.hold(found, now)
            cost = worst * MICRO * share // 100
            node.running.append(Request(found, cost, self.now_ms + REQUEST_MS))
            self.admitted_micro += cost
        elif node.escrow.refusal(found[0], worst * MICRO, now) is None:
            node.escrow.wait(found[0], worst * MICRO, now)
        self._send(node)

    @rule(number=st.integers(0, NODES - 1), which=st.integers(0, 10))
    def end_a_request(self, number: int, which: int) -> None:
        node = self.nodes[number]
        if node.running:
            self._end(node, node.running[which % len(node.running)])

    def _end(self, node: Node, request: Request) -> None:
        node.running.remove(request)
        now = self._mono(node)
        ts_ms = request.hold.end_epoch_ms(self.now_ms + node.clock_ms, now)
        event = usage("documents.create", quantities={"documents": 0}, ts=ts_ms)
        event.charges = None
        event.operation, event.quantities = "upload.file", {"bytes": request.cost_micro}  # a micro-credit a byte
        event.leases = list(request.hold.leases)
        node.sequence += 1
        node.outgoing.append(
            (self.now_ms, self.world.envelope(event, producer=f"p{node.began_ms}", sequence=node.sequence))
        )
        node.escrow.settle(request.hold, request.cost_micro, now)
        self._send(node)

    def _send(self, node: Node) -> None:
        for request in node.escrow.asks(self._mono(node)):
            node.outgoing.append((self.now_ms, ENCODE(request)))

    # ---- the way to the log and back ----

    @rule(number=st.integers(0, NODES - 1), count=st.integers(1, 5), again=st.booleans())
    def deliver(self, number: int, count: int, again: bool) -> None:
        node = self.nodes[number]
        if not node.is_cut_off:
            for _ in range(min(count, len(node.outgoing))):
                _, record = node.outgoing.pop(0)
                self._append(record)
                if again:
                    self._append(record)

    def _append(self, record: bytes) -> None:
        self.world.append(record, self.now_ms)
        self.answers = leases(self.world)

    @rule(number=st.integers(0, NODES - 1), which=st.integers(0, 1_000))
    def hear_any_answer(self, number: int, which: int) -> None:
        """Old ones again, too, and others'."""
        node = self.nodes[number]
        if self.answers and not node.is_cut_off:
            answer = self.answers[-1 - which % len(self.answers)]
            if answer.node == node.name:
                node.escrow.learn(answer, self._mono(node))
                self._send(node)

    @rule(number=st.integers(0, NODES - 1))
    def hear_the_newest_answers(self, number: int) -> None:
        node = self.nodes[number]
        if not node.is_cut_off:
            for answer in self.answers[-5:]:
                if answer.node == node.name:
                    node.escrow.learn(answer, self._mono(node))
            self._send(node)

    @rule(number=st.integers(0, NODES - 1), worst=st.integers(1, 20), share=st.integers(0, 100))
    def ask_and_be_answered(self, number: int, worst: int, share: int) -> None:
        """As on a good day: the request waits for its lease, and begins."""
        node = self.nodes[number]
        self.ask_the_gate(number, worst, share)
        if not node.is_cut_off:
            self.deliver(number, len(node.outgoing) or 1, again=False)
            self.hear_the_newest_answers(number)
            self.ask_the_gate(number, worst, share)

    # ---- time ----

    @rule(for_ms=st.sampled_from([50, 500, 3_000, 9_000, 25_000]))
    def time_passes(self, for_ms: int) -> None:
        """In the log, too; what is due by then arrives or ends."""
        self._until(self.now_ms + for_ms)

    def _until(self, end_ms: int) -> None:
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + 2_000)
            for node in self.nodes:
                for request in [one for one in node.running if one.ends_by_ms <= self.now_ms]:
                    self._end(node, request)
                while node.outgoing and node.outgoing[0][0] + LATEST_MS <= self.now_ms:
                    self._append(node.outgoing.pop(0)[1])
                node.escrow.tend(self._mono(node))
                self._send(node)
            self.world.pass_time(self.now_ms)

    @rule()
    def the_log_is_silent_for_long(self) -> None:
        """The broker is away: nothing is appended, and then its clock has gone on."""
        end_ms = self.now_ms + 10 * LATE_MS
        silence_ms = 10 * LATE_MS - STEP_MS_MAX
        running = [(request.ends_by_ms, number) for number, node in enumerate(self.nodes) for request in node.running]
        for ends_by_ms, number in sorted(running):
            self.now_ms = max(self.now_ms, ends_by_ms)
            node = self.nodes[number]
            self._end(node, next(one for one in node.running if one.ends_by_ms == ends_by_ms))
        self.now_ms = end_ms
        for node in self.nodes:
            node.outgoing = [(min(end_ms, at_ms + silence_ms), record) for at_ms, record in node.outgoing]
        self.world.pass_time(self.now_ms)
        self._until(self.now_ms + 1)

    @precondition(lambda self: self.now_ms < DECEMBER_MS)
    @rule()
    def the_month_is_about_to_end(self) -> None:
        self._until(DECEMBER_MS - 1_000)

    @precondition(lambda self: DECEMBER_MS - 2_000 <= self.now_ms < DECEMBER_MS)
    @rule()
    def the_month_ends(self) -> None:
        self._until(DECEMBER_MS + 500)

    # ---- faults ----

    @rule(number=st.integers(0, NODES - 1))
    def cut_off_or_back(self, number: int) -> None:
        self.nodes[number].is_cut_off = not self.nodes[number].is_cut_off

    @rule(number=st.integers(0, NODES - 1))
    def kill_a_node(self, number: int) -> None:
        """Its running requests die unanswered; what it had sent is spooled, its lease requests are gone."""
        node = self.nodes[number]
        self.admitted_micro -= sum(request.cost_micro for request in node.running)
        new = self._boot(node.name, node.clock_ms)
        new.outgoing = [(at_ms, record) for at_ms, record in node.outgoing if record[1] == 1]
        self.nodes[number] = new

    @rule()
    def kill_the_worker(self) -> None:
        self.world.take_over()

    @rule(total=st.integers(0, 60))
    def give_another_total(self, total: int) -> None:
        """An upgrade counts at once, a downgrade from the next month on."""
        self.puts += 1
        this_month = int(self.now_ms >= DECEMBER_MS)
        for month in MONTHS[this_month + 1 :]:
            self.most_total[month] = max(self.most_total[month], total * MICRO)
        self.world.obey(
            organization_put(credits_micro_per_month=total * MICRO, command_id=f"put-{self.puts}"), at=self.now_ms
        )

    # ---- what always holds ----

    def _ledger(self, month: str) -> LedgerRow | None:
        payload = self.world.rows.get(f"l|account|org_a|{month}".encode())
        return None if payload is None else msgspec.msgpack.decode(payload, type=LedgerRow)

    def _lent(self, month: str) -> int:
        number = MONTHS.index(month) + DECEMBER - 1
        rows = (payload for key, payload in self.world.rows.items() if key.startswith(b"e|"))
        decoded = (msgspec.msgpack.decode(payload, type=LeaseRow) for payload in rows)
        return sum(row.left_micro for row in decoded if number in row.windows)

    @invariant()
    def used_and_lent_never_pass_the_total(self) -> None:
        for month in MONTHS:
            ledger = self._ledger(month) if self.nodes else None
            if ledger is not None and ledger.total_micro is not None:
                bound = self.most_total[month] = max(ledger.total_micro, self.most_total[month])
                assert ledger.used_micro + self._lent(month) <= bound

    @invariant()
    def no_node_holds_more_than_the_worker_lent(self) -> None:
        rows = (item for item in self.world.rows.items() if item[0].startswith(b"e|")) if self.nodes else ()
        lent = {key.decode()[2:]: msgspec.msgpack.decode(payload, type=LeaseRow) for key, payload in rows}
        for node in self.nodes:
            for purse in node.escrow:
                for lease in purse.leases:
                    assert lease.spent_micro + lease.reserved_micro <= lease.credits_micro
                    if lease.expires_at_ms > self._mono(node) and lease.room_micro:
                        assert lent[lease.lease_id].left_micro >= lease.room_micro, (
                            "the worker forgot what a node may spend"
                        )

    def teardown(self) -> None:
        """In the end all is in the ledger, nothing was used that no lease paid for, and all that was lent is back."""
        if not self.nodes:
            return
        for node in self.nodes:
            node.is_cut_off = False
            for request in list(node.running):
                self._end(node, request)
        self._until(self.now_ms + TTL_MS + REQUEST_MS + LATE_MS + 40_000)
        used = sum(ledger.used_micro for month in MONTHS if (ledger := self._ledger(month)) is not None)
        assert used == self.admitted_micro, "every admitted request is in the ledger"
        assert not [key for key in self.world.rows if key.startswith(b"e|")], "all that was lent comes back"
        assert not self.world.rejects
        figures = self.world.machine.participants.all
        escrow = next(one for one in figures if type(one).__name__ == "Escrow")
        row = escrow.time.row  # type: ignore[attr-defined]
        assert (row.excess_micro, row.late_micro, row.astray_micro) == (0, 0, 0)


Spending.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=60, deadline=None, phases=(Phase.explicit, Phase.generate)
)
"""Not shrunk: that takes minutes, and the steps that are printed can be followed."""
TestSpending = Spending.TestCase
pytestmark = pytest.mark.contract("3.18")
