"""The processes of the rotation: each part can be killed, stopped, paused and started again, and knows its past."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx

from stack.clickhouse import ClickHouse
from stack.errors import StackError
from stack.kafka import Kafka
from stack.pipeline import OVER_RATE, SPENDER, TENANTS, demonstration_secrets, last_counts
from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from stack.traffic import SECRETS_VARIABLE, Secrets
from tests.faults.journal import now_ms
from tests.faults.promises import Run
from tests.faults.rotation_plan import Component
from tests.pipeline import ROOT, Pipeline

Child = ChildProcess | Kafka | ClickHouse

PUBLISHERS: Final = 2
NODES: Final = 2
WORKERS_MAX: Final = 3
PUBLISHED_PER_S: Final = 120.0
"""Events of each publishing process."""
PUBLISHER_STOP_LIMIT_S: Final = 90.0
TRACE: Final = ROOT / "examples/data/AzureLLMInferenceTrace_code.csv"
TRACE_SPEED: Final = 8.0
TAIL_LINES: Final = 30


class Part:
    """One component. One call of ``start``, ``kill`` and ``stop`` at a time; they wait for each other.

    :param make: starts the process and returns it, told how often it was started before.
    """

    def __init__(self, name: str, make: Callable[[int], Child], journal: Callable[[int], Path] | None = None) -> None:
        self.name = name
        self.runs: list[Run] = []
        self.child: Child | None = None
        self.wanted = False
        """Whether it should run: it was started, and not asked to stop."""
        self.busy = asyncio.Lock()
        self._make = make
        self._journal = journal or (lambda _: Path(name))

    @property
    def running(self) -> bool:
        """Whether it runs (a paused one does)."""
        return self.child is not None and self.child.running

    async def start(self) -> None:
        """Start it, unless it runs."""
        async with self.busy:
            await self._start()

    async def _start(self) -> None:
        if self.running:
            return
        self.take(await asyncio.to_thread(self._make, len(self.runs)))

    async def kill(self, down_s: float) -> None:
        """kill -9; ``down_s`` later it is started again."""
        async with self.busy:
            if self.child is not None and self.running:
                self.runs[-1].killed_at_ms = now_ms()
                await asyncio.to_thread(self.child.kill)
            await asyncio.sleep(down_s)
            await self._start()

    async def stop(self) -> int | None:
        """SIGTERM; returns how it ended (negative: it did not hear it in time), None for one that did not run."""
        async with self.busy:
            self.wanted = False
            if self.child is None or not self.running:
                return None
            await asyncio.to_thread(self.child.stop)
            return self.child.exit_code if isinstance(self.child, ChildProcess) else None

    async def restart(self) -> int | None:
        """SIGTERM, and a start."""
        code = await self.stop()
        await self.start()
        return code

    async def pause(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after ``for_s``, unless it dies meanwhile."""
        child, run = self.child, self.runs[-1]
        with contextlib.suppress(StackError):
            child.pause()
            since_ms = now_ms()
            try:
                await asyncio.sleep(for_s)
            finally:
                run.pauses_ms.append((since_ms, now_ms()))
                child.resume()

    def take(self, child: Child) -> None:
        """It was started by somebody else."""
        self.child, self.wanted = child, True
        self.runs.append(Run(self._journal(len(self.runs))))

    def kill_for_good(self) -> None:
        """kill -9, at the end of everything."""
        if self.child is not None:
            self.child.kill()

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        child = self.child
        if isinstance(child, ChildProcess):
            return child.log_tail(TAIL_LINES)
        lines = child.log.read_text(errors="replace").splitlines() if child is not None and child.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])


class Parts:
    """All of them, over a started broker and ClickHouse engine, with one worker at first."""

    def __init__(self, kafka: Kafka, clickhouse: ClickHouse, name: str, folder: Path) -> None:
        self.pipeline = Pipeline(kafka, clickhouse, name, folder)
        self.folder = folder
        self.spool = folder / "spool"
        self.callers: ChildProcess | None = None
        self.answered: Counter[str] = Counter()
        """What all callers but the running ones were answered, by status; "unreachable" for no answer."""
        self.broker = Part("broker", lambda _: _started(kafka))
        self.clickhouse = Part("ClickHouse", lambda _: _started(clickhouse))
        self.sink = Part("sink", lambda _: self.pipeline.start_sink())
        self.workers = [self._worker(1)]
        self.publishers = [self._publisher(f"publisher-{number}") for number in range(1, PUBLISHERS + 1)]
        self._ports = [free_port() for _ in range(NODES)]
        self.nodes = [self._node(f"node-{number}", port) for number, port in enumerate(self._ports, start=1)]
        self.broker.take(kafka)
        self.clickhouse.take(clickhouse)

    @property
    def supervised(self) -> list[Part]:
        """Those that may give up by themselves, and are started again."""
        return [*self.workers, self.sink]

    @property
    def all(self) -> list[Part]:
        """Every part, from the front to the back."""
        return [*self.nodes, *self.publishers, *self.supervised, self.clickhouse, self.broker]

    def choose(self, component: Component, which: float, but: Part | None = None) -> Part | None:
        """One of ``component``, by a number from 0 to 1; another than ``but``, None where there is no other."""
        of: dict[Component, list[Part]] = {
            "worker": self.workers,
            "sink": [self.sink],
            "broker": [self.broker],
            "ClickHouse": [self.clickhouse],
            "publisher": self.publishers,
            "API node": self.nodes,
        }
        left = [part for part in of[component] if part is not but]
        return left[int(which * len(left))] if left else None

    async def start(self) -> None:
        """Topics, tables, accounts, one worker and the sink; the load is for ``start_load``."""
        first = self.workers[0]
        await self.pipeline.start(workers=(_letter(1),))
        first.take(self.pipeline.workers[_letter(1)])
        self.sink.take(self.pipeline.sink)

    async def start_load(self) -> None:
        """API nodes, publishers and callers; returns when the nodes are ready and called."""
        for part in (*self.nodes, *self.publishers):
            await part.start()
        for node in self.nodes:
            assert isinstance(node.child, ChildProcess)
            await asyncio.to_thread(node.child.wait_until_ready)
        self.callers = await asyncio.to_thread(self._call)

    async def stop_load(self) -> None:
        """SIGTERM, callers first; each sends what it has. Raises AssertionError where one does not end."""
        if self.callers is not None:
            await asyncio.to_thread(self.callers.stop)
            self.answered += self.answered_now()
            self.callers = None
        parts = [*self.nodes, *self.publishers]
        codes = await asyncio.gather(*(part.stop() for part in parts))
        for part, code in zip(parts, codes, strict=True):
            assert code in (0, -signal.SIGTERM), f"{part.name} ended with {code} at SIGTERM:\n{part.log_tail()}"

    async def grow(self) -> None:
        """Starts workers until there are ``WORKERS_MAX``."""
        while len(self.workers) < WORKERS_MAX:
            worker = self._worker(len(self.workers) + 1)
            await worker.start()
            self.workers.append(worker)

    async def shrink(self) -> None:
        """SIGTERM to all workers but one."""
        while len(self.workers) > 1:
            await self.workers.pop().stop()

    def answered_now(self) -> Counter[str]:
        """What the running callers were answered."""
        if self.callers is None:
            return Counter()
        counts = last_counts(self.callers)
        return Counter(counts.get("answers", {})) + Counter(unreachable=counts.get("unreachable", 0))

    def is_answering(self, node: Part) -> bool:
        """Whether the API node knows its tenants and says so."""
        port = self._ports[self.nodes.index(node)]
        try:
            return httpx.get(f"http://{LOOPBACK}:{port}/health", timeout=1.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def worker_folder(self, worker: Part) -> Path:
        """Where a worker writes its health."""
        return self.folder / f"worker-{_letter(int(worker.name.rsplit('-', 1)[1]))}"

    def close(self) -> None:
        """Ends all but the broker and ClickHouse, which are the caller's."""
        if self.callers is not None:
            self.callers.kill()
        for part in (*self.nodes, *self.publishers):
            part.kill_for_good()
        self.pipeline.close()

    def _worker(self, number: int) -> Part:
        return Part(f"worker-{number}", lambda _: self.pipeline.start_worker(_letter(number)))

    def _publisher(self, name: str) -> Part:
        def journal(life: int) -> Path:
            return self.folder / f"{name}-{life}.journal"

        def make(life: int) -> ChildProcess:
            options = ["--node", name, "--journal", str(journal(life)), "--spool", str(self.spool)]
            command = ["-m", "tests.faults.publishing", *options, "--per-second", str(PUBLISHED_PER_S)]
            return self._spawn(name, command, stop_limit_s=PUBLISHER_STOP_LIMIT_S)

        return Part(name, make, journal)

    def _node(self, name: str, port: int) -> Part:
        def log(life: int) -> Path:
            return self.folder / f"{name}-{life}" / "node.jsonl"

        def make(life: int) -> ChildProcess:
            options = ["--port", str(port), "--log", str(log(life)), "--node", name]
            command = ["-m", "stack.node", *options, "--topic-prefix", self.pipeline.prefix]
            return self._spawn(name, command, ready=lambda: self.is_answering(node))

        node = Part(name, make, log)
        return node

    def _call(self) -> ChildProcess:
        keys = demonstration_secrets()
        tenants = tuple(tuple(keys[key] for key in names) for names in TENANTS)
        command = ["-m", "stack.traffic", "--trace", str(TRACE), "--speed", str(TRACE_SPEED)]
        for port in self._ports:
            command += ["--node", f"http://{LOOPBACK}:{port}"]
        hidden = Secrets(tenants, keys[OVER_RATE], keys[SPENDER]).to_json()
        return self._spawn("callers", command, environment={SECRETS_VARIABLE: hidden})

    def _spawn(
        self,
        name: str,
        arguments: list[str],
        *,
        ready: Callable[[], bool] | None = None,
        stop_limit_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, *arguments],
            log=self.folder / f"{name}.log",
            cwd=ROOT,
            environment={**self.pipeline.environment(), **(environment or {})},
            ready=ready,
            stop_limit_s=stop_limit_s,
        )
        child.spawn()
        return child


def _started(server: Kafka | ClickHouse) -> Kafka | ClickHouse:
    server.start()
    return server


def _letter(number: int) -> str:
    return "abc"[number - 1]
