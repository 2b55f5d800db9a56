"""How fast one sink brings rows of the state log into ClickHouse, and how many parts it leaves for merges meanwhile."""

import asyncio
import itertools
import time
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from clickhouse.connection import ClickHouse
from clickhouse.intake import Intake
from clickhouse.migrate import migrate
from clickhouse.patience import Patience
from clickhouse.rows import UsageRow
from clickhouse.tables import Tables
from sluicegate_schemas.state import ENCODE, Claim, RollupCell, rollup_key
from streams.engine.flush import FlushWriter
from tests.bench.session import Session
from tests.state_log import Record

PARTITIONS: Final = 8
_ROWS: Final = 400_000
_FLUSH_ROWS: Final = 2_500
_FLUSHES_OF_A_MINUTE: Final = 4
"""A minute's cells are written so many times; each row replaces the one before."""
_LOAD_S: Final = 60.0
_FLUSH_INTERVAL_S: Final = 0.2
_LOAD_ROWS_PER_S: Final = 10_000
_LOOK_S: Final = 0.25
_PARTS: Final = """
SELECT max(parts) FROM (
    SELECT partition, count() AS parts FROM system.parts
    WHERE active AND database = currentDatabase() AND table = 'usage_minute' GROUP BY partition)
"""
_DATABASES: Final = (f"sink_{number}" for number in itertools.count())


class Run(NamedTuple):
    """What a fetch brings: here one flush of a partition."""

    topic: str
    partition: int
    records: list[Record]


def runs(partition: int, rows_a_flush: int) -> Iterator[Run]:
    """A partition's flushes, without end: the cells of the running minute, and after some flushes of the next."""
    writer = FlushWriter(1 << 32 | 7, ENCODE(Claim("bench", 1, 0)), {})
    now_ms = time.time_ns() // 1_000_000
    offset = 0
    for flush in itertools.count(1):
        minute = now_ms // 60_000 - 60 + flush // _FLUSHES_OF_A_MINUTE
        count = flush % _FLUSHES_OF_A_MINUTE + 1
        cell = ENCODE(RollupCell("search", count, 0, 0, count, count * 100_000, count, 1))
        changes: list[tuple[bytes, bytes | None]] = [
            (rollup_key(f"org_{number % 200}", f"key_{partition}_{number % 1_000}", "search.knn", minute, number), cell)
            for number in range(rows_a_flush)
        ]
        made = writer.build(
            changes,
            flush=flush, usage_offset=-1, accounts_offset=-1, log_time_ms=now_ms, catalogue_version=1, outbox=[],
            outputs_next=[],
        )  # fmt: skip
        records = [Record(offset + at, one.key, one.value, tuple(one.headers)) for at, one in enumerate(made)]
        offset += len(records)
        yield Run("state", partition, records)


class Sink:
    """A sink's intake on a database of its own, fed by hand in place of Kafka."""

    def __init__(self, session: Session) -> None:
        server = session.clickhouse
        address = ClickHouse(server.url, server.username, server.password, next(_DATABASES))
        migrate(address)
        self.client: Client = address.connect()
        self.intake = Intake(Tables(address), Patience(), topic_prefix="")
        self.acknowledged = 0
        self._acknowledged = asyncio.Event()
        self.parts: list[int] = []

    async def __aenter__(self) -> "Sink":
        async def ranges() -> dict[tuple[str, int], tuple[int, int]]:
            return {("state", partition): (0, 1 << 40) for partition in range(PARTITIONS)}

        await self.intake.positions(ranges)
        self._tasks = [asyncio.create_task(self.intake.write_forever()), asyncio.create_task(self._look())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.client.command, f"DROP DATABASE `{self.client.database}`")
        self.client.close()

    async def _look(self) -> None:
        while True:
            self.parts.append(int((await asyncio.to_thread(self.client.query, _PARTS)).result_rows[0][0] or 0))
            await asyncio.sleep(_LOOK_S)

    async def take(self, run: Run) -> None:
        """Hands over a run; it counts as acknowledged once it is durable."""
        rows = len(run.records) - 1

        def acknowledge() -> None:
            self.acknowledged += rows
            self._acknowledged.set()

        assert await self.intake.take(run, acknowledge) is None

    async def until_acknowledged(self, rows: int) -> None:
        """All of so many rows are durable."""
        while self.acknowledged < rows:
            self._acknowledged.clear()
            await self._acknowledged.wait()


async def throughput(session: Session) -> dict[str, float]:
    """As fast as it goes; the log's records are made before."""
    flushes = max(1, session.count(_ROWS) // (PARTITIONS * _FLUSH_ROWS))
    logs = [list(itertools.islice(runs(partition, _FLUSH_ROWS), flushes)) for partition in range(PARTITIONS)]
    async with Sink(session) as sink:
        rows = flushes * PARTITIONS * _FLUSH_ROWS
        began, began_cpu = time.monotonic(), time.process_time()
        for together in zip(*logs, strict=True):
            for run in together:
                await sink.take(run)
        await sink.until_acknowledged(rows)
        seconds, cpu = time.monotonic() - began, time.process_time() - began_cpu
    return {"sink_rows_eps": rows / seconds, "sink_row_cpu_us": cpu / rows * 1e6}


async def load(session: Session) -> dict[str, float]:
    """A minute of flushes at the workers' rhythm."""
    rows_a_flush = int(_LOAD_ROWS_PER_S * _FLUSH_INTERVAL_S / PARTITIONS)
    logs = [runs(partition, rows_a_flush) for partition in range(PARTITIONS)]
    async with Sink(session) as sink:
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < _LOAD_S * min(1.0, session.scale):
            for log in logs:
                await sink.take(next(log))
                sent += rows_a_flush
            await asyncio.sleep(max(0.0, began + sent / _LOAD_ROWS_PER_S - time.monotonic()))
        await sink.until_acknowledged(sent)
        return {"sink_parts_max": max(sink.parts), "sink_load_rows_eps": sent / (time.monotonic() - began)}


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    figures: dict[str, Any] = {}
    if wanted & {"sink_rows_eps", "sink_row_cpu_us"}:
        figures |= asyncio.run(throughput(session))
    if wanted & {"sink_parts_max", "sink_load_rows_eps"}:
        figures |= asyncio.run(load(session))
    if "insert_bare_eps" in wanted:
        figures["insert_bare_eps"] = insert_bare(session)
    return {name: figure for name, figure in figures.items() if name in wanted}


def insert_bare(session: Session) -> float:
    """The same rows a second by clickhouse-connect alone, in inserts of 50,000 as lists of columns."""
    server = session.clickhouse
    address = ClickHouse(server.url, server.username, server.password, next(_DATABASES))
    migrate(address)
    client = address.connect()
    rows, at = 50_000, int(time.time()) // 60 * 60
    made = [
        UsageRow(f"org_{n % 200}", at, f"key_{n % 1_000}", "search.knn", "state/0", n, "search", 1, 0, 0, 1, 1, 1, 1, n)
        for n in range(rows)
    ]
    columns = list(zip(*made, strict=True))
    rounds = max(1, session.count(_ROWS) // rows)
    began = time.monotonic()
    for _ in range(rounds):
        client.insert("usage_minute", columns, column_names=UsageRow._fields, column_oriented=True)
    seconds = time.monotonic() - began
    client.command(f"DROP DATABASE `{client.database}`")
    client.close()
    return rounds * rows / seconds
