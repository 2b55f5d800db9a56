"""What a worker says of its partitions: recovering, behind, waiting for a reason, halting; with time given."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine import sight as module
from streams.engine.figures import Figures
from streams.engine.limits import Limits
from streams.engine.sight import Sight
from streams.log_ends import End
from streams.progress import UNREADY_AFTER_S, Halt, Progress, Work
from streams.settings import Settings

STUCK_S = 30.0


class World:
    """One worker with partition 3, its clock, and the ends of its logs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "time", lambda: 1_000_000.0 + self.now)
        figures = Figures()
        self.core: Any = SimpleNamespace(
            usage=SimpleNamespace(applied=9, is_empty=True, oldest_log_time_ms=None),
            usage_next=10,
            accounts=SimpleNamespace(is_needed=False),
            accounts_next=2,
            outbox=SimpleNamespace(unacknowledged=0, durable_bytes=0),
            machine=SimpleNamespace(changed_rows=0, log_time_ms=0),
            limits=Limits(),
            dirty=False,
            draining=False,
            epoch=7,
        )
        self.runner: Any = SimpleNamespace(
            partition=3, ready=True, core=self.core, figures=figures, appending_since=None, outputs_sent=0,
            has_fetched=True, runs_read=0, is_over=False,
        )  # fmt: skip
        self.engine: Any = SimpleNamespace(
            settings=Settings(ready_lag_events_max=100, ready_lag_max_s=20.0, stuck_max_s=STUCK_S),
            figures=figures, assigned=[3], runners={3: self.runner}, catalogue_seen_at=1000.0, lease_until=1010.0,
        )  # fmt: skip
        self.sight = Sight(self.engine)
        self.sight.ends.answered_at = self.now
        self.progress = Progress(STUCK_S)
        self.halts: list[Halt] = []

    def ends_at(self, topic: str, offset: int) -> None:
        (wanted,) = [tp for tp in self.sight.wanted() if tp.topic == f"sluicegate.{topic}"]
        self.sight.ends._ends.setdefault(wanted, End()).seen(offset, self.now)

    def step(self, name: str) -> Work:
        (found,) = [work for work in self.sight.works() if work.step == name]
        return found

    def passes(
        self, seconds: float, *, catalogue: bool = True, heartbeats: bool = True, answers: bool = True
    ) -> list[Halt]:
        """Looks once a second."""
        for _ in range(round(seconds)):
            self.now += 1.0
            if catalogue:
                self.engine.catalogue_seen_at = self.now
            if heartbeats:
                self.engine.lease_until = self.now + 8
            if answers:
                self.sight.ends.answered_at = self.now
            self.halts = self.progress.look(self.now, self.sight.works())
        return self.halts

    @property
    def state(self) -> tuple[str, str]:
        """(state, waits for) of the partition."""
        health = self.sight.health(self.halts)
        assert health.ready == (health.states[0].state == "ready")
        return health.states[0].state, health.waits_for


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(monkeypatch)
    made.ends_at("usage", 10)
    return made


def test_an_owner_that_has_counted_all_is_ready(world: World) -> None:
    assert world.passes(100) == []
    assert world.state == ("ready", "")


def test_a_worker_without_an_assignment_waits_and_one_without_partitions_is_ready(world: World) -> None:
    world.engine.assigned, world.engine.runners = None, {}
    assert "for the group to assign partitions" in world.sight.health([]).waits_for
    world.engine.assigned = []
    assert world.sight.health([]).ready


def test_until_the_end_of_the_log_is_known_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert World(monkeypatch).state == ("behind", "sluicegate.usage/3 (is not looked at yet)")


def test_a_recovery_goes_on_while_records_are_read_and_is_stuck_when_none_are(world: World) -> None:
    world.runner.ready = False
    for _ in range(50):
        world.runner.runs_read += 1
        assert world.passes(1) == []
        assert world.state[0] == "recovers"
    (halt,) = world.passes(STUCK_S)
    assert (halt.step, halt.on, halt.stuck) == ("recovery", "its recovery", True)


def test_lag_over_either_bound_is_not_ready(world: World) -> None:
    world.ends_at("usage", 111)
    world.passes(1)
    assert world.state == ("behind", "sluicegate.usage/3 (is 101 events, 1.0 s behind)")
    world.core.usage.applied, world.core.usage_next = 11, 12
    world.passes(1)
    assert world.state[0] == "ready"
    world.core.usage.is_empty, world.core.usage.oldest_log_time_ms = False, int((1_000_000 + world.now - 21) * 1000)
    assert world.state == ("behind", "sluicegate.usage/3 (is 99 events, 21.0 s behind)")


def test_events_are_told_from_what_records_held(world: World) -> None:
    figures = world.engine.figures.of(3)
    figures.records, figures.events["counted"], figures.events["duplicate"] = 10, 40, 10
    world.ends_at("usage", 18)
    lag = world.sight.lag(world.runner)
    assert (lag.records, lag.events) == (8, 40)


def test_a_log_that_goes_on_while_nothing_is_fetched_is_stuck(world: World) -> None:
    world.ends_at("usage", 11)
    (halt,) = world.passes(UNREADY_AFTER_S + 1)
    assert (halt.step, halt.waits, halt.stuck) == ("input", False, False)
    assert world.state[0] == "halts"
    (halt,) = world.passes(STUCK_S)
    assert halt.stuck
    assert "no fetch brings" in halt.on
    assert "no fetch brings" in world.sight.health([halt]).stuck


def test_usage_that_is_fetched_and_not_applied_is_stuck(world: World) -> None:
    world.core.usage.is_empty = False
    (halt,) = world.passes(STUCK_S + 1)
    assert (halt.stuck, halt.on) == (True, "its own work on usage that was fetched")


def test_a_flush_without_a_reply_is_stuck_and_named_before_what_waits_on_it(world: World) -> None:
    world.runner.appending_since = world.now
    world.core.usage.is_empty = False
    flush, usage = world.passes(STUCK_S + 1)
    assert (flush.step, flush.on, flush.stuck) == ("flush", "the broker's reply to a flush", True)
    assert usage.step == "input"


def test_outputs_without_a_reply_are_stuck(world: World) -> None:
    world.core.outbox.unacknowledged = 5
    (halt,) = world.passes(STUCK_S + 1)
    assert (halt.step, halt.stuck) == ("outputs", True)


@pytest.mark.parametrize("never", [True, False])
def test_a_catalogue_that_does_not_come_is_waited_for(world: World, never: bool) -> None:
    world.core.usage.is_empty = False
    if never:
        world.engine.catalogue_seen_at = None
    (halt,) = world.passes(10 * STUCK_S, catalogue=False)
    assert (halt.waits, halt.stuck) == (True, False)
    assert "catalogue" in halt.on
    assert world.state[0] == "waits"


def test_operator_commands_that_do_not_come_are_waited_for(world: World) -> None:
    world.core.usage.is_empty, world.core.accounts.is_needed = False, True
    world.ends_at("accounts", 3)
    halts = world.passes(10 * STUCK_S)
    assert {halt.step: (halt.waits, halt.stuck) for halt in halts} == {
        "input": (True, False),
        "accounts": (True, False),
    }
    assert world.state[0] == "waits"


@pytest.mark.parametrize("gone", ["heartbeats", "answers"])
def test_an_idle_worker_whose_broker_is_away_is_not_ready(world: World, gone: str) -> None:
    assert world.passes(60, **{gone: False}) == []
    assert world.state[0] == "waits"
    assert "its broker" in world.state[1]
    world.passes(1)
    assert world.state == ("ready", "")


@pytest.mark.parametrize("gone", ["heartbeats", "answers"])
def test_a_broker_that_is_away_is_waited_for_whatever_hangs(world: World, gone: str) -> None:
    world.core.usage.is_empty = False
    world.core.dirty = True
    world.runner.appending_since = world.now
    halts = world.passes(10 * STUCK_S, **{gone: False})
    assert {(halt.on, halt.stuck) for halt in halts} == {("its broker", False)}
    halts = world.passes(STUCK_S - 1)
    assert not any(halt.stuck for halt in halts), "its time begins when the broker is back"
    assert any(halt.stuck for halt in world.passes(2))
