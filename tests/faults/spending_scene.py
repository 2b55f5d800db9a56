"""A broker, a worker and gateways as real processes, and organizations with so many credits."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from sluicegate import Brokers
from sluicegate.operator.publish import publish
from sluicegate_schemas import topics
from sluicegate_schemas.accounts import AnyCommand, KeyPut, OrganizationPut
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.limits import LimitMode, RateLimits
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY
from stack.kafka import Kafka
from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from stack.topic_log import end_offsets, read_topic
from streams.engine.fold import Fold
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.pipeline import ROOT

MICRO: Final = 1_000_000
NODES: Final = 4
TTL_MS, REQUEST_MS, LATE_MS = 3_000, 3_000, 4_000
STATED_S: Final = (TTL_MS + REQUEST_MS + LATE_MS) / 1000
"""After that a dead gateway's part can be lent again."""
LIMIT_S: Final = 60.0
_RATES: Final = RateLimits(requests_per_second=10_000, burst=10_000, requests_per_minute=600_000)


class Booked(NamedTuple):
    """What the ledger of an account says, and how much is lent, as of all usage in the log."""

    total_micro: int
    used_micro: int
    lent_micro: int


def secret_of(organization_id: str) -> str:
    """Its one key."""
    return f"sk_live_spending_{organization_id[4:].replace('-', '_')}"


def commands_for(organization_id: str, total_micro: int, mode: LimitMode) -> list[AnyCommand]:
    """Makes an organization with so many credits and one key."""
    common: dict[str, Any] = {
        "issued_at": datetime.now(UTC),
        "issued_by": "tests",
        "account_id": organization_id,
        "organization_id": organization_id,
    }
    digest = hashlib.sha256(secret_of(organization_id).encode()).hexdigest()
    return [
        OrganizationPut(
            kind="organization.put",
            command_id=f"put-{organization_id}",
            tier="enterprise",
            rates=_RATES,
            credits_micro_per_month=total_micro,
            credits_mode=mode,
            **common,
        ),
        KeyPut(
            kind="key.put",
            command_id=f"key-{organization_id}",
            api_key_id=f"key_{organization_id[4:]}",
            key_sha256=digest,
            **common,
        ),
    ]


class Scene:
    """The processes; ``kafka`` is the caller's."""

    def __init__(self, kafka: Kafka, name: str, folder: Path) -> None:
        self.kafka = kafka
        self.prefix = f"{name}."
        self.nodes: list[ChildProcess] = []
        self.addresses: list[str] = []
        self._folder = folder
        self._worker: ChildProcess | None = None

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
            "SLUICEGATE_ESCROW_LATE_MS": str(LATE_MS),
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
            self.nodes.append(self._spawn(name, ["-m", "stack.node", *options]))
        last = secret_of(commands[-1].about)
        for address in self.addresses:
            await until(f"{address} knows the accounts", lambda address=address: self._knows(address, last))  # type: ignore[misc]  # bound early

    async def _knows(self, address: str, secret: str) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            try:
                answer = await client.get(f"{address}/v1/collections", headers={"Authorization": f"Bearer {secret}"})
            except httpx.HTTPError:
                return False
            return answer.status_code == 200

    def _spawn(self, name: str, arguments: list[str]) -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, *arguments],
            log=self._folder / f"{name}.log",
            cwd=ROOT,
            environment=self.environment(),
            stop_limit_s=20,
        )
        child.spawn()
        return child

    async def call(self, number: int, organization_id: str, path: str, body: dict[str, Any]) -> int:
        """One call to a gateway: the status; 0 for no answer."""
        headers = {"Authorization": f"Bearer {secret_of(organization_id)}"}
        async with httpx.AsyncClient(trust_env=False, timeout=20.0, headers=headers) as client:
            try:
                return (await client.post(f"{self.addresses[number]}{path}", json=body)).status_code
            except httpx.HTTPError:
                return 0

    async def calls(self, many: int, organization_id: str, tokens: int) -> Counter[int]:
        """So many calls of a language model at the same time, over all gateways: the answers by status."""
        body = {"input_tokens": tokens, "output_tokens": 0}
        calls = [self.call(number % NODES, organization_id, "/v1/inference/llm", body) for number in range(many)]
        return Counter(await asyncio.gather(*calls))

    async def booked(self, organization_id: str) -> Booked:
        """The ledger, once all that is in the usage log now, is in the state."""
        ends = await end_offsets(self.kafka.bootstrap, self.prefix + topics.USAGE.name)
        found: list[Booked] = []

        async def is_applied() -> bool:
            self.restart_ended()
            folds: dict[int, Fold] = {}
            reached: dict[int, int] = {}
            async for record in read_topic(self.kafka.bootstrap, self.prefix + topics.STATE.name):
                folds.setdefault(record.partition, Fold()).feed(record.key, record.value, record.headers)
                if record.key == HEADER_KEY and record.value is not None:
                    reached[record.partition] = DECODE_HEADER(record.value[EPOCH_BYTES:]).usage_offset
            rows = {key: payload for fold in folds.values() for key, payload in fold.rows.items()}
            found[:] = [_booked(rows, organization_id)]
            return all(reached.get(partition, -1) >= end - 1 for partition, end in ends.items())

        await until("the usage is in the ledger", is_applied)
        return found[0]

    async def kill_the_worker(self) -> None:
        """kill -9, and a start at once."""
        assert self._worker is not None, "started"
        await asyncio.to_thread(self._worker.kill)
        self._worker.spawn()

    async def pause_the_broker(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while; a worker that gave up meanwhile is started again."""
        self.kafka.pause()
        await asyncio.sleep(for_s)
        self.kafka.resume()

    async def pause_a_gateway(self, for_s: float) -> None:
        """SIGSTOP to the second one, and SIGCONT after a while."""
        self.nodes[1].pause()
        await asyncio.sleep(for_s)
        self.nodes[1].resume()

    def restart_ended(self) -> None:
        """What a supervisor does: a worker that gave up is started again."""
        if self._worker is not None and not self._worker.running:
            self._worker.spawn()

    def close(self) -> None:
        """Ends all but the broker."""
        for child in [*self.nodes, *([self._worker] if self._worker else [])]:
            child.kill()


def _booked(rows: dict[bytes, bytes], organization_id: str) -> Booked:
    month = datetime.now(UTC).strftime("%Y-%m")
    payload = rows.get(f"l|account|{organization_id}|{month}".encode())
    ledger = [None, None, 0, 0] if payload is None else msgspec.msgpack.decode(payload)
    leases = [msgspec.msgpack.decode(value) for key, value in rows.items() if key.startswith(b"e|")]
    lent = sum(lease[6] for lease in leases if lease[0] == organization_id)
    return Booked(ledger[2] or 0, ledger[3], lent)


async def until(what: str, holds: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> float:
    """Waits until ``holds``; returns the seconds that took. Raises AssertionError after ``limit_s``."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < limit_s, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.1)
    return time.monotonic() - began
