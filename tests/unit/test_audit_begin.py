"""How the audit begins: from a log that is compacted or not, and again after its first try failed."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from clickhouse.audit import log as audit_log
from clickhouse.audit.auditor import Auditor
from clickhouse.audit.books import Cell
from clickhouse.audit.compare import ShownCell, ShownSum
from clickhouse.audit.differences import Amounts
from clickhouse.audit.log import StateLog
from clickhouse.audit.service import Service
from clickhouse.audit.settings import AuditSettings
from clickhouse.connection import ClickHouse
from sluicegate.brokers import Brokers
from sluicegate_schemas.state import (
    ENCODE,
    EPOCH_BYTES,
    TOMBSTONE_EPOCH_HEADER,
    RollupCell,
    parse_rollup_key,
    rollup_key,
    rollup_version,
)
from streams.settings import Settings
from tests.state_log import Record

TOPIC = "sluicegate.state"
SOURCE = f"{TOPIC}/0"
PARTITION = TopicPartition(TOPIC, 0)
NOW_S = 29_000_000 * 60 + 600
EPOCH = 7 << 32
STAMP = EPOCH.to_bytes(EPOCH_BYTES, "big")
CELL = RollupCell("search", 2, events=2, credits_micro=10)
AMOUNTS = Amounts(2, 0, 0, 0, 10, 2)
MINUTE = NOW_S // 60 - 180
EVICTED = rollup_key("org_a", "key_a", "search.knn", MINUTE, 0)
OPEN = rollup_key("org_a", "key_b", "search.knn", MINUTE + 1, 1)
LEDGER = ENCODE(["org", "org_a", None, 20, [], 4, {}])
RECORDS = [
    Record(0, EVICTED, STAMP + ENCODE(CELL)),
    Record(1, OPEN, STAMP + ENCODE(CELL)),
    Record(2, b"l|organization|org_a|2025-02", STAMP + LEDGER),
    Record(3, b"t|totals", STAMP + ENCODE([0, 4])),
    Record(4, EVICTED, None, ((TOMBSTONE_EPOCH_HEADER, STAMP),)),
]


class Consumer:
    """The log as aiokafka gives it."""

    def __init__(self) -> None:
        self.at = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.at

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(RECORDS))

    async def getmany(self, *_: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        records, self.at = RECORDS[self.at :], len(RECORDS)
        return {PARTITION: records} if records else {}


class Asker:
    """ClickHouse, which has the rows of both cells; the first ``failures`` questions fail."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    def _rows(self) -> Iterable[tuple[int, ShownCell]]:
        for offset, key in ((0, EVICTED), (1, OPEN)):
            yield (
                parse_rollup_key(key)[3] * 60,
                ShownCell(SOURCE, key, Cell(rollup_version(EPOCH, offset), "", AMOUNTS)),
            )

    def sums(self, start_s: int, end_s: int, step_s: int) -> list[ShownSum]:
        return [
            ShownSum(SOURCE, "org_a", minute_s // step_s * step_s, row.cell.amounts, row.cell.offset)
            for minute_s, row in self._rows()
            if start_s <= minute_s < end_s
        ]

    def evicted_sums(self, start_s: int, minutes_s: int, ends: Any, besides: Any) -> list[ShownSum]:
        if self.failures:
            self.failures -= 1
            raise OSError("ClickHouse is away")
        return [one for one in self.sums(start_s, 2**40, 60) if one.start_s not in besides]

    def rows_of_minutes(self, minutes: Any, start_s: int) -> list[ShownCell]:
        return [row for minute_s, row in self._rows() if minute_s in minutes]

    def has_older(self, end_s: int) -> bool:
        return False


@pytest.fixture
def auditor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Auditor:
    async def partitions_of(*_: object) -> list[TopicPartition]:
        return [PARTITION]

    monkeypatch.setattr(audit_log, "_consumer", lambda _: Consumer())
    monkeypatch.setattr(audit_log, "partitions_of", partitions_of)
    asker: Any = Asker(getattr(request, "param", 0))
    return Auditor(StateLog(Brokers(), TOPIC), asker, AuditSettings(), clock=lambda: float(NOW_S))


def summed(auditor: Auditor) -> Amounts:
    return Amounts.total(held.amounts for *_, held in auditor.books.sums(0, 2**40))


async def test_an_evicted_cell_that_the_log_still_holds_is_summed_once(auditor: Auditor) -> None:
    await auditor.begin()
    assert summed(auditor) == AMOUNTS.plus(AMOUNTS)
    source = auditor.books.sources[SOURCE]
    assert (source.counted, source.events, source.events_before) == (4, 4, 0)


@pytest.mark.parametrize("auditor", [1], indirect=True)
async def test_an_audit_that_could_not_begin_reads_the_log_from_its_first_record_again(auditor: Auditor) -> None:
    with pytest.raises(OSError, match="away"):
        await auditor.begin()
    await auditor.begin()
    source = auditor.books.sources[SOURCE]
    assert list(source.ledgers) == [("org_a", "2025-02")]
    assert list(source.open) == [OPEN]
    assert summed(auditor) == AMOUNTS.plus(AMOUNTS)


async def test_a_call_that_kafkas_client_cancels_itself_does_not_end_the_audit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = Service(
        Settings(data_dir=str(tmp_path)), ClickHouse.from_environment({}), AuditSettings(interval_s=0.001)
    )
    walks = 0
    again = asyncio.Event()

    async def walk() -> None:
        nonlocal walks
        walks += 1
        if walks > 1:
            again.set()
        raise asyncio.CancelledError

    monkeypatch.setattr(service, "_walk", walk)
    audit = asyncio.ensure_future(service._audit_forever())
    try:
        async with asyncio.timeout(10):
            await asyncio.wait([audit, waiting := asyncio.ensure_future(again.wait())], return_when="FIRST_COMPLETED")
        assert waiting.done()
        assert service.health().waits_for == "Kafka"
    finally:
        audit.cancel()
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await audit
