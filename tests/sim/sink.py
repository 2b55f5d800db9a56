"""The sink as a simulated process: the real intake over the twin of ClickHouse, read and acknowledged as its app does.

The app itself (``clickhouse.sink``) is Faust's; here its loop is written out: positions, runs of records, the guard
against runs that come too early, commits of what is durable. Now and then a run that was queued before a seek comes in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import clickhouse.intake
import clickhouse.patience
from clickhouse.cursor import SeekTo
from clickhouse.intake import SUNK, Intake
from clickhouse.patience import Patience

from .clickhouse_twin import SimClickHouse, SimTables
from .client import KafkaClient
from .log import LogRecord
from .loop import Process
from .world import World

LINGER_S: Final = 0.2
_PAUSE_S_MAX: Final = 0.8
_RUN_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Run:
    """What one fetch returned for one partition."""

    topic: str
    partition: int
    records: Sequence[LogRecord]


@contextmanager
def patched(world: World) -> Iterator[None]:
    """For its time, the sink's code runs in ``world``: its clock, and its threads that wait for ClickHouse."""
    draw = world.random("patience")

    async def to_thread(action: Callable[[], Any]) -> Any:
        await asyncio.sleep(0.002 + 0.05 * draw.random() ** 3)
        result = action()
        await asyncio.sleep(0.002 + 0.05 * draw.random() ** 3)
        return result

    times = SimpleNamespace(time=lambda: world.broker.now_ms() / 1000, monotonic=world.loop.time)
    new: list[tuple[Any, str, Any]] = [
        (clickhouse.intake, "time", times),
        (clickhouse.patience, "time", times),
        (clickhouse.patience, "asyncio", SimpleNamespace(to_thread=to_thread, sleep=asyncio.sleep)),
        (clickhouse.patience, "random", draw),
        (clickhouse.patience, "PAUSE_S_MAX", _PAUSE_S_MAX),
    ]
    old = [(module, name, getattr(module, name)) for module, name, _ in new]
    try:
        for module, name, value in new:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)


class Sink:
    """One sink, over the processes that it is one after the other."""

    def __init__(self, world: World, name: str, server: SimClickHouse, group: str) -> None:
        self.world = world
        self.name = name
        self.process: Process | None = None
        self.failed: list[str] = []
        """Why its processes stopped by themselves."""
        self._server = server
        self._group = group
        self._draw: random.Random = world.random("sink", name)

    def start(self) -> None:
        """Starts a process, unless one runs."""
        if self.process is None or not self.process.alive:
            self.process = self.world.process(self.name)
            self.process.run(self._main)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.world.note(self.name, "killed")
            self.process.kill()

    async def _main(self) -> None:
        process = self.process
        assert process is not None
        try:
            await self._work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            self.world.note(self.name, "stopped", repr(error))
            process.kill()

    async def _work(self) -> None:
        world, client = self.world, KafkaClient()
        intake = Intake(
            SimTables(self._server),  # type: ignore[arg-type]  # the twin of Tables
            Patience(),
            topic_prefix=world.prefix,
            linger_s=LINGER_S,
        )
        names = [(world.prefix + topic.name, number) for topic in SUNK for number in range(world.partitions)]

        async def log_ranges() -> dict[tuple[str, int], tuple[int, int]]:
            return {name: await client.bounds(*name) for name in names}

        positions = await intake.positions(log_ranges)
        durable: dict[tuple[str, int], int] = {}
        self._refused: set[tuple[str, int]] = set()
        writing = asyncio.ensure_future(intake.write_forever())
        committed_at = 0.0
        while not writing.done():
            found = await client.fetch(positions, _RUN_MAX)
            for name, fetched in found.items():
                if fetched.records:
                    positions[name] = await self._take(intake, name, list(fetched.records), durable, fetched.position)
                else:
                    positions[name] = fetched.position
            if durable and world.loop.time() - committed_at > 0.5:
                committed_at = world.loop.time()
                await client.commit(self._group, list(durable.items()))
                durable.clear()
        writing.result()

    async def _take(
        self,
        intake: Intake,
        name: tuple[str, int],
        records: list[LogRecord],
        durable: dict[tuple[str, int], int],
        after: int,
    ) -> int:
        """Hands a run in; returns where to read on."""
        if len(records) > 1 and name not in self._refused and self._draw.random() < 0.03:
            self.world.seen["runs queued before a seek"] += 1
            records = records[self._draw.randrange(1, len(records)) :]
        end = records[-1].offset + 1

        def acknowledge() -> None:
            durable[name] = max(durable.get(name, 0), end)

        taken = await intake.take(Run(*name, records), acknowledge)
        if isinstance(taken, SeekTo):
            self._refused.add(name)
            return taken.offset
        self._refused.discard(name)
        return after
