"""What the sink writes to ClickHouse and reads back: blocking, each call safe to repeat."""

from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Final, NamedTuple

from clickhouse_connect.driver.client import Client

from streams.engine.figures import Times

from .alerts import AlertRow
from .connection import ClickHouse
from .decisions import DecisionRow
from .label_rows import LabelRow
from .month_rows import MonthRow
from .rows import UsageRow


class PositionRow(NamedTuple):
    """How far a partition is in the tables, as a row of sink_position; ``written_at`` in ms since the epoch."""

    topic: str
    partition: int
    next_offset: int
    top_epoch: int
    written_at: int


class FreshnessRow(NamedTuple):
    """How old an insert's usage was when it became visible, as a row of sink_freshness; times in ms."""

    topic: str
    partition: int
    next_offset: int
    oldest_log_at: int
    newest_log_at: int
    visible_at: int


SinkRow = UsageRow | LabelRow | DecisionRow | AlertRow | MonthRow | PositionRow | FreshnessRow
ROW_TABLES: Final[dict[type[tuple[object, ...]], str]] = {
    UsageRow: "usage_minute",
    LabelRow: "usage_label",
    DecisionRow: "decision",
    AlertRow: "alert",
    MonthRow: "usage_month",
    PositionRow: "sink_position",
    FreshnessRow: "sink_freshness",
}


class Tables:
    """A connection that is made when it is first needed."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._client: Client | None = None
        self.inserts: Counter[str] = Counter()
        """Inserts that ClickHouse has, by table."""
        self.rows: Counter[str] = Counter()
        """Rows in them, by table."""
        self.insert_times = Times()

    @property
    def client(self) -> Client:
        """The client; raises clickhouse_connect's errors while ClickHouse is away."""
        if self._client is None:
            self._client = self._clickhouse.connect()
        return self._client

    def insert(self, rows: Sequence[SinkRow]) -> None:
        """Inserts rows of one kind; returns once ClickHouse has them on disk."""
        if not rows:
            return
        kind = type(rows[0])
        table = ROW_TABLES[kind]
        began = monotonic()
        self.client.insert(
            table,
            list(zip(*rows, strict=True)),
            column_names=list(kind._fields),
            column_oriented=True,
        )
        self.insert_times.observe(monotonic() - began)
        self.inserts[table] += 1
        self.rows[table] += len(rows)

    def positions(self) -> dict[tuple[str, int], PositionRow]:
        """The stored positions by topic and partition."""
        rows = self.client.query(
            "SELECT topic, partition, next_offset, top_epoch, toUnixTimestamp64Milli(written_at) "
            "FROM sink_position FINAL"
        ).result_rows
        return {(row[0], row[1]): PositionRow(*row) for row in rows}
