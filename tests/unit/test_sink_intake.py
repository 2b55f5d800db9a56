"""The order of the sink's steps: rows, then the position, then the acknowledgement; and what happens in an outage."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from clickhouse import patience as patience_module
from clickhouse.cursor import SeekTo
from clickhouse.intake import Intake, PositionError
from clickhouse.patience import Patience
from clickhouse.tables import PositionRow
from sluicegate_schemas.state import ENCODE, RollupCell, rollup_key
from tests.state_log import Record

EPOCH = 3 << 32 | 9


class Run(NamedTuple):
    topic: str
    partition: int
    records: Sequence[Record]


class FakeTables:
    """Remembers what was inserted, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.inserted: list[Any] = []
        self.stored: dict[tuple[str, int], PositionRow] = {}
        self.failures: list[Exception] = []

    def insert(self, rows: Sequence[Any]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.inserted.extend(rows)
        self.stored.update({(row.topic, row.partition): row for row in rows if isinstance(row, PositionRow)})

    def positions(self) -> dict[tuple[str, int], PositionRow]:
        return self.stored

    def kinds(self) -> list[str]:
        return [type(row).__name__ for row in self.inserted]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "PAUSE_S_MIN", 0.001)


@pytest.fixture
def tables() -> FakeTables:
    return FakeTables()


def ranges(log_ranges: dict[tuple[str, int], tuple[int, int]]) -> Callable[[], Any]:
    """Asks for the logs' (first offset, end)."""

    async def ask() -> dict[tuple[str, int], tuple[int, int]]:
        return log_ranges

    return ask


def intake_of(tables: FakeTables, **options: Any) -> Intake:
    fake: Any = tables
    return Intake(fake, Patience(), topic_prefix="", **options)


def cells(first: int, count: int, partition: int = 0) -> Run:
    content = EPOCH.to_bytes(8, "big") + ENCODE(RollupCell("search", requests=1, events=1))
    records = [
        Record(offset, rollup_key("org_a", "key_a", "search.knn", 1, offset), content)
        for offset in range(first, first + count)
    ]
    return Run("state", partition, records)


def nothing() -> None:
    """An acknowledgement that nobody looks at."""


async def test_rows_come_before_the_position_and_the_position_before_the_acknowledgement(tables: FakeTables) -> None:
    intake = intake_of(tables)
    seen_at_acknowledgement: list[list[str]] = []
    await intake.positions(ranges({("state", 0): (0, 10)}))
    await intake.take(cells(0, 2), lambda: seen_at_acknowledgement.append(tables.kinds()))
    await intake.write()
    assert seen_at_acknowledgement == [["UsageRow", "UsageRow", "PositionRow"]]
    assert tables.stored["state", 0][:4] == ("state", 0, 2, EPOCH)


async def test_a_start_goes_on_from_the_stored_position_and_epoch(tables: FakeTables) -> None:
    tables.stored["state", 0] = PositionRow("state", 0, 7, EPOCH + (1 << 32), 0)
    intake = intake_of(tables)
    assert await intake.positions(ranges({("state", 0): (0, 10), ("state", 1): (0, 3)})) == {
        ("state", 0): 7,
        ("state", 1): 0,
    }
    await intake.take(cells(7, 2), nothing)
    await intake.write()
    assert "UsageRow" not in tables.kinds()


async def test_a_partition_that_comes_back_goes_on_from_the_furthest_that_anybody_reached(tables: FakeTables) -> None:
    intake = intake_of(tables)
    await intake.positions(ranges({("state", 0): (0, 100)}))
    await intake.take(cells(0, 5), nothing)
    assert await intake.positions(ranges({("state", 0): (0, 100)})) == {("state", 0): 5}
    tables.stored["state", 0] = PositionRow("state", 0, 60, EPOCH, 0)
    assert await intake.positions(ranges({("state", 0): (0, 100)})) == {("state", 0): 60}
    assert await intake.take(cells(90, 1), nothing) == SeekTo(60)


@pytest.mark.parametrize("log_range", [(0, 6), (8, 20)])
async def test_a_log_that_does_not_reach_the_stored_position_is_refused(
    tables: FakeTables, log_range: tuple[int, int]
) -> None:
    tables.stored["state", 0] = PositionRow("state", 0, 7, EPOCH, 0)
    with pytest.raises(PositionError, match="up to offset 7"):
        await intake_of(tables).positions(ranges({("state", 0): log_range}))


async def test_another_sink_may_come_further_while_clickhouse_is_waited_for(
    tables: FakeTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = 10

    def answer_late() -> dict[tuple[str, int], PositionRow]:
        nonlocal end
        end = 50  # meanwhile the log grew, and a sink that still had the partition brought more of it home
        return {("state", 0): PositionRow("state", 0, 40, EPOCH, 0)}

    async def ask() -> dict[tuple[str, int], tuple[int, int]]:
        return {("state", 0): (0, end)}

    monkeypatch.setattr(tables, "positions", answer_late)
    assert await intake_of(tables).positions(ask) == {("state", 0): 40}


async def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(
    tables: FakeTables, caplog: pytest.LogCaptureFixture
) -> None:
    intake = intake_of(tables)
    await intake.positions(ranges({("state", 0): (0, 10)}))
    await intake.take(cells(0, 1), nothing)
    tables.failures = [OperationalError("connection refused"), OSError("reset"), DatabaseError("memory", code=241)]
    with caplog.at_level(logging.WARNING, "clickhouse"):
        await intake.write()
    assert tables.kinds() == ["UsageRow", "PositionRow"]
    assert len(caplog.records) == 2
    assert "is back after" in caplog.records[1].message


async def test_an_error_that_waiting_cannot_heal_ends_the_wait(tables: FakeTables) -> None:
    intake = intake_of(tables)
    await intake.positions(ranges({("state", 0): (0, 10)}))
    await intake.take(cells(0, 1), nothing)
    tables.failures = [DatabaseError("no such table", code=60)]
    with pytest.raises(DatabaseError):
        await intake.write()
    assert tables.stored == {}


async def test_reading_stops_while_too_many_rows_wait_and_goes_on_afterwards(tables: FakeTables) -> None:
    intake = intake_of(tables, rows_waiting_max=10)
    await intake.positions(ranges({("state", 0): (0, 100)}))
    await intake.take(cells(0, 10), nothing)
    blocked = asyncio.create_task(intake.take(cells(10, 5), nothing))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not blocked.done()
    await intake.write()
    await blocked
    await intake.write()
    assert tables.kinds().count("UsageRow") == 15


async def test_reading_stops_too_where_the_same_few_rows_are_written_again_and_again(tables: FakeTables) -> None:
    intake = intake_of(tables, bytes_waiting_max=20_000)
    await intake.positions(ranges({("state", 0): (0, 1_000)}))

    def same_cell(offset: int) -> Run:
        (record,) = cells(0, 1).records
        return Run("state", 0, [record._replace(offset=offset)])

    async def read_on() -> None:
        for offset in range(1_000):
            await intake.take(same_cell(offset), nothing)

    reading = asyncio.create_task(read_on())
    for _ in range(2_000):
        await asyncio.sleep(0)
    assert not reading.done(), "what waits to be acknowledged takes memory, however few rows it comes to"
    while not reading.done():
        await intake.write()
    await intake.write()
    assert tables.stored["state", 0].next_offset == 1_000


async def test_full_rows_are_written_without_waiting_for_more(tables: FakeTables) -> None:
    intake = intake_of(tables, rows_waiting_max=3, linger_s=3600.0)
    await intake.positions(ranges({("state", 0): (0, 100)}))
    acknowledged = asyncio.Event()
    writer = asyncio.create_task(intake.write_forever())
    try:
        await intake.take(cells(0, 3), acknowledged.set)
        await asyncio.wait_for(acknowledged.wait(), 10)
    finally:
        writer.cancel()


async def test_what_arrives_while_rows_are_written_is_behind_the_next_position(tables: FakeTables) -> None:
    intake = intake_of(tables)
    await intake.positions(ranges({("state", 0): (0, 100)}))
    acknowledged: list[int] = []

    def note(end: int) -> Callable[[], None]:
        return lambda: acknowledged.append(end)

    await intake.take(cells(0, 1), note(1))
    writing = asyncio.create_task(intake.write())
    await asyncio.sleep(0)
    await intake.take(cells(1, 1), note(2))
    await writing
    assert (acknowledged, tables.stored["state", 0].next_offset) == ([1], 1)
    await intake.write()
    assert (acknowledged, tables.stored["state", 0].next_offset) == ([1, 2], 2)
