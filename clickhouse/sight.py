"""A sink as its attendant sees it: the steps of its partitions, how far each is behind its log, and its health."""

from collections.abc import Callable, Collection, Iterator
from time import monotonic
from typing import Final, NamedTuple

from aiokafka import TopicPartition

from sluicegate.brokers import Brokers
from streams.health import Health, PartitionHealth
from streams.log_ends import LogEnds
from streams.progress import UNREADY_AFTER_S, Halt, Work

from .intake import Intake
from .patience import Patience

_NAMED_MAX: Final = 5


class Delay(NamedTuple):
    """How far ClickHouse is behind a partition's log: records, and for how long the oldest of them has been there."""

    records: int
    seconds: float


class SinkSight:
    """Only reads. ``assigned`` says what the group gave; None while it is asked."""

    def __init__(
        self,
        brokers: Brokers,
        intake: Intake,
        patience: Patience,
        assigned: Callable[[], Collection[tuple[str, int]] | None],
        *,
        delay_max_s: float,
    ) -> None:
        self.intake = intake
        self.patience = patience
        self.assigned = assigned
        self._delay_max_s = delay_max_s
        self._ends = LogEnds(brokers, lambda: [TopicPartition(*name) for name in assigned() or ()])

    @property
    def ends(self) -> LogEnds:
        """Where the logs end."""
        return self._ends

    def delay(self, name: tuple[str, int]) -> Delay | None:
        """None before the broker has said where the log ends, or ClickHouse how far it is."""
        end, held = self._ends.of(*name), self.intake.durable.get(name)
        if end is None or held is None:
            return None
        since = end.behind_since(held)
        return Delay(max(0, end.offset - held), 0.0 if since is None else monotonic() - since)

    def works(self) -> Iterator[Work]:
        """One step a partition: from its log to ClickHouse."""
        broker_is_away = self._ends.is_silent(monotonic())
        away_s = self.patience.away_s
        for name in self.assigned() or ():
            end, held = self._ends.of(*name), self.intake.durable.get(name)
            excuse = "its broker" if broker_is_away else f"ClickHouse, away since {away_s:.0f} s" if away_s else ""
            on = (
                "rows to be written" if sum(self.intake.waiting()) else "records that a fetch or an insert does not end"
            )
            has_more = held is None or (end is not None and end.offset > held)
            yield Work(f"{name[0]}/{name[1]}", "write", held, has_more, on, excuse)

    def health(self, halts: Collection[Halt]) -> Health:
        """Ready once the group has answered, and each partition goes on and is not too far behind its log."""
        assigned = self.assigned()
        if assigned is None:
            return Health.now([], "its broker, or for the group to assign partitions")
        by_name = {halt.partition: halt for halt in halts}
        states = [self._state(name, by_name.get(f"{name[0]}/{name[1]}")) for name in sorted(assigned)]
        ready = [state.partition for state in states if state.state == "ready"]
        unready = [f"{one.partition} ({one.on or one.state})" for one in states if one.state != "ready"]
        waits_for = ", ".join(unready[:_NAMED_MAX])
        waits_for += f" and {len(unready) - _NAMED_MAX} more" if len(unready) > _NAMED_MAX else ""
        stuck = next((f"{halt.partition}: its {halt.step}, on {halt.on}" for halt in halts if halt.stuck), "")
        return Health.now(ready, waits_for, states=states, stuck=stuck)

    def _state(self, name: tuple[str, int], halt: Halt | None) -> PartitionHealth:
        partition, delay = f"{name[0]}/{name[1]}", self.delay(name)
        lag_s = None if delay is None else round(delay.seconds, 3)
        if halt is not None and (halt.stuck or monotonic() - halt.since >= UNREADY_AFTER_S):
            for_s = round(monotonic() - halt.since, 1)
            if halt.waits:
                return PartitionHealth(partition, "waits", None, lag_s, for_s, halt.on)
            return PartitionHealth(partition, "stuck" if halt.stuck else "halts", None, lag_s, for_s, halt.on)
        is_behind = lag_s is None or lag_s > self._delay_max_s
        return PartitionHealth(partition, "behind" if is_behind else "ready", None, lag_s)
