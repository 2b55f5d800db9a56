"""A broker, a worker and four gateways as real processes, and those who call them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from sluicegate import Brokers
from sluicegate.operator.publish import publish
from sluicegate_schemas import topics
from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY
from stack.errors import StackError
from stack.kafka import Kafka
from stack.node_log import Line, read_node_logs
from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from stack.topic_log import end_offsets, read_topic
from streams.engine.fold import Fold
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.faults.spending_books import Rows, secret_of
from tests.pipeline import ROOT

NODES: Final = 4
TTL_MS, REQUEST_MS, LATE_MS = 3_000, 3_000, 4_000
LIMIT_S: Final = 60.0
ANSWER_LIMIT_S: Final = 90.0
CALLS_MAX: Final = 64
"""Calls at a time to one gateway; the others wait here, where that costs nothing."""


class Gateways:
    """The processes; ``kafka`` is the caller's. Calls are made within ``async with gateways.called():``.

    ``behind`` are brokers that the gateway ``CUT_OFF`` reaches in their own way; ``late_ms`` is how long a lease waits
    for events that are on their way.
    """

    CUT_OFF: Final = 1

    def __init__(
        self, kafka: Kafka, name: str, folder: Path, *, behind: str | None = None, late_ms: int = LATE_MS
    ) -> None:
        self.kafka = kafka
        self.prefix = f"{name}."
        self.nodes: list[ChildProcess] = []
        self.addresses: list[str] = []
        self.stated_s = (TTL_MS + REQUEST_MS + late_ms) / 1000
        """After that a dead gateway's part can be lent again."""
        self._late_ms = late_ms
        self._behind = behind
        self._folder = folder
        self._worker: ChildProcess | None = None
        self._clients: list[httpx.AsyncClient] = []
        self._free: list[asyncio.Semaphore] = []
        self._anybody = ""

    # ---- processes ----

    def environment(self) -> dict[str, str]:
        """What every process gets."""
        return {
            "SLUICEGATE_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": self.prefix,
            "SLUICEGATE_GROUP": f"{self.prefix}workers",
            "SLUICEGATE_PARTITIONS": "2",
            "SLUICEGATE_SESSION_S": "6",
            "SLUICEGATE_TICK_INTERVAL_S": "1",
            "SLUICEGATE_DATA_DIR": str(self._folder / "worker"),
            "SLUICEGATE_ESCROW_TTL_MS": str(TTL_MS),
            "SLUICEGATE_ESCROW_REQUEST_MS": str(REQUEST_MS),
            "SLUICEGATE_ESCROW_LATE_MS": str(self._late_ms),
        }

    async def start(self, commands: Sequence[AnyCommand]) -> None:
        """Topics, catalogue, accounts, a worker and the gateways; returns when each knows every account."""
        await ensure_topics(Settings.from_environment(self.environment()))
        await publish(
            Brokers(self.kafka.bootstrap),
            topic_prefix=self.prefix,
            catalogue=load_catalogue((ROOT / "catalogue/default.toml").read_text("utf-8")),
            commands=commands,
            now=datetime.now(UTC),
            lead=timedelta(0),
            by="tests",
        )
        arguments = ["-m", "faust", "-A", "streams.app", "worker", "--loglevel", "info", "--without-web"]
        self._worker = self._spawn("worker", arguments)
        for number in range(NODES):
            self.addresses.append(f"http://{LOOPBACK}:{(port := free_port())}")
            name = f"gateway-{number}"
            options = ["--port", str(port), "--log", str(self._folder / name / "node.jsonl"), "--node", name]
            options += ["--spool", str(self._folder / "spool"), "--topic-prefix", self.prefix]
            self.nodes.append(self._spawn(name, ["-m", "stack.node", *options], is_behind=number == self.CUT_OFF))
        self._anybody = secret_of(commands[-1].about)
        for number in range(NODES):
            await self.wait_for(number)

    def _spawn(self, name: str, arguments: list[str], *, is_behind: bool = False) -> ChildProcess:
        environment = self.environment()
        if is_behind and self._behind is not None:
            environment["SLUICEGATE_BOOTSTRAP_SERVERS"] = self._behind
        child = ChildProcess(
            name,
            [sys.executable, *arguments],
            log=self._folder / f"{name}.log",
            cwd=ROOT,
            environment=environment,
            stop_limit_s=20,
        )
        child.spawn()
        return child

    async def wait_for(self, number: int) -> None:
        """Returns when a gateway knows the accounts."""
        headers = {"Authorization": f"Bearer {self._anybody}"}

        async def knows() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=2.0, headers=headers) as client:
                try:
                    return (await client.get(f"{self.addresses[number]}/v1/collections")).status_code == 200
                except httpx.HTTPError:
                    return False

        await until(f"gateway {number} knows the accounts", knows)

    def close(self) -> None:
        """Ends all but the broker."""
        for child in [*self.nodes, *([self._worker] if self._worker else [])]:
            child.kill()

    # ---- calls ----

    @asynccontextmanager
    async def called(self) -> AsyncIterator[None]:
        """Connections to the gateways, in this event loop."""
        limits = httpx.Limits(max_connections=CALLS_MAX, max_keepalive_connections=CALLS_MAX)
        self._free = [asyncio.Semaphore(CALLS_MAX) for _ in self.addresses]
        self._clients = [
            httpx.AsyncClient(base_url=address, trust_env=False, timeout=ANSWER_LIMIT_S, limits=limits)
            for address in self.addresses
        ]
        try:
            yield
        finally:
            for client in self._clients:
                await client.aclose()

    async def call(self, number: int, organization_id: str, path: str, body: dict[str, Any] | None = None) -> int:
        """One call to a gateway, without a body a GET: the status; 0 for no answer."""
        headers = {"Authorization": f"Bearer {secret_of(organization_id)}"}
        method = "GET" if body is None else "POST"
        try:
            async with self._free[number]:
                return (await self._clients[number].request(method, path, json=body, headers=headers)).status_code
        except httpx.HTTPError:
            return 0

    async def calls(self, many: int, organization_id: str, tokens: int) -> Counter[int]:
        """So many calls of a language model at the same time, over all gateways: the answers by status."""
        body = {"input_tokens": tokens, "output_tokens": 0}
        calls = [self.call(number % NODES, organization_id, "/v1/inference/llm", body) for number in range(many)]
        return Counter(await asyncio.gather(*calls))

    async def gate(self, number: int, offered_per_s: int) -> dict[str, Any]:
        """What a gateway's gate says of itself."""
        answer = await self._clients[number].get("/gate", params={"offered_per_s": offered_per_s})
        content: dict[str, Any] = answer.json()
        return content

    def lines(self, number: int) -> list[Line]:
        """What a gateway wrote down of what it published and obeys."""
        return list(read_node_logs(self._folder / f"gateway-{number}"))

    # ---- what the ledger says ----

    async def rows(self) -> Rows:
        """The workers' state, once all that is in the usage log now, is in it."""
        ends = await end_offsets(self.kafka.bootstrap, self.prefix + topics.USAGE.name)
        found: Rows = {}

        async def is_applied() -> bool:
            self.restart_ended()
            folds: dict[int, Fold] = {}
            reached: dict[int, int] = {}
            async for record in read_topic(self.kafka.bootstrap, self.prefix + topics.STATE.name):
                folds.setdefault(record.partition, Fold()).feed(record.key, record.value, record.headers)
                if record.key == HEADER_KEY and record.value is not None:
                    reached[record.partition] = DECODE_HEADER(record.value[EPOCH_BYTES:]).usage_offset
            found.update({key: payload for fold in folds.values() for key, payload in fold.rows.items()})
            return all(reached.get(partition, -1) >= end - 1 for partition, end in ends.items())

        await until("the usage is in the ledger", is_applied)
        return found

    # ---- disturbances ----

    async def kill_the_worker(self) -> None:
        """kill -9, and a start at once."""
        assert self._worker is not None, "started"
        await asyncio.to_thread(self._worker.kill)
        self._worker.spawn()

    async def kill_a_gateway(self, number: int = 3) -> None:
        """kill -9, and a start; returns when it serves again."""
        await asyncio.to_thread(self.nodes[number].kill)
        self.nodes[number].spawn()
        await self.wait_for(number)

    async def pause_a_gateway(self, for_s: float, number: int = 2) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self.nodes[number].pause()
        await asyncio.sleep(for_s)
        self.nodes[number].resume()

    async def pause_the_broker(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while; a worker that gave up meanwhile is started again."""
        self.kafka.pause()
        await asyncio.sleep(for_s)
        self.kafka.resume()

    async def kill_the_broker(self, for_s: float) -> None:
        """kill -9, and a start after a while."""
        await asyncio.to_thread(self.kafka.kill)
        await asyncio.sleep(for_s)
        try:
            await asyncio.to_thread(self.kafka.start)
        except StackError:  # a busy machine may take longer than the time it has
            await asyncio.to_thread(self.kafka.kill)
            await asyncio.to_thread(self.kafka.start)

    def restart_ended(self) -> None:
        """What a supervisor does: a worker that gave up is started again."""
        if self._worker is not None and not self._worker.running:
            self._worker.spawn()


async def until(what: str, holds: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> float:
    """Waits until ``holds``; returns the seconds that took. Raises AssertionError after ``limit_s``."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < limit_s, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.1)
    return time.monotonic() - began
