"""A metering worker as a simulated process: the real engine and its machines over the twins.

How to make a world and run it::

    with World(seed, partitions=2) as world:
        world.append("catalog", 0, catalogue_record, key=b"1")
        settings = worker_settings(world)
        workers = [Worker(world, name, settings) for name in ("w1", "w2")]
        for worker in workers:
            worker.start()
        world.append("usage", 0, envelope)
        world.at(3_000, workers[0].kill)
        world.run(20_000)
        world.run_until(lambda: at_rest(world, workers), limit_ms=60_000)
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from sluicegate_schemas.topics import ACCOUNTS, STATE, USAGE
from streams.domain.partition import Partition
from streams.domain.settings import DomainSettings
from streams.engine.engine import Engine, MachineFactory
from streams.engine.runner import Runner
from streams.settings import Settings

from .faust_twin import App
from .loop import Process
from .world import World


def worker_settings(world: World, **changes: Any) -> Settings:
    """A worker's settings for ``world``: short sessions, ticks each second."""
    settings = Settings(
        topic_prefix=world.prefix,
        partitions=world.partitions,
        session_s=4.0,
        lease_margin_s=0.5,
        tick_interval_s=1.0,
        balance_interval_ms=200,
        worker_name="unnamed",
    )
    return replace(settings, **changes)


def metering(world: World, domain: DomainSettings | None = None) -> MachineFactory:
    """Makes the real state machine of each partition."""
    return lambda partition: Partition(partition, world.partitions, domain)


class Worker:
    """One worker, over the processes that it is one after the other."""

    def __init__(self, world: World, name: str, settings: Settings, machines: MachineFactory | None = None) -> None:
        self.world = world
        self.name = name
        self.settings = replace(settings, worker_name=name)
        self.machines = machines or metering(world)
        self.process: Process | None = None
        self.engine: Engine | None = None
        self.app: App | None = None
        self.refused: list[str] = []
        """Why its processes stopped by themselves."""

    @property
    def is_running(self) -> bool:
        """Its process lives (it may be paused)."""
        return self.process is not None and self.process.alive

    @property
    def runners(self) -> Collection[Runner]:
        """Its partitions as of now."""
        return self.engine.runners.values() if self.engine is not None and self.is_running else ()

    def start(self) -> None:
        """Starts a process, unless one runs."""
        if not self.is_running:
            self.process = self.world.process(self.name)
            self.process.run(self._main)

    async def _main(self) -> None:
        self.engine = engine = Engine(self.settings, self.machines)
        self.app = app = App(
            self.settings.group,
            (self.settings.topic(USAGE.name),),
            name=self.name,
            positions=engine.positions,
            take=engine.fetched,
            session_s=self.settings.session_s,
        )
        engine.install(app)  # type: ignore[arg-type]  # the twin of a BatchApp
        await app.run()
        if app.crashed is not None:
            self.refused.append(str(app.crashed))
            self.world.note(self.name, "crashed", str(app.crashed))
        assert self.process is not None
        self.process.kill()

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.world.note(self.name, "killed")
            self.process.kill()

    def stop(self) -> None:
        """SIGTERM."""
        if self.is_running and self.app is not None and self.process is not None:
            self.world.note(self.name, "told to stop")
            self.process.run(self.app.stop)


def at_rest(world: World, workers: Iterable[Worker]) -> bool:
    """Each partition has one ready owner that has applied and flushed all, whose log ends with what it wrote."""
    owned: dict[int, Runner] = {}
    for worker in workers:
        for runner in worker.runners:
            if runner.partition in owned or not runner.ready:
                return False
            owned[runner.partition] = runner
    return len(owned) == world.partitions and all(_is_done(world, runner) for runner in owned.values())


def _is_done(world: World, runner: Runner) -> bool:
    core = runner.core
    return (
        core.clean
        and not core.outbox.unacknowledged
        and not core.outbox.header_is_stale
        and core.state_end_known == world.end(STATE.name, runner.partition)
        and not list(world.records(ACCOUNTS.name, runner.partition, core.accounts_next))
        and all(
            record.value == b"\x91\x03"
            for record in world.records(USAGE.name, runner.partition, core.usage.applied + 1)
        )
    )
