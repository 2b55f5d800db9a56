"""All invariants of one history: watched from its first append, and looked at as a whole once it is at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from sluicegate_schemas.bounds import parse_time
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.outputs import is_lease_key
from sluicegate_schemas.topics import (
    ACCOUNTS,
    ALERTS,
    BALANCES,
    CATALOG,
    DECISIONS,
    ENTITLEMENTS,
    REJECTS,
    STATE,
    TRAIL,
    USAGE,
)
from streams.domain.settings import DomainSettings
from streams.engine.machine import Machine

from ..clickhouse_twin import SimClickHouse
from ..expected import Expected, month_bounds
from ..gateway import Gateway
from ..log import LogRecord
from ..plan import DAY_MS, MINUTE_MS, Plan, stream
from ..world import World
from . import gates, totals
from .alerts import AlertWatch
from .balances import shares
from .entitlements import entitlements
from .gates import Said
from .journal import Journal, WatchedPartition, each_once
from .leases import never_overspent
from .outputs import OutputWatch
from .replay import replay
from .rollups import RollupWatch
from .state_log import StateWatch, fold, unrepaired
from .verdicts import (
    budget_blocks,
    concurrency_blocks,
    credit_blocks,
    operation_blocks,
    pool_blocks,
    quota_blocks,
    rate_blocks,
    subject_blocks,
)

FAULTS_MAX: Final = 12
ONE_OWNER_REPLAYED: Final = 0.125
"""The share of partitions with one owner that are replayed."""
_JSON: Final = msgspec.json.Decoder().decode


class Watch:
    """Holds what the invariants know of one history; ``faults`` are the violations."""

    def __init__(self, world: World, plan: Plan, server: SimClickHouse, settings: DomainSettings) -> None:
        self.world = world
        self.plan = plan
        self.settings = settings
        self.faults: list[str] = []
        self.gateways: Sequence[Gateway] = ()
        self.troubled: list[tuple[int, int]] = []
        numbers = range(world.partitions)
        self.states = [
            StateWatch(number, self.note, world.seen, stream(plan.seed, "snapshots", number), settings)
            for number in numbers
        ]
        self.journals = [Journal(number) for number in numbers]
        self.outputs = OutputWatch(
            self.states, lambda number: self._history(ACCOUNTS.name, number), self.note, world.seen
        )
        self.alerts = AlertWatch(self.states, self.note, world.seen)
        self.said: dict[str, list[Said]] = {}
        self.rollups = RollupWatch(
            server,
            self.states,
            world.prefix,
            self._decisions,
            self.alerts.told,
            self.outputs.finals,
            self.note,
            is_compacted=lambda: world.seen["compactions"] > 0,
        )
        for number in numbers:
            self._follow(STATE.name, number, self.states[number].batch)
            self._follow(REJECTS.name, number, self.outputs.rejected)
            self._follow(USAGE.name, number, self.outputs.used)
            self._follow(DECISIONS.name, number, self._decided)
            self._follow(BALANCES.name, number, self.outputs.balanced)
            self._follow(ENTITLEMENTS.name, number, self.outputs.entitled)
            self._follow(TRAIL.name, number, self.outputs.trailed)
            self._follow(ALERTS.name, number, self.alerts.alerted)

    def note(self, fault: str) -> None:
        """A violation."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(fault)
            self.world.note("invariants", "VIOLATION", fault)

    def machine(self, partition: int) -> Machine:
        """A new machine of a worker, watched."""
        journal = self.journals[partition]
        return WatchedPartition(partition, self.world.partitions, journal, self.note, self.settings)

    def _follow(self, topic: str, number: int, take: Callable[[Sequence[LogRecord]], None]) -> None:
        self.world.broker.log(self.world.prefix + topic, number).watchers.append(take)

    def _history(self, topic: str, number: int) -> list[LogRecord]:
        return self.world.broker.history(self.world.prefix + topic, number)

    def _decided(self, records: Sequence[LogRecord]) -> None:
        self.outputs.decided(records)
        for record in records:
            if is_lease_key(record.key):
                continue
            body = _JSON(record.value or b"")
            sequence = body["sequence"]["epoch"], body["sequence"]["counter"]
            until_ms = None if body["until"] is None else parse_time(body["until"])
            said = Said(self.world.now_ms, body["verdict"] == "block", sequence, until_ms)
            self.said.setdefault((record.key or b"").decode(), []).append(said)

    def _decisions(self, number: int, end: int) -> Iterable[str]:
        """The decisions of a partition that a reader still finds below ``end``."""
        for record in self.world.records(DECISIONS.name, number):
            if record.value is not None and record.offset < end and not is_lease_key(record.key):
                yield _JSON(record.value)["decision_id"]

    def catalogues(self) -> list[Catalogue]:
        """All versions that were published."""
        values = (record.value for record in self._history(CATALOG.name, 0))
        return [CatalogueRecord.model_validate_json(value).catalogue for value in values if value is not None]

    # At rest.

    def look(self) -> None:
        """Compares everything; the history is at rest."""
        versions = self.catalogues()
        expected = [Expected(number, self.world.partitions, versions) for number in range(self.world.partitions)]
        for state in self.states:
            times = [cut.log_time_ms // DAY_MS for cut in state.cuts if cut.log_time_ms]
            self.world.seen["months crossed"] += len({month_bounds(day)[0] for day in sorted(set(times))} or {""}) - 1
        for check in AT_REST:
            for fault in check(self, versions, expected):
                self.note(fault)


def _each_once(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    for number, state in enumerate(watch.states):
        usage, accounts = watch._history(USAGE.name, number), watch._history(ACCOUNTS.name, number)
        last = state.cuts[-1].usage_offset if state.cuts else -1
        while usage and usage[-1].value == b"\x91\x03" and usage[-1].offset > last:
            usage = usage[:-1]
        yield from each_once(watch.journals[number], state, usage, accounts)


def _totals(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """Also at the few cuts of which a copy was kept."""
    for state, journal, one in zip(watch.states, watch.journals, expected, strict=True):
        one.commands.credits.ledgers = state.grants.ledgers
        one.leases.lives(watch.settings.lease_late_ms, watch.outputs.lent)
        for place, taken in enumerate(journal.standing(state), 1):
            for is_usage, records in taken:
                if is_usage is None:
                    continue
                take = one.usage if is_usage else one.command
                for record in records:
                    take(record[0], record[1], record[3])
                    one.leases.look()
                    one.commands.budgets.look()
            yield from never_overspent(place, state.leases, one.leases, one.commands.budgets)
            if place in state.snapshots:
                watch.world.seen["cuts compared"] += 1
                yield from (f"at flush {place}: {fault}" for fault in totals.compare(*state.snapshots[place], one))
        yield from totals.compare(state.rows, state.removed_cells, one)


def _rejects(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """Rejects: exactly one id for each input that can't be used, and the reason is the contract's."""
    wanted = {name: reason for one in expected for name, reason in one.rejects.items()}
    found = {name: _JSON(value)["reason"] for name, value in watch.outputs.rejects.items()}
    if found != wanted:
        missing, more = dict(wanted.items() - found.items()), dict(found.items() - wanted.items())
        yield f"rejects: missing {dict(sorted(missing.items())[:4])}, too many {dict(sorted(more.items())[:4])}"


def _forwards(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """Each event that came to a wrong partition arrived at home, as it was."""
    leaving = {origin: body for one in expected for origin, (_, body) in one.leaving.items()}
    arrived = {origin: body for one in expected for origin, body in one.arrived.items()}
    wrong = [name for name in sorted(leaving.keys() | arrived.keys()) if leaving.get(name) != arrived.get(name)]
    if wrong:
        yield f"forwards: {len(wrong)} events did not come home as they were, or stood nowhere: {wrong[:4]}"


def _replay(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """Where a successor went on from what was recovered; a partition with one owner took in the same in the same
    order, so of those a few are enough."""
    draw = stream(watch.plan.seed, "replays")
    for number, state in enumerate(watch.states):
        if len({cut.epoch for cut in state.cuts}) < 2 and draw.random() > ONE_OWNER_REPLAYED:
            continue
        watch.world.seen["partitions replayed"] += 1
        taken = watch.journals[number].standing(state)
        yield from replay(
            number, watch.world.partitions, versions, watch.settings, taken, state, watch.outputs, watch.alerts
        )


def _live_log(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """What compaction left of the state log folds to the same rows, and what it will leave does too."""
    for number, state in enumerate(watch.states):
        if keys := unrepaired(watch.world.records(STATE.name, number)):
            yield f"state of partition {number}: void records of {keys[:4]} are not repaired"
        watch.world.broker.compact(watch.world.prefix + STATE.name, number)
        if fold(watch.world.records(STATE.name, number)) != state.rows:
            yield f"state of partition {number}: what compaction left of the log folds to other rows"


def _outputs(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    yield from watch.outputs.at_rest()
    for one in expected:
        yield from shares(one, watch.outputs)


def _credits(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """An account that has used up its credits is blocked, and no other is."""
    for state, one in zip(watch.states, expected, strict=True):
        yield from credit_blocks(state.rows, one)
        yield from pool_blocks(state.rows, one)
        yield from rate_blocks(state.rows, one)
        yield from budget_blocks(state.rows, one)
        yield from quota_blocks(state.rows, one)
        yield from concurrency_blocks(state.rows, one)
        yield from subject_blocks(state.rows, one)
        yield from operation_blocks(state.rows, one)


def _entitlements(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    for one in expected:
        yield from entitlements(one, watch.outputs)


def _trail(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    """Each command that acted is in the audit trail, and none that did not."""
    wanted = {name for one in expected for name in one.accounts.acted}
    if wanted != watch.outputs.trail.keys():
        wrong = sorted(wanted ^ watch.outputs.trail.keys())
        yield f"the trail differs from the commands that acted in {wrong[:4]} (of {len(wrong)})"


def _alerts(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    return watch.alerts.at_rest()


def _rollups(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    return watch.rollups.at_rest()


def _gates(watch: Watch, versions: list[Catalogue], expected: list[Expected]) -> Iterable[str]:
    for gateway in watch.gateways:
        yield from gates.buckets_keep_their_promise(gateway.answers)
        yield from gates.slots_are_kept(gateway.answers)
        yield from gates.once_per_subject(gateway.answers, MINUTE_MS)
        yield from gates.blocks_are_obeyed(gateway.answers)
        yield from gates.blocks_are_heard_of(gateway.answers, watch.said, watch.troubled)


Check = Callable[[Watch, list[Catalogue], list[Expected]], Iterable[str]]
AT_REST: Final[tuple[Check, ...]] = (
    _each_once, _totals, _rejects, _forwards, _replay, _live_log, _outputs, _credits, _entitlements, _trail, _alerts,
    _rollups, _gates,
)  # fmt: skip
"""In this order: ``_totals`` brings ``expected`` to the end of the input, which those after it read."""
