"""API nodes as processes of their own, behind steady calls: the example service with its gate and its publisher."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Self

import httpx

from sluicegate import Brokers
from sluicegate.operator.publish import publish
from sluicegate.publisher import Position
from sluicegate_schemas.accounts import KeyPut, OrganizationPut
from sluicegate_schemas.limits import RateLimits
from sluicegate_schemas.partitioning import partition_of
from stack.freshness import percentiles
from stack.node_log import Published, read_node_logs
from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from tests.faults.scene import PARTITIONS
from tests.pipeline import ROOT, Pipeline

SECRET: Final = "sk_live_steadycallers0001"
HEADERS: Final = {"Authorization": f"Bearer {SECRET}"}
PATH: Final = "/v1/search/knn"
ORGANIZATION: Final = "org_steady"
CALLS_A_SECOND: Final = 25.0
ANSWER_LIMIT_S: Final = 10.0


async def publish_caller(pipeline: Pipeline) -> None:
    """Makes the callers' organization and key known to the workers, with limits that they never reach."""
    now = datetime.now(UTC)
    common = {"issued_at": now, "issued_by": "tests", "account_id": ORGANIZATION, "organization_id": ORGANIZATION}
    rates = RateLimits(requests_per_second=10_000, burst=10_000, requests_per_minute=600_000)
    secret = hashlib.sha256(SECRET.encode()).hexdigest()
    await publish(
        Brokers(pipeline.kafka.bootstrap),
        topic_prefix=pipeline.prefix,
        catalogue=None,
        commands=[
            OrganizationPut(kind="organization.put", command_id="steady-o", tier="enterprise", rates=rates, **common),
            KeyPut(kind="key.put", command_id="steady-k", api_key_id="key_steady", key_sha256=secret, **common),
        ],
        now=now,
        by="tests",
    )


class Node:
    """One node's process. Usage waits in ``spool``, or in memory for ``buffer_events``, while Kafka is away."""

    def __init__(
        self, pipeline: Pipeline, name: str, folder: Path, *, spool: Path | None = None, buffer_events: int = 100_000
    ) -> None:
        self.name = name
        self.first_calls = 0
        self.address = f"http://{LOOPBACK}:{(port := free_port())}"
        self.logs = folder / name
        command = [sys.executable, "-m", "stack.node", "--port", str(port), "--node", name]
        command += ["--log", str(self.logs / "node.jsonl"), "--topic-prefix", pipeline.prefix]
        command += ["--buffer-events", str(buffer_events)]
        self.process = ChildProcess(
            name,
            command + (["--spool", str(spool)] if spool else []),
            log=folder / f"{name}.log",
            cwd=ROOT,
            environment=pipeline.environment(),
            ready=lambda: self.status() is not None,
        )

    def status(self) -> int | None:
        """What ``/health`` answers; None where nobody does."""
        try:
            return httpx.get(f"{self.address}/health", timeout=2.0, trust_env=False).status_code
        except httpx.HTTPError:
            return None

    def knows_the_callers(self) -> bool:
        """Whether it lets a call of ``Callers`` pass, which is then metered and noted in ``first_calls``."""
        try:
            status = httpx.post(
                f"{self.address}{PATH}", json={}, headers=HEADERS, timeout=2.0, trust_env=False
            ).status_code
        except httpx.HTTPError:
            return False
        self.first_calls += status == 200
        return status == 200

    def published(self) -> list[Published]:
        """What it put into envelopes, by its own log."""
        return [line for line in read_node_logs(self.logs) if isinstance(line, Published)]

    def note(self, pipeline: Pipeline) -> int:
        """Tells the check of ``pipeline`` what was published here; returns how many events that are."""
        lines = self.published()
        for line in lines:
            home = partition_of(line.event.account_id or line.event.org_id, PARTITIONS)
            place = Position(home, line.producer_id, line.producer_epoch, line.sequence, line.index)
            pipeline.note(line.event, place)
        return len(lines)


class Answered(NamedTuple):
    """What came back of calls: how many by status (0: nothing), and how long it took."""

    by_status: dict[int, int]
    p50_ms: int | None
    p99_ms: int | None
    worst_ms: int | None


class Callers:
    """Steady calls to one node, from entering to leaving, one after the other, each within a time."""

    def __init__(self, node: Node) -> None:
        self.total: Counter[int] = Counter()
        self._node = node
        self._statuses: Counter[int] = Counter()
        self._took_ms: list[int] = []
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._call())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        assert self._task is not None
        await self._task

    def take(self) -> Answered:
        """What came back since the last time."""
        took, statuses = self._took_ms, self._statuses
        self._took_ms, self._statuses = [], Counter()
        figures = percentiles(took)
        return Answered(dict(statuses), figures["p50"], figures["p99"], max(took, default=None))

    async def _call(self) -> None:
        async with httpx.AsyncClient(base_url=self._node.address, headers=HEADERS, trust_env=False) as client:
            while not self._stopping:
                began = time.monotonic()
                try:
                    status = (await client.post(PATH, json={}, timeout=ANSWER_LIMIT_S)).status_code
                except httpx.HTTPError:
                    status = 0
                self._took_ms.append(round((time.monotonic() - began) * 1000))
                self._statuses[status] += 1
                self.total[status] += 1
                await asyncio.sleep(max(0.0, began + 1 / CALLS_A_SECOND - time.monotonic()))
