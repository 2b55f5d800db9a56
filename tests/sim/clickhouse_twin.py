"""Twin of ClickHouse, as far as the sink can tell: ReplacingMergeTree tables read with FINAL, and a server that fails.

Keys and versions of the tables are those of the migrations. An insert is whole for each partition of a table and not
across them; it may fail before, within or after, and its reply may be lost.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import clickhouse
from clickhouse.alerts import AlertRow
from clickhouse.decisions import DecisionRow
from clickhouse.label_rows import LabelRow
from clickhouse.month_rows import MonthRow
from clickhouse.rows import UsageRow
from clickhouse.tables import ROW_TABLES, PositionRow, SinkRow

_MIGRATIONS: Final = Path(clickhouse.__file__).parent / "migrations"
_TABLE: Final = re.compile(
    r"CREATE TABLE IF NOT EXISTS (\w+).*?ENGINE = \$\{REPL\}(?:ReplacingMergeTree\((\w+)\)|MergeTree)(.*?);", re.DOTALL
)
_ORDER: Final = re.compile(r"ORDER BY \(?([\w, ]+)\)?")


class Shape(NamedTuple):
    """What makes two rows of a table one: the fields of its key, and the one that says which of them stays."""

    key: tuple[str, ...]
    version: str | None


def _shapes() -> dict[str, Shape]:
    text = "".join(path.read_text() for path in sorted(_MIGRATIONS.glob("*.sql")))
    shapes = {}
    for name, version, rest in _TABLE.findall(text):
        order = _ORDER.search(rest)
        assert order is not None
        shapes[name] = Shape(tuple(order[1].replace(" ", "").split(",")), version or None)
    return shapes


SHAPES: Final = _shapes()
"""By table name, as the migrations make them."""

Place = Callable[[Any], tuple[Any, ...]]


class SimClickHouse:
    """The server. What is inserted is on disk; only its availability changes."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.is_down = False
        self.is_flaky = False
        self.usage: dict[tuple[Any, ...], UsageRow] = {}
        self.labels: dict[tuple[Any, ...], LabelRow] = {}
        self.decisions: dict[tuple[Any, ...], DecisionRow] = {}
        self.alerts: dict[tuple[Any, ...], AlertRow] = {}
        self.months: dict[tuple[Any, ...], MonthRow] = {}
        self.stored: dict[tuple[Any, ...], PositionRow] = {}
        self.watchers: list[Callable[[Sequence[SinkRow]], None]] = []
        """Called with the rows of each insert that took effect."""
        self.failures = 0
        self._tables: dict[type[tuple[object, ...]], tuple[dict[tuple[Any, ...], Any], Place, Place]] = {
            kind: (table, _reader(kind, SHAPES[ROW_TABLES[kind]].key), _reader(kind, _version_of(kind)))
            for kind, table in (
                (UsageRow, self.usage),
                (LabelRow, self.labels),
                (DecisionRow, self.decisions),
                (AlertRow, self.alerts),
                (MonthRow, self.months),
                (PositionRow, self.stored),
            )
        }

    def insert(self, rows: Sequence[SinkRow]) -> None:
        """One insert as the server carries it out. Raises OSError where it fails; parts of it may stand then."""
        for part in self._parts(rows):
            if self.is_flaky and self.draw.random() < 0.15:
                self._fail("too many parts")
            self._merge(part)
            for watch in self.watchers:
                watch(part)

    def _parts(self, rows: Sequence[SinkRow]) -> Iterable[Sequence[SinkRow]]:
        if not isinstance(rows[0], UsageRow):
            return [rows]
        days: dict[int, list[SinkRow]] = {}
        for row in rows:
            days.setdefault(row.minute // 86_400, []).append(row)  # type: ignore[union-attr]  # rows are of one kind
        return days.values()

    def _merge(self, rows: Sequence[SinkRow]) -> None:
        held = self._tables.get(type(rows[0]))
        if held is None:
            return
        table, key_of, version_of = held
        for row in rows:
            key = key_of(row)
            before = table.get(key)
            if before is None or version_of(row) >= version_of(before):
                table[key] = row

    def ask(self) -> None:
        """Something is asked of the server. Raises OSError while it is away."""
        if self.is_down or (self.is_flaky and self.draw.random() < 0.2):
            self._fail("connection refused")

    def lose_reply(self) -> None:
        """Whether the reply to what was just done gets lost. Raises OSError then."""
        if self.is_flaky and self.draw.random() < 0.25:
            self._fail("connection reset")

    def _fail(self, why: str) -> None:
        self.failures += 1
        raise ConnectionError(why)


def _reader(kind: type[tuple[object, ...]], names: Sequence[str]) -> Place:
    places = [kind._fields.index(name) for name in names]  # type: ignore[attr-defined]  # they are named tuples
    return lambda row: tuple(row[place] for place in places)


def _version_of(kind: type[tuple[object, ...]]) -> tuple[str, ...]:
    version = SHAPES[ROW_TABLES[kind]].version
    return () if version is None else (version,)


class SimTables:
    """Twin of ``clickhouse.tables.Tables``."""

    def __init__(self, server: SimClickHouse) -> None:
        self._server = server

    def insert(self, rows: Sequence[SinkRow]) -> None:
        """Inserts rows of one kind."""
        if rows:
            self._server.ask()
            self._server.insert(rows)
            self._server.lose_reply()

    def positions(self) -> dict[tuple[str, int], PositionRow]:
        """The stored positions by topic and partition."""
        self._server.ask()
        return {(row.topic, row.partition): row for row in self._server.stored.values()}
