"""Plays a plan: everything starts, traffic comes, faults happen, peace is made, and what is left is looked at."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from clickhouse.intake import SUNK
from sluicegate_schemas.topics import ACCOUNTS, CATALOG
from streams.domain.settings import DomainSettings
from streams.settings import Settings

from . import disasters, gateway, sink, tenants
from .clickhouse_twin import SimClickHouse
from .client import KafkaClient
from .gateway import Gateway
from .invariants.watch import Watch
from .log import NewRecord
from .plan import Fault, Plan, stream
from .sink import Sink
from .traffic import Outgoing, Traffic
from .worker import Worker, at_rest, worker_settings
from .world import Step, StuckError, World

COMPACTION_LAG_MS: Final = 12_000
"""Shorter than a history, so that compaction removes something; longer than a void record waits for its repair."""
DOMAIN: Final = DomainSettings(lease_ttl_ms=3_000, lease_request_ms=2_000, lease_late_ms=20_000)
"""Leases that begin and end within a history."""
LEASES_LIMIT_MS: Final = DOMAIN.lease_ttl_ms + DOMAIN.lease_request_ms + DOMAIN.lease_late_ms + 5_000
"""The longest that a lease stays with a dead node, and a little more."""
PRICES_KNOWN_S: Final = Settings().catalogue_age_max_s + 1.0
_SLICE_MS: Final = 1_000
PEACE_LIMIT_MS: Final = 90_000
SETTLED_MS: Final = 2_500
"""Quiet time at the end: ticks come, balances and late verdicts go out …"""
SETTLES_MAX: Final = 5
"""… so often at most: a session that has yet to end may hold them up."""


@dataclass(slots=True)
class History:
    """What became of a plan: violations, the last steps, and a count of what happened."""

    faults: list[str] = field(default_factory=list)
    steps: deque[Step] = field(default_factory=deque)
    seen: Counter[str] = field(default_factory=Counter)


class Stage:
    """Everything that takes part in a history."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.server = SimClickHouse(stream(plan.seed, "clickhouse"))
        self.watch = Watch(world, plan, self.server, DOMAIN)
        settings = worker_settings(world)
        self.workers = [Worker(world, f"worker{n}", settings, self.watch.machine) for n in range(plan.workers)]
        self.sink = Sink(world, "sink0", self.server, settings.sink_group)
        self.other_sink = Sink(world, "sink1", self.server, settings.sink_group)
        requests = [send for send in plan.traffic if send.kind == "requests"]
        self.gateways = [
            Gateway(world, plan.seed, n, [send for send in requests if send.by % plan.gateways == n])
            for n in range(plan.gateways)
        ]
        self.watch.gateways = self.gateways
        self.group = settings.group
        self._sends = deque(send for send in plan.traffic if send.kind != "requests")
        self.is_peace = False
        self._prices_known_at_s = 0.0
        self.traffic = Traffic(plan)

    def begin(self) -> None:
        """The first commands and prices stand, and everybody starts."""
        world = self.world
        for account, command in tenants.first_commands(self.plan.start_ms):
            put = Outgoing(ACCOUNTS.name, self.traffic.home(account), account.encode(), command)
            self.traffic.stands(put, world.append(put.topic, put.partition, command, key=put.key))
        key, value = tenants.catalogue_record(1, 0)
        world.append(CATALOG.name, 0, value, key=key)
        world.process("outside").run(self._outside)
        draw = stream(self.plan.seed, "starts")
        starts = [*self.workers, self.sink, *self.gateways]
        for one in starts:
            world.at(draw.choice((0, 0, 50, 400)), one.start)
        for fault in self.plan.faults:
            world.at(fault.at_ms, lambda fault=fault: self._happen(fault))  # type: ignore[misc]  # bound at once

    def _happen(self, fault: Fault) -> None:
        self.world.note("fault", fault.kind, f"{fault.target}, {fault.for_ms} ms")
        self.world.seen[f"fault: {fault.kind}"] += 1
        if fault.kind in disasters.GATES_SUFFER:
            now_ms = self.world.now_ms
            self.watch.troubled.append((now_ms, now_ms + fault.for_ms + 5_000 if fault.kind != "leap" else now_ms))
        disasters.KINDS[fault.kind](self, fault)

    def leap(self, by_ms: int) -> None:
        """All clocks jump; not before every worker has had the time to know the newest prices that real time gives."""
        loop = self.world.loop
        if loop.time() < self._prices_known_at_s:
            loop.call_later(1.0, self.leap, by_ms, context=contextvars.Context())
        elif not self.is_peace:
            self.world.broker.wall_start_ms += by_ms

    async def _outside(self) -> None:
        """Producers without a gate, other clients and operators, one after the other."""
        world, client, traffic = self.world, KafkaClient(), self.traffic
        while self._sends:
            send = self._sends[0]
            wait_s = send.at_ms / 1000 - (world.loop.time() - world.started_at_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            draw = stream(self.plan.seed, "send", send.number)
            for record in traffic.records(send, draw, world.broker.now_ms()):
                world.note("outside", send.kind, f"{record.topic}/{record.partition}, {len(record.value or b'')} bytes")
                if send.kind == "catalogue":
                    self._prices_known_at_s = math.inf  # until they are in the log
                new = NewRecord(record.key, record.value)
                traffic.stands(record, await client.append(world.prefix + record.topic, record.partition, [new]))
                if send.kind == "catalogue":
                    self._prices_known_at_s = world.loop.time() + PRICES_KNOWN_S
            self._sends.popleft()

    def make_peace(self) -> None:
        """All faults end, and whoever is dead comes back."""
        world = self.world
        world.note("world", "peace")
        self.is_peace = True
        world.broker.disk_full_until = 0.0
        world.broker.clock_ahead_ms = 0
        self.server.is_down = self.server.is_flaky = False
        self.other_sink.kill()
        for process in world.processes:
            connection = process.connection
            connection.cut_until = connection.replies_lost_until = connection.slow_until = 0.0
            if process.alive and process.paused:
                process.resume()
        self._start_all()

    def _start_all(self) -> None:
        for one in (*self.workers, self.sink, *self.gateways):
            one.start()

    def is_at_rest(self) -> bool:
        """All that was sent is taken in and durable. Starts who ended meanwhile, as whoever runs them would."""
        self._start_all()
        return not self._sends and all(one.is_done for one in self.gateways) and at_rest(self.world, self.workers)

    def come_to_rest(self) -> None:
        """After peace was made: all is taken in, said, and in ClickHouse, and what was lent is back. Raises
        StuckError."""
        world = self.world
        world.run_until(self.is_at_rest, PEACE_LIMIT_MS)
        self._settle()
        world.run_until(lambda: not any(one.leases.standing for one in self.watch.states), LEASES_LIMIT_MS)
        world.run_until(self.is_at_rest, PEACE_LIMIT_MS)
        ends = self.ends()
        world.run_until(lambda: self.has_sunk(ends), PEACE_LIMIT_MS)
        world.run_until(self.is_at_rest, PEACE_LIMIT_MS)
        if any(self.watch.outputs.at_rest()):  # balances wait for no flush, and so nothing above waits for them
            self._settle()

    def _settle(self) -> None:
        for _ in range(SETTLES_MAX):
            self.world.run(SETTLED_MS)
            self.world.run_until(self.is_at_rest, PEACE_LIMIT_MS)
            if not any(self.watch.outputs.at_rest()):
                break

    def has_sunk(self, ends: dict[tuple[str, int], int]) -> bool:
        """ClickHouse holds everything below these ends."""
        stored = {(row.topic, row.partition): row.next_offset for row in self.server.stored.values()}
        return all(stored.get(name, 0) >= end for name, end in ends.items())

    def ends(self) -> dict[tuple[str, int], int]:
        """The ends of what the sink reads."""
        world = self.world
        return {
            (world.prefix + topic, number): world.end(topic, number)
            for topic in (one.name for one in SUNK)
            for number in range(world.partitions)
        }


@contextmanager
def staged(plan: Plan) -> Iterator[Stage]:
    with ExitStack() as stack:
        world = World(
            plan.seed,
            partitions=plan.partitions,
            wall_start_ms=plan.start_ms,
            state_compaction_lag_ms=COMPACTION_LAG_MS,
        )
        stack.enter_context(world)
        stack.enter_context(sink.patched(world))
        stack.enter_context(gateway.patched(world))
        yield Stage(world, plan)


def play(plan: Plan, *, stops: bool = False) -> History:
    """The history of ``plan``: the same each time. ``stops``: soon after the first violation, if one is seen at all
    before the end."""
    with staged(plan) as stage:
        world, watch = stage.world, stage.watch
        try:
            stage.begin()
            while world.now_ms < plan.duration_ms and not (stops and watch.faults):
                world.run(min(_SLICE_MS, plan.duration_ms - world.now_ms))
            if not (stops and watch.faults):
                stage.make_peace()
                stage.come_to_rest()
        except StuckError as stuck:
            watch.note(f"the history does not come to rest: {stuck}")
        else:
            if not (stops and watch.faults):
                watch.look()
        for worker in stage.workers:
            for reason in worker.refused:
                watch.note(f"{worker.name} refused to go on: {reason}")
        for one in (stage.sink, stage.other_sink):
            for reason in one.failed:
                watch.note(f"{one.name} stopped: {reason}")
        world.seen["virtual seconds"] += world.now_ms // 1000
        return History(watch.faults, world.steps, world.seen)
