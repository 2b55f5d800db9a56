"""The whole pipeline as real processes, for tests that stop, pause and kill its parts.

Kafka, the ClickHouse engine, workers and sink run as in production; usage comes from a real ``Publisher`` in the test's
own process. ``check`` waits until everything published has been taken in, then compares the independent expectation
with ledger and ClickHouse.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from clickhouse.connection import ClickHouse as ClickHouseAddress
from clickhouse.migrate import migrate
from sluicegate import Publisher, PublisherSettings
from sluicegate.brokers import Brokers
from sluicegate.operator.publish import publish
from sluicegate.publisher import Position
from sluicegate_schemas import topics
from sluicegate_schemas.envelope import ENCODE, WireEvent
from sluicegate_schemas.files import load_accounts, load_catalogue
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY, Header
from stack.clickhouse import ClickHouse
from stack.evidence import ClickHouseEvidence, Envelopes, Evidence, LogEvidence, NodeEvidence, read_clickhouse, read_log
from stack.kafka import Kafka
from stack.process import ChildProcess
from stack.topic_log import end_offsets, read_topic
from stack.verify import Answers, Check, check_all, failure_sentence
from streams.settings import Settings
from streams.topics import ensure_topics

ROOT = Path(__file__).parents[1]
DRAIN_LIMIT_S = 90.0
AGREE_LIMIT_S = 30.0
START_LIMIT_S = 60.0
SESSION_S = 6.0
RESTARTS_MAX = 5
KEYS = ("key_finch_1", "key_heron_1", "key_heron_2", "key_heron_test", "key_osprey_1", "key_wren_1")


def organization_of(key: str) -> str:
    """The organization of one of the example accounts' keys."""
    return f"org_{key.split('_')[1]}"


class Counted(NamedTuple):
    """What ClickHouse and the rejects topic show; ``by_organization`` counts events."""

    events_counted: int
    events_duplicate: int
    credits_micro: int
    rejects: int
    by_organization: dict[str, int]


class Pipeline:
    """All parts; ``kafka`` and ``clickhouse`` are the caller's, workers and sink are started here."""

    def __init__(self, kafka: Kafka, clickhouse: ClickHouse, name: str, folder: Path) -> None:
        self.kafka = kafka
        self.clickhouse = clickhouse
        self.prefix = f"{name}."
        self.workers: dict[str, ChildProcess] = {}
        self.environment_of: dict[str, dict[str, str]] = {}
        """What a process gets beside ``environment``, by its name: "worker-a", "sink"."""
        self.restarts = 0
        self._folder = folder
        self._database = name
        self._sink: ChildProcess | None = None
        self._envelopes: Envelopes = {}
        self._events = 0

    @property
    def sink(self) -> ChildProcess:
        """The sink's process."""
        assert self._sink is not None
        return self._sink

    @property
    def address(self) -> ClickHouseAddress:
        """The database of this pipeline."""
        return ClickHouseAddress(
            self.clickhouse.url, self.clickhouse.username, self.clickhouse.password, self._database
        )

    def environment(self) -> dict[str, str]:
        """What every process of this pipeline gets."""
        return {
            "SLUICEGATE_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": self.prefix,
            "SLUICEGATE_GROUP": f"{self.prefix}workers",
            "SLUICEGATE_SINK_GROUP": f"{self.prefix}sink",
            "SLUICEGATE_SESSION_S": str(SESSION_S),
            "SLUICEGATE_TICK_INTERVAL_S": "1",
            "SLUICEGATE_CLICKHOUSE_URL": self.clickhouse.url,
            "SLUICEGATE_CLICKHOUSE_USER": self.clickhouse.username,
            "SLUICEGATE_CLICKHOUSE_PASSWORD": self.clickhouse.password,
            "SLUICEGATE_CLICKHOUSE_DATABASE": self._database,
        }

    async def start(self, workers: Iterable[str] = ("a",)) -> None:
        """Topics, tables, catalogue, accounts, workers and sink; returns when every partition has an owner."""
        settings = Settings.from_environment(self.environment())
        await ensure_topics(settings)
        await asyncio.to_thread(migrate, self.address)
        await publish(
            Brokers(self.kafka.bootstrap),
            topic_prefix=self.prefix,
            catalogue=load_catalogue((ROOT / "catalogue/default.toml").read_text("utf-8")),
            commands=load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8")),
            now=datetime.now(UTC),
            lead=timedelta(0),
            by="tests",
        )
        for name in workers:
            self.start_worker(name)
        self.start_sink()
        await self._wait(self._all_claimed, START_LIMIT_S, "not every partition was claimed")

    def start_worker(self, name: str) -> ChildProcess:
        """A worker, anew where one of that name ended."""
        self.workers[name] = self._faust("streams.app", f"worker-{name}")
        return self.workers[name]

    def start_sink(self) -> ChildProcess:
        """The sink, anew where it ended."""
        self._sink = self._faust("clickhouse.sink", "sink")
        return self._sink

    def _faust(self, module: str, name: str) -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, "-m", "faust", "-A", module, "worker", "--loglevel", "info"],
            log=self._folder / f"{name}.log",
            cwd=ROOT,
            environment=self.environment()
            | {"SLUICEGATE_DATA_DIR": str(self._folder / name)}
            | self.environment_of.get(name, {}),
            stop_limit_s=20,
        )
        child.start()
        return child

    def close(self) -> None:
        """Ends what was started here."""
        for child in [*self.workers.values(), *([self._sink] if self._sink else [])]:
            child.kill()

    def publisher(self, **settings: object) -> Publisher:
        """A publisher whose envelopes are noted for the check."""
        options = PublisherSettings(
            bootstrap_servers=self.kafka.bootstrap,
            node="node-test",
            topic_prefix=self.prefix,
            **settings,  # type: ignore[arg-type]  # any of the settings' own fields
        )
        return Publisher(options, tap=self.note)

    def note(self, event: WireEvent, position: Position) -> None:
        """Tells the check of an event that is sent in an envelope, and where there."""
        place = (position.producer_id, position.producer_epoch, position.partition, position.sequence)
        count, checksum = self._envelopes.get(place, (0, 0))
        self._envelopes[place] = (count + 1, checksum ^ crc32(ENCODE(event), position.index))
        self._events += 1

    async def send(self, publisher: Publisher, count: int, *, seed: int, per_second: float) -> None:
        """``count`` events over the example tenants, evenly over time."""
        draw = random.Random(seed)
        began = time.monotonic()
        for number in range(count):
            key = draw.choice(KEYS)
            now_ms = time.time_ns() // 1_000_000
            operation, quantities = draw.choice(
                [
                    ("search.knn", {}),
                    ("inference.llm", {"tokens": draw.randrange(1, 20_000)}),
                    ("documents.create", {"documents": draw.randrange(1, 9)}),
                    ("upload.file", {"bytes": draw.randrange(1, 10**8)}),
                    ("video.process", {"milliseconds": draw.randrange(1, 10**6)}),
                    ("collections.list", {}),
                ]
            )
            publisher.publish(
                org_id=organization_of(key),
                api_key_id=key,
                operation=operation,
                started_at_ms=now_ms - 30,
                ts_ms=now_ms,
                duration_ms=30,
                status=draw.choices((200, 429, 500), (20, 1, 1))[0],
                quantities=quantities,
            )
            if (ahead := number / per_second - (time.monotonic() - began)) > 0:
                await asyncio.sleep(ahead)

    async def check(self) -> Evidence:
        """Waits until all that was published is taken in and shown, and asserts that all totals agree."""
        usage_ends = await end_offsets(self.kafka.bootstrap, self.prefix + topics.USAGE.name)
        await self._wait(partial(self._applied, usage_ends), DRAIN_LIMIT_S, "the workers did not catch up")
        deadline = time.monotonic() + AGREE_LIMIT_S
        while True:
            evidence = await self._evidence()
            checks = self._checks(evidence)
            if all(check.ok for check in checks) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        assert failure_sentence(checks) is None, failure_sentence(checks)
        assert evidence.log.totals.events_counted > 0
        return evidence

    async def totals(self) -> Counted:
        """Waits until everything in the usage log is taken in and shown; returns what ClickHouse then shows.

        For inputs that the independent expectation does not model: the caller knows what must be there.
        """
        usage = self.prefix + topics.USAGE.name
        for what in ("what was sent", "what was forwarded for it"):
            usage_ends = await end_offsets(self.kafka.bootstrap, usage)
            await self._wait(partial(self._applied, usage_ends), DRAIN_LIMIT_S, f"{what} was not taken in")
        state_ends = await end_offsets(self.kafka.bootstrap, self.prefix + topics.STATE.name)
        await self._wait(partial(self.shown, state_ends), DRAIN_LIMIT_S, "the sink did not catch up")
        evidence = await self._evidence()
        shown = evidence.clickhouse
        rejects = evidence.log.rejects.total()
        return Counted(
            events_counted=shown.total("events"),
            events_duplicate=evidence.log.totals.events_logged - shown.total("events") - rejects,
            credits_micro=shown.total("credits_micro"),
            rejects=rejects,
            by_organization={name: usage.events for name, usage in shown.usage.items() if usage.events},
        )

    @staticmethod
    def _checks(evidence: Evidence) -> list[Check]:
        return check_all(evidence, Answers(by_status={}, unreachable=0, events_before=evidence.nodes.events))

    async def _evidence(self) -> Evidence:
        log: LogEvidence = await read_log(self.kafka.bootstrap, self.prefix)
        client = await asyncio.to_thread(self.address.connect)
        try:
            shown: ClickHouseEvidence = await asyncio.to_thread(read_clickhouse, client)
        finally:
            client.close()
        return Evidence(NodeEvidence(self._events, dict(self._envelopes), []), log, shown)

    async def _applied(self, ends: dict[int, int]) -> bool:
        """Whether the newest headers are at ``ends`` and nothing waits to be sent."""
        headers: dict[int, Header] = {}
        async for record in read_topic(self.kafka.bootstrap, self.prefix + topics.STATE.name):
            if record.key == HEADER_KEY and record.value is not None:
                headers[record.partition] = DECODE_HEADER(record.value[EPOCH_BYTES:])
        return all(
            partition in headers and headers[partition].usage_offset >= end - 1 and not headers[partition].outbox
            for partition, end in ends.items()
            if end
        )

    async def shown(self, ends: dict[int, int]) -> bool:
        """Whether the sink has written all state records below ``ends``."""
        client = await asyncio.to_thread(self.address.connect)
        try:
            rows = await asyncio.to_thread(
                lambda: (
                    client.query(
                        "SELECT partition, next_offset FROM sink_position FINAL WHERE topic = {topic:String}",
                        parameters={"topic": self.prefix + topics.STATE.name},
                    ).result_rows
                )
            )
        finally:
            client.close()
        reached = {int(partition): int(offset) for partition, offset in rows}
        return all(reached.get(partition, 0) >= end for partition, end in ends.items())

    async def _all_claimed(self) -> bool:
        count = len(await end_offsets(self.kafka.bootstrap, self.prefix + topics.STATE.name))
        claimed = set()
        async for record in read_topic(self.kafka.bootstrap, self.prefix + topics.STATE.name):
            claimed.add(record.partition)
        return len(claimed) == count

    def restart_ended(self) -> None:
        """What a supervisor does in production: a worker or sink that gave up (its broker was away) starts again."""
        for child in [*self.workers.values(), self.sink]:
            if not child.running:
                self.restarts += 1
                assert self.restarts <= RESTARTS_MAX, f"{child.name} keeps ending:\n{child.log_tail()}"
                child.start()

    async def _wait(self, holds: Callable[[], Awaitable[bool]], limit_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + limit_s
        for attempt in itertools.count(1):
            if await holds():
                return
            self.restart_ended()
            if time.monotonic() > deadline:
                raise AssertionError(f"{otherwise} within {limit_s:g} s ({attempt} looks)")
            await asyncio.sleep(0.5)
