"""What the fault tests share: usage that flows in the background, worker logs from a moment on, waiting for things."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final, Self

from sluicegate import Publisher
from tests.pipeline import Pipeline

LIMIT_S: Final = 60.0
EVENTS_A_ROUND: Final = 50
PARTITIONS: Final = 8


class Traffic:
    """Usage of the example tenants, from entering to leaving; afterwards all of it is in the log.

    ``publisher`` may be one's own; by default it is one that is acknowledged by the broker or fails the test.
    """

    def __init__(self, pipeline: Pipeline, *, per_second: float = 200.0, publisher: Publisher | None = None) -> None:
        self.sent = 0
        self.publisher = publisher or pipeline.publisher()
        self._pipeline = pipeline
        self._per_second = per_second
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.publisher.start()
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping = True
        assert self._task is not None
        try:
            await self._task
        finally:
            stats = await self.publisher.close(LIMIT_S if kind is None else 1)
        if kind is None:
            assert stats.published == self.sent, stats

    async def _send(self) -> None:
        while not self._stopping:
            await self._pipeline.send(self.publisher, EVENTS_A_ROUND, seed=self.sent, per_second=self._per_second)
            self.sent += EVENTS_A_ROUND
            await asyncio.sleep(1 / self._per_second)


class WorkerLog:
    """What a worker's log says, from the moment on when this was made, or from its beginning."""

    def __init__(self, pipeline: Pipeline, worker: str, *, whole: bool = False) -> None:
        self._path = pipeline.workers[worker].log
        self._start = 0 if whole else self._path.stat().st_size

    def text(self) -> str:
        """The lines so far."""
        with self._path.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    def owned(self) -> int:
        """With how many partitions the worker said last that it is READY; 0 where it has not said so."""
        ready = [line for line in self.text().splitlines() if " READY " in line]
        numbers = ready[-1].split("partitions [")[1].split("]")[0] if ready else ""
        return numbers.count(",") + 1 if numbers else 0


async def until(what: str, holds: Callable[[], bool | Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
    """Waits for ``holds``; fails with ``what`` after ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while True:
        held = holds()
        if await held if inspect.isawaitable(held) else held:
            return
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:g} s"
        await asyncio.sleep(0.1)


async def start_two(pipeline: Pipeline) -> None:
    """Starts the pipeline with the workers "a" and "b"; returns when each owns half of the partitions."""
    await pipeline.start(workers=("a", "b"))
    logs = [WorkerLog(pipeline, name, whole=True) for name in ("a", "b")]
    await until("each worker owns its share", lambda: all(log.owned() == PARTITIONS // 2 for log in logs))
