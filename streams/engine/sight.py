"""A worker as its attendant sees it: the steps of its partitions, how far each is behind, and its health."""

from collections.abc import Collection, Iterator
from time import monotonic, time
from typing import Final, Literal, NamedTuple

from aiokafka import TopicPartition

from sluicegate_schemas.topics import ACCOUNTS, STATE, USAGE

from ..health import Health, PartitionHealth
from ..log_ends import LogEnds
from ..progress import UNREADY_AFTER_S, Halt, Work
from .engine import Engine
from .runner import Runner

BROKER: Final = "its broker"
_NAMED_MAX: Final = 5


class Lag(NamedTuple):
    """How far a partition's applied usage is behind its log."""

    records: int
    """Records of the log, ticks among them, that are not applied."""
    events: int
    """About so many events are in them, by what a record has held so far."""
    seconds: float
    """How old the oldest of them is."""


class Sight:
    """Looks at ``engine`` against the ``ends`` of its logs. Only reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ends = LogEnds(engine.settings.brokers, self.wanted)
        self._topics = {topic.name: engine.settings.topic(topic.name) for topic in (USAGE, ACCOUNTS, STATE)}

    @property
    def ends(self) -> LogEnds:
        """Where the logs end."""
        return self._ends

    @property
    def engine(self) -> Engine:
        """What is looked at."""
        return self._engine

    def wanted(self) -> list[TopicPartition]:
        """Usage, accounts and state of each partition that the group gave."""
        return [
            TopicPartition(name, number) for number in self._engine.assigned or () for name in self._topics.values()
        ]

    def name(self, partition: int) -> str:
        """``topic/number`` of a usage partition."""
        return f"{self._topics[USAGE.name]}/{partition}"

    def lag(self, runner: Runner) -> Lag | None:
        """None before the broker has said where the log ends, or while the partition is not recovered."""
        end = self._ends.of(self._topics[USAGE.name], runner.partition)
        if end is None or not runner.ready:
            return None
        core = runner.core
        next_offset = core.usage.applied + 1
        since = end.behind_since(next_offset)
        records = max(0, end.offset - next_offset)
        if since is None or not records:
            return Lag(0, 0, 0.0)
        oldest_ms = core.usage.oldest_log_time_ms
        if oldest_ms is None and not runner.has_fetched:
            oldest_ms = core.machine.log_time_ms or None  # what waits in the log is at least not older
        seconds = monotonic() - since if oldest_ms is None else max(0.0, time() - oldest_ms / 1000)
        return Lag(records, round(records * self._events_each()), seconds)

    def _events_each(self) -> float:
        partitions = list(self._engine.figures.partitions.values())
        records = sum(figures.records for figures in partitions)
        events = sum(sum(figures.events.values()) for figures in partitions)
        return max(1.0, events / records) if records else 1.0

    def _broker_is_away(self, now: float) -> bool:
        return self._ends.is_silent(now) or now > self._engine.lease_until

    def works(self) -> Iterator[Work]:
        """All steps of all partitions that the group gave."""
        engine = self._engine
        now = monotonic()
        broker_is_away = self._broker_is_away(now)
        for partition in engine.assigned or ():
            runner = engine.runners.get(partition)
            excuse = BROKER if broker_is_away else ""
            if runner is None or not runner.ready:
                read = runner.runs_read if runner is not None else -1
                claimed = runner.core.epoch if runner is not None else -1
                on = "its recovery" if runner is not None and not runner.is_over else "the group to give it anew"
                yield Work(self.name(partition), "recovery", (read, claimed), True, on, excuse)
            else:
                yield from self._running(runner, now, excuse)

    def _running(self, runner: Runner, now: float, excuse: str) -> Iterator[Work]:
        core, name = runner.core, self.name(runner.partition)
        end = self._ends.of(self._topics[USAGE.name], runner.partition)
        in_flight = runner.appending_since is not None
        flushes = runner.figures.of(runner.partition).flushes
        on = "the broker's reply to a flush" if in_flight else "its own flush to begin"
        yield Work(name, "flush", flushes, in_flight or core.dirty, on, excuse)
        waiting = core.outbox.unacknowledged
        yield Work(name, "outputs", runner.outputs_sent, waiting > 0, f"{waiting} outputs to be acknowledged", excuse)
        yield Work(
            name,
            "input",
            core.usage.applied,
            not core.usage.is_empty or (end is not None and end.offset > core.usage_next),
            self._input_waits_on(runner),
            excuse or self._input_excuse(runner, now),
        )
        commands = self._ends.of(self._topics[ACCOUNTS.name], runner.partition)
        behind = commands is not None and commands.offset > core.accounts_next
        because = excuse or "the operator commands in its accounts topic"
        yield Work(name, "accounts", core.accounts_next, behind, because, because)

    def _input_excuse(self, runner: Runner, now: float) -> str:
        core = runner.core
        seen_at = self._engine.catalogue_seen_at
        if seen_at is None:
            return "a catalogue: none is published yet"
        if now - seen_at > core.limits.catalogue_age_max_s:
            return f"the catalogue, which was last read {now - seen_at:.0f} s ago"
        if core.accounts.is_needed:
            return "the accounts topic, for a name in its usage that it does not know"
        return "its partition to be given back" if core.draining else ""

    def _input_waits_on(self, runner: Runner) -> str:
        core = runner.core
        if core.usage.is_empty:
            return "records of its usage log, which the broker holds and no fetch brings"
        if (
            core.machine.changed_rows >= core.limits.rows_max
            or core.outbox.durable_bytes >= core.limits.outbox_bytes_max
        ):
            return "a flush, to go on with its usage"
        if core.outbox.unacknowledged >= core.limits.unacknowledged_max:
            return "its outputs to be acknowledged"
        return "its own work on usage that was fetched"

    def health(self, halts: Collection[Halt]) -> Health:
        """Ready once the group has answered, and each partition that it gave is recovered, goes on and is not too far
        behind."""
        assigned = self._engine.assigned
        first: dict[str, Halt] = {}
        for halt in halts:
            if halt.stuck or monotonic() - halt.since >= UNREADY_AFTER_S:
                first.setdefault(halt.partition, halt)
        states = [self._state(partition, first.get(self.name(partition))) for partition in assigned or ()]
        ready = [state.partition for state in states if state.state == "ready"]
        waits_for = ""
        if assigned is None:
            waits_for = "its broker, or for the group to assign partitions"
        elif unready := [state for state in states if state.state != "ready"]:
            waits_for = ", ".join(f"{state.partition} ({_words(state)})" for state in unready[:_NAMED_MAX])
            waits_for += f" and {len(unready) - _NAMED_MAX} more" if len(unready) > _NAMED_MAX else ""
        stuck = next((f"{halt.partition}: its {halt.step}, on {halt.on}" for halt in halts if halt.stuck), "")
        return Health.now(ready, waits_for, states=states, stuck=stuck)

    def _state(self, partition: int, halt: Halt | None) -> PartitionHealth:
        runner, name = self._engine.runners.get(partition), self.name(partition)
        lag = None if runner is None else self.lag(runner)
        lag_events, lag_s = (None, None) if lag is None else (lag.events, round(lag.seconds, 3))
        if halt is not None:
            state: Literal["waits", "halts", "stuck"] = "waits" if halt.waits else "stuck" if halt.stuck else "halts"
            return PartitionHealth(name, state, lag_events, lag_s, round(monotonic() - halt.since, 1), halt.on)
        if runner is None or not runner.ready:
            return PartitionHealth(name, "recovers")
        if self._broker_is_away(now := monotonic()):  # an idle partition has no step that could halt
            since = min(self._ends.answered_at or now, self._engine.lease_until)
            return PartitionHealth(name, "waits", lag_events, lag_s, round(max(0.0, now - since), 1), BROKER)
        settings = self._engine.settings
        is_behind = lag is None or lag.events > settings.ready_lag_events_max or lag.seconds > settings.ready_lag_max_s
        return PartitionHealth(name, "behind" if is_behind else "ready", lag_events, lag_s)


def _words(state: PartitionHealth) -> str:
    match state.state:
        case "recovers":
            return "recovers"
        case "behind":
            known = state.lag_events is not None and state.lag_s is not None
            return f"is {state.lag_events} events, {state.lag_s:.1f} s behind" if known else "is not looked at yet"
        case other:
            return f"{other} for {state.for_s:.0f} s: {state.on}"
