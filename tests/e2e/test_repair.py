"""The audit's repair on the real ClickHouse engine: whoever reads meanwhile sees what was wrong or what is right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from clickhouse import queries
from clickhouse.audit.books import Books, Cell
from clickhouse.audit.differences import DAY_S, HOUR_S, MINUTE_S, NOTHING, Amounts, Difference, Place, month_of
from clickhouse.audit.repair import mend, versions_of
from clickhouse.roll import roll
from sluicegate_schemas.state import rollup_key

pytestmark = pytest.mark.engine

SOURCE = "state/0"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
NOON_S = int(NOON.timestamp())
DAY = (NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))
LOG_END = 1_000
RIGHT = Amounts(5, 0, 0, 5, 500, 5)
OTHER = Amounts(1, 0, 0, 1, 30, 1)
AMOUNTS = ("requests", "errors", "throttled", "units", "credits_micro", "events")
TABLES = ("usage_minute", "usage_hour", "usage_organization_hour", "usage_day")
SUMS = {table: f"SELECT sum(credits_micro), toString(sum(version)) FROM {table} FINAL" for table in TABLES}
Reading = dict[str, int]


class Reader:
    """A client whose every change is followed by a look at what a reader sees."""

    def __init__(self, client: Client, merged: tuple[str, ...] = ()) -> None:
        self._client = client
        self._merged = merged
        self.seen: list[Reading] = []
        self.query = client.query

    def command(self, *arguments: Any, **options: Any) -> None:
        self._client.command(*arguments, **options)
        self._look()

    def insert(self, *arguments: Any, **options: Any) -> None:
        self._client.insert(*arguments, **options)
        self._look()

    def _look(self) -> None:
        for table in self._merged:
            self._client.command(f"OPTIMIZE TABLE {table} FINAL")
        self.seen.append(read(self._client))


def read(client: Client) -> Reading:
    shown = {table: int(client.query(query).result_rows[0][0]) for table, query in SUMS.items()}
    return shown | {"usage": queries.usage(client, "org_a", *DAY).credits_micro}


def cell_of(minute: int, amounts: Amounts, version: int) -> tuple[bytes, Cell]:
    return rollup_key("org_a", "key_a", "search.knn", NOON_S // 60 + minute, 7), Cell(version, "search", amounts)


@pytest.fixture
def books() -> Books:
    """Two cells of one hour."""
    books = Books([SOURCE], NOON_S, open_max=10, evicted_max=10, sums_max=10)
    books.sources[SOURCE].open.update([cell_of(0, RIGHT, 10), cell_of(1, OTHER, 11)])
    books.sources[SOURCE].next_offset = 100
    return books


def write_minute(
    client: Client, amounts: Amounts, version: int, *, minute: int = 0, operation: str = "search.knn"
) -> None:
    names = ("org_id", "minute", "api_key_id", "operation", "source", "chunk", "category")
    place = ("org_a", NOON_S + 60 * minute, "key_a", operation, SOURCE, 7, "search")
    client.insert("usage_minute", [(*place, *amounts, version)], column_names=(*names, *AMOUNTS, "version"))


def write_sum(client: Client, table: str, amounts: Amounts, version: int, *, operation: str = "search.knn") -> None:
    at = ("hour", NOON_S) if table == "usage_hour" else ("day", int(DAY[0].timestamp()))
    names = ("org_id", at[0], "api_key_id", "operation", "category", *AMOUNTS, "version")
    client.insert(table, [("org_a", at[1], "key_a", operation, "search", *amounts, version)], column_names=names)


def minute_place(operation: str = "search.knn") -> Place:
    return Place(
        "cells_minute", "org_a", month_of(NOON_S), NOON_S, MINUTE_S, SOURCE, "key_a", operation, "search", 7
    )  # fmt: skip


def repair(client: Client, books: Books, difference: Difference, merged: tuple[str, ...] = ()) -> list[Reading]:
    """What a reader saw meanwhile; at the end all is right."""
    reader: Any = Reader(client, merged)
    (line,) = mend(books, reader, [difference], versions_of(client, [difference]), {SOURCE: LOG_END})
    assert line.startswith(("mended: ", "rolled anew: "))
    for table, query in SUMS.items():
        assert client.query(query).result_rows == [(530, "21")], table
        client.command(f"OPTIMIZE TABLE {table} FINAL")
        assert client.query(query).result_rows == [(530, "21")], f"{table}, when it is merged"
    assert read(client) == dict.fromkeys((*TABLES, "usage"), 530)
    return reader.seen


@pytest.mark.parametrize("version", [10, 12, 5])
def test_a_wrong_minute_gives_way_to_the_right_one_and_is_never_missing(
    client: Client, books: Books, version: int
) -> None:
    wrong = RIGHT._replace(credits_micro=501)
    write_minute(client, OTHER, 11, minute=1)
    if version >= 10:
        write_minute(client, RIGHT, 10)
    write_minute(client, wrong, version)
    roll(client)
    assert read(client) == dict.fromkeys((*TABLES, "usage"), 531)
    seen = repair(client, books, Difference(minute_place(), RIGHT, wrong))
    assert {amount for reading in seen for amount in reading.values()} == {530, 531}


def test_what_is_merged_at_the_worst_moment_is_right_in_the_end(client: Client, books: Books) -> None:
    wrong = RIGHT._replace(credits_micro=501)
    write_minute(client, OTHER, 11, minute=1)
    write_minute(client, wrong, 12)
    roll(client)
    repair(client, books, Difference(minute_place(), RIGHT, wrong), TABLES)


def test_a_row_that_no_record_made_goes_and_takes_nothing_with_it(client: Client, books: Books) -> None:
    write_minute(client, RIGHT, 10)
    write_minute(client, OTHER, 11, minute=1)
    write_minute(client, OTHER, 12, operation="documents.get")
    roll(client)
    seen = repair(client, books, Difference(minute_place("documents.get"), NOTHING, OTHER))
    assert {amount for reading in seen for amount in reading.values()} == {530, 560}


@pytest.mark.parametrize(
    ("table", "pair", "length_s"), [("usage_hour", "minute_hour", HOUR_S), ("usage_day", "hour_day", DAY_S)]
)
@pytest.mark.parametrize("version", [21, 22])
@pytest.mark.parametrize("operation", ["search.knn", "documents.get"])
def test_a_wrong_sum_gives_way_to_the_right_one_and_is_never_missing(
    client: Client, books: Books, table: str, pair: Any, length_s: int, version: int, operation: str
) -> None:
    write_minute(client, RIGHT, 10)
    write_minute(client, OTHER, 11, minute=1)
    roll(client)
    write_sum(client, table, RIGHT, version, operation=operation)
    start_s = NOON_S // length_s * length_s
    place = Place(pair, "org_a", month_of(NOON_S), start_s, length_s)
    began = read(client)
    seen = repair(client, books, Difference(place, NOTHING, NOTHING))
    for name, amount in began.items():
        assert {reading[name] for reading in seen} <= {amount, 530}, name
