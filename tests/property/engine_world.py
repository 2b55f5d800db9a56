"""One partition, several workers and a log, in memory: all that can go wrong between a core and Kafka, drawn by a seed.

Replies get lost, appends arrive after their sender gave up or died, owners pause and wake after their partition moved,
batches are delivered twice or not at all, the group moves the partition at any moment. The state log is then held
against the source by ``tests.faults.engine_verifier``, which shares no code with the engine.
"""

import json
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sluicegate_schemas.state import OutboxRecord
from streams.engine import actions
from streams.engine.core import PartitionCore
from streams.engine.limits import Limits
from streams.engine.machine import InputRecord
from streams.engine.phase import Phase
from tests.faults.counting_machine import CountingMachine
from tests.faults.engine_verifier import Log, Report, verify_partition

LIMITS = Limits(flush_interval_s=0.2, rows_max=40)


class LogRecord(NamedTuple):
    """A record of a topic, as far as anybody looks at it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


class Member:
    """A worker of the group: a core, and the I/O that it asked for and that is not done."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.core: PartitionCore | None = None
        self.todo: deque[actions.Action | Callable[[PartitionCore], list[actions.Action]]] = deque()
        self.outputs: deque[actions.Publish] = deque()
        self.parked: PartitionCore | None = None
        self.paused = False
        self.sought: int | None = None
        self.fetch_at = 0

    def assign(self) -> None:
        """The group gave this member the partition."""
        self.todo.clear()
        parked, self.parked = self.parked, None
        if parked is not None and parked.returned(len(self.world.state)):
            self.core = parked
            self.begin_fetching()
            return
        self.outputs.clear()
        self.core = PartitionCore(0, CountingMachine(0, rows_max=30), LIMITS)
        self.core.catalogue_seen(1e9)
        self.perform(
            self.core.assigned(
                owner=f"m{self.number}",
                generation=self.world.generation,
                nonce=self.world.draw.getrandbits(32),
                wall_ms=0,
            )
        )

    def perform(self, todo: list[actions.Action]) -> None:
        for action in todo:
            match action:
                case actions.Ready():
                    self.begin_fetching()
                case actions.Drop():
                    self.forget()
                    if self.world.owner is self:
                        self.world.rebalance()
                    return
                case actions.Stop(reason):
                    raise AssertionError(f"refused: {reason}")
                case actions.Publish():
                    self.outputs.append(action)
                case actions.AppendTick():
                    self.world.append_usage(b"\x91\x03")
                case actions.Acknowledge():
                    pass
                case _:
                    self.todo.append(action)

    def forget(self) -> None:
        """The partition is given up, or the process died."""
        self.core = self.parked = None
        self.todo.clear()
        self.outputs.clear()

    def begin_fetching(self) -> None:
        """What ``seek_to_committed`` does before the flow resumes."""
        assert self.core is not None
        self.sought = self.fetch_at = self.core.usage_next

    def work(self) -> None:
        """One thing that a running worker may do next."""
        core, draw, world = self.core, self.world.draw, self.world
        if core is None:
            return
        choice = draw.random()
        if self.todo and choice < 0.4:
            self.do_io(self.todo.popleft())
        elif self.outputs and choice < 0.5:
            self.publish(self.outputs.popleft())
        elif choice < 0.65:
            self.fetch()
        elif choice < 0.85:
            self.perform(core.step(world.now))
        else:
            self.perform(core.tick(world.now, world.now + 1))

    def publish(self, action: actions.Publish) -> None:
        core, fate = self.core, self.world.draw.random()
        assert core is not None
        if fate < 0.995:
            self.world.send(action.record)
        if fate < 0.99:
            core.published(action.token)
        else:
            self.perform(core.publish_failed("no reply"))

    def fetch(self) -> None:
        core, draw = self.core, self.world.draw
        assert core is not None
        if core.phase is not Phase.RUNNING:
            return
        batch = [record for record in self.world.usage if record.offset >= self.fetch_at][: draw.randrange(1, 12)]
        if not batch:
            return
        follows_seek_to, self.sought = self.sought, None
        self.fetch_at = batch[-1].offset + 1
        if draw.random() < 0.06:
            return  # a cleared queue: the batch was fetched and never delivered
        records = [InputRecord(record.offset, record.timestamp, record.key, record.value) for record in batch]
        for _ in range(2 if draw.random() < 0.05 else 1):
            self.perform(core.fetched(records, follows_seek_to))
            if self.core is None:
                return

    def do_io(self, action: actions.Action | Callable[[PartitionCore], list[actions.Action]]) -> None:
        core, world, draw = self.core, self.world, self.world.draw
        assert core is not None
        if callable(action):
            self.perform(action(core))
            return
        match action:
            case actions.Append(records):
                fate = draw.random()
                if fate < 0.90:
                    base = world.append(records)
                    self.todo.append(lambda core: core.appended(base, world.now))
                    return
                if fate < 0.94:
                    world.append(records)
                elif fate < 0.97:
                    world.late.append(records)
                if fate < 0.92:
                    self.perform(core.appended(None, world.now))
                else:
                    self.perform(core.append_failed("no reply"))
            case actions.ReadState(start, end):
                first, last = start or 0, len(world.state) if end is None else end
                core.state_records(world.state[first:last])
                self.perform(core.state_read(last))
            case actions.LookAtStateEnd():
                end = len(world.state)
                self.todo.append(lambda core: core.state_end(end))
            case actions.LookAtSources():
                self.perform(core.sources(usage=(0, world.usage_end), accounts=(0, len(world.accounts))))
            case actions.SeekUsage(offset):
                self.sought = self.fetch_at = offset
                core.sought()
            case actions.LookAtUsageStart():
                self.perform(core.usage_starts(0))
            case actions.RefreshAccounts():
                found = world.accounts[core.accounts_next :]
                self.perform(core.accounts_fetched([InputRecord(r.offset, 0, r.key, r.value) for r in found]))
                self.perform(core.accounts_current())


class World:
    """See the module. ``run`` plays one history; ``verdict`` looks at what it left."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now = 0.0
        self.generation = 0
        self.state: list[LogRecord] = []
        self.usage: list[LogRecord] = []
        self.usage_end = 0
        self.accounts = [LogRecord(n, None, json.dumps({"account": f"a{n}"}).encode()) for n in range(3)]
        self.late: list[list[actions.StateRecord]] = []
        self.sent: list[OutboxRecord] = []
        self.members = [Member(self, number) for number in range(3)]
        self.owner: Member | None = None
        self._sequence = 0
        self._top_epoch = 0
        self._durable_up_to = -1

    def append(self, records: list[actions.StateRecord]) -> int:
        base = len(self.state)
        for place, record in enumerate(records):
            self.state.append(LogRecord(base + place, record.key, record.value, record.headers))
            content = record.value if record.value is not None else dict(record.headers)["e"]
            if (epoch := int.from_bytes(content[:8], "big")) >= self._top_epoch:
                self._top_epoch = epoch
                if record.key == b"_head":
                    self._durable_up_to = msgspec.msgpack.decode(content[8:])[1]
        return base

    def send(self, record: OutboxRecord) -> None:
        """The broker takes an output; what waits for the flush must stand in a true one by now."""
        self.sent.append(record)
        body = json.loads(record.value)
        if record.topic == "rejects":
            assert int(body["id"].partition("/")[2]) <= self._durable_up_to, "a reject before its flush"
        elif record.topic == "balances":
            assert body["offset"] <= self._durable_up_to, "a balance before its flush"
        else:
            assert any(body["epoch"] == int.from_bytes(r.value[:8], "big") for r in self.state if r.key == b"_claim")

    def feed(self) -> None:
        """A producer sends a few envelopes, some of them twice; its transactions leave holes."""
        for _ in range(self.draw.randrange(1, 8)):
            self._sequence += 1
            account = "nobody" if self.draw.random() < 0.05 else f"a{self.draw.randrange(3)}"
            events = [[f"k{self.draw.randrange(25)}", self.draw.randrange(9)] for _ in range(self.draw.randrange(4))]
            body = {"producer": "p", "sequence": self._sequence, "account": account, "events": events}
            for _ in range(2 if self.draw.random() < 0.1 else 1):
                if self.draw.random() < 0.1:
                    self.usage_end += 1
                value = b"\x91\x03" if self.draw.random() < 0.05 else json.dumps(body).encode()
                self.append_usage(value)

    def append_usage(self, value: bytes) -> None:
        self.usage.append(LogRecord(self.usage_end, None, value, (), int(self.now * 1000)))
        self.usage_end += 1

    def rebalance(self) -> None:
        """The group gives the partition to some member that is awake; a former owner that sleeps learns nothing."""
        self.generation = 1 if self.draw.random() < 0.05 else self.generation + 1
        awake = [member for member in self.members if not member.paused]
        old = self.owner
        self.owner = self.draw.choice(awake)
        if old is not None and old.core is not None and not old.paused and old.core.phase is Phase.RUNNING:
            core = old.core
            core.drain()
            for _ in range(self.draw.randrange(40)):
                if old.core is not core or core.clean:
                    break
                self.now += 0.05
                if old.todo:
                    old.do_io(old.todo.popleft())
                else:
                    old.perform(core.tick(self.now, self.now + 1))
            if old.core is core and core.park():
                old.parked, old.core = core, None
                old.todo.clear()
        if old is not None and not old.paused and old.core is not None:
            old.forget()
        if self.owner.core is None:
            self.owner.assign()

    def crash(self, member: Member) -> None:
        """kill -9: what it was about to append may still arrive."""
        for action in member.todo:
            if isinstance(action, actions.Append) and self.draw.random() < 0.5:
                self.late.append(action.records)
        member.forget()
        member.paused = False

    def run(self, steps: int) -> None:
        """Plays a history of ``steps``, then lets the last owner finish in peace."""
        self.rebalance()
        for _ in range(steps):
            self.now += self.draw.random() * 0.06
            choice = self.draw.random()
            if choice < 0.06:
                self.feed()
            elif choice < 0.065:
                self.rebalance()
            elif choice < 0.07 and self.owner is not None:
                self.crash(self.owner)
                self.rebalance()
            elif choice < 0.075 and self.owner is not None and sum(member.paused for member in self.members) < 2:
                self.owner.paused = True
                self.rebalance()
            elif choice < 0.085:
                for member in self.members:
                    member.paused = member.paused and self.draw.random() < 0.5
            elif choice < 0.095 and self.late:
                self.append(self.late.pop(self.draw.randrange(len(self.late))))
            else:
                self.draw.choice([member for member in self.members if not member.paused]).work()
        for member in self.members:
            member.paused = False
        while self.late:
            self.append(self.late.pop())
        self.finish()

    def finish(self) -> None:
        """Everybody works on until all that is fed is counted and clean."""
        for _ in range(40_000):
            self.now += 0.02
            for member in self.members:
                member.work()
            while self.late:
                self.append(self.late.pop())
            if self._at_rest():
                return
        raise AssertionError("the last owner never came to rest")

    def _at_rest(self) -> bool:
        """One owner, who has counted and flushed everything, and whose log ends with what it wrote."""
        cores = [member.core for member in self.members if member.core is not None]
        if len(cores) != 1 or self.owner is None or cores[0] is not self.owner.core:
            return False
        core = cores[0]
        if core.outbox.unacknowledged or core.outbox.header_is_stale:
            return False
        counted = not self.usage or core.usage.applied == self.usage[-1].offset
        return counted and core.phase is Phase.RUNNING and core.clean and core.state_end_known == len(self.state)

    def verdict(self, seed: int) -> Report:
        report = Report()
        usage = Log(0, self.usage_end, list(self.usage))
        verify_partition(0, usage, Log(0, 3, list(self.accounts)), Log(0, len(self.state), self.state), report, seed)
        sent = {json.loads(r.value)["id"] for r in self.sent if r.topic == "rejects"}
        if sent != report.rejected:
            report.faults.append(f"rejects: sent {sorted(sent)}, should be {sorted(report.rejected)}")
        return report
