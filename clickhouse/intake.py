"""From runs of records to ClickHouse, exactly: the order of steps that makes the sink safe to kill at any moment.

1. Runs are turned into rows in memory, up to ``rows_waiting_max`` and ``bytes_waiting_max``; then reading stops.
2. The rows are inserted. 3. The position behind them is inserted. 4. The runs are acknowledged to the group.
A crash between two steps repeats rows that ClickHouse replaces by themselves. A start goes on from step 3's position,
never from the group's, whose committed offsets only tell others what is durable here.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from sluicegate_schemas.topics import ALERTS, BALANCES, DECISIONS, STATE, Topic

from .alerts import AlertRows
from .cursor import Cursor, LogRecord, SeekTo
from .decisions import DecisionRows
from .label_rows import LabelRow
from .month_rows import MonthRows
from .patience import Patience
from .record_rows import RecordRows
from .rows import StateRows, UsageRow
from .tables import FreshnessRow, PositionRow, Tables

logger = logging.getLogger(__name__)

ROWS_WAITING_MAX: Final = 50_000
"""Rows in memory before reading stops; as many again may be on their way to ClickHouse."""
BYTES_WAITING_MAX: Final = 32 * 1024 * 1024
"""The same for what the runs take that are not acknowledged yet: many of them may come to few rows."""
RECORD_OVERHEAD_BYTES: Final = 600
"""What a record in memory costs beside its key and value, rounded up."""
LINGER_S: Final = 0.5
"""How long rows are gathered before an insert: few large inserts, fresh figures."""

ROWS_OF: Final[tuple[tuple[Topic, type[RecordRows[Any]]], ...]] = (
    (DECISIONS, DecisionRows),
    (ALERTS, AlertRows),
    (BALANCES, MonthRows),
)
"""What is read beside the state, and what each record of it comes to."""
SUNK: Final = (STATE, *(topic for topic, _ in ROWS_OF))
"""All topics that are read."""

TopicPartition = tuple[str, int]


class Run(Protocol):
    """What one fetch returned for one partition, see ``streams.engine.batching.Batch``."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def records(self) -> Sequence[Any]: ...


class PositionError(Exception):
    """The log does not hold what follows on a stored position: going on would lose or mix up usage."""


@dataclass(slots=True)
class _Partition:
    cursor: Cursor
    rows: StateRows | RecordRows[Any]
    acknowledge: list[Callable[[], object]] = field(default_factory=list)
    """What to call once everything taken so far is durable; not empty: something is to be written."""
    waiting_bytes: int = 0
    """What the runs behind ``acknowledge`` take."""

    @property
    def top_epoch(self) -> int:
        return self.rows.top_epoch if isinstance(self.rows, StateRows) else 0


class Intake:
    """Takes runs of records of the topics ``SUNK``, whose names have ``topic_prefix``, and brings them home."""

    def __init__(
        self,
        tables: Tables,
        patience: Patience,
        *,
        topic_prefix: str,
        rows_waiting_max: int = ROWS_WAITING_MAX,
        bytes_waiting_max: int = BYTES_WAITING_MAX,
        linger_s: float = LINGER_S,
    ) -> None:
        self._tables = tables
        self._patience = patience
        self._state_topic = topic_prefix + STATE.name
        self._rows_of = {topic_prefix + topic.name: rows for topic, rows in ROWS_OF}
        self._rows_waiting_max = rows_waiting_max
        self._bytes_waiting_max = bytes_waiting_max
        self._linger_s = linger_s
        self._partitions: dict[TopicPartition, _Partition] = {}
        self.durable: dict[TopicPartition, int] = {}
        """Where each partition goes on that was ever assigned here: everything before is in ClickHouse."""
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._drained = asyncio.Condition()

    async def positions(
        self, log_ranges: Callable[[], Awaitable[Mapping[TopicPartition, tuple[int, int]]]]
    ) -> dict[TopicPartition, int]:
        """Where to read on in each assigned partition, given how to ask for their logs' (first offset, end).

        Waits for ClickHouse as long as it takes. What was read before in this process is not read again: a cursor only
        moves on. Raises PositionError where the log does not reach the stored position.
        """
        stored = await self._patience(self._tables.positions)
        starts = {}
        # Asked after the wait: while it lasted the log grew, and a sink that had the partition may have come further.
        for name, (first, end) in (await log_ranges()).items():
            position = stored.get(name)
            if position is not None and self._has_expired(name, position, first):
                position = position._replace(next_offset=first)
            if position is not None and not first <= position.next_offset <= end:
                raise PositionError(
                    f"ClickHouse holds {name[0]}/{name[1]} up to offset {position.next_offset}, but the log holds "
                    f"{first} to {end}: it was cut, or made anew under an old name. Nothing was written. Give a topic "
                    "that was made anew another prefix, or restore the log."
                )
            partition = self._partitions.get(name)
            if partition is None:
                partition = self._open(name, position.next_offset if position else first, position)
            elif position is not None and position.next_offset > partition.cursor.next_offset:
                partition.cursor.advance(position.next_offset)
                if isinstance(partition.rows, StateRows):
                    partition.rows.skip(position.top_epoch)
            starts[name] = partition.cursor.next_offset
            held = position.next_offset if position else first
            self.durable[name] = max(held, self.durable.get(name, 0))
        return starts

    def _has_expired(self, name: TopicPartition, position: PositionRow, first: int) -> bool:
        """Whether the broker let go of records, by their age, before they were taken in: nothing brings them back."""
        kind = self._rows_of.get(name[0])
        lost = first - position.next_offset
        if kind is None or not kind.expires or lost <= 0:
            return False
        logger.error("%s/%d: %d records were let go before ClickHouse had them; going on behind", *name, lost)
        return True

    def waiting(self) -> tuple[int, int]:
        """(rows, bytes of the records behind them) in memory, without those on their way to ClickHouse."""
        partitions = list(self._partitions.values())
        return sum(len(one.rows) for one in partitions), sum(one.waiting_bytes for one in partitions)

    def _open(self, name: TopicPartition, next_offset: int, position: PositionRow | None) -> _Partition:
        source = f"{name[0]}/{name[1]}"
        rows: StateRows | RecordRows[Any]
        if name[0] == self._state_topic:
            rows = StateRows(source, position.top_epoch if position else 0)
        elif (kind := self._rows_of.get(name[0])) is not None:
            rows = kind(source)
        else:
            raise ValueError(f"the sink does not read {name[0]}")
        partition = self._partitions[name] = _Partition(Cursor(next_offset), rows)
        return partition

    async def take(self, run: Run, acknowledge: Callable[[], object]) -> SeekTo | None:
        """Takes in a run of an assigned partition; ``acknowledge`` is called once it is durable.

        Returns SeekTo where the run does not follow on what was taken before: seek there, the run was not taken. Waits
        while as much waits as may. Raises StateFormatError or RecordFormatError.
        """
        async with self._drained:
            await self._drained.wait_for(lambda: not self._is_full())
        partition = self._partitions[run.topic, run.partition]
        taken = partition.cursor.take(run.records)
        if isinstance(taken, SeekTo):
            return taken
        partition.rows.feed(taken)
        partition.acknowledge.append(acknowledge)
        partition.waiting_bytes += sum(map(_held_bytes, taken))
        self._arrived.set()
        if self._is_full():
            self._full.set()
        return None

    def _is_full(self) -> bool:
        partitions = self._partitions.values()
        return (
            sum(len(partition.rows) for partition in partitions) >= self._rows_waiting_max
            or sum(partition.waiting_bytes for partition in partitions) >= self._bytes_waiting_max
        )

    async def write_forever(self) -> None:
        """Writes what arrives, gathered for ``linger_s`` or until full. Ends only by a hopeless error."""
        while True:
            await self._arrived.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._linger_s)
            await self.write()

    async def write(self) -> None:
        """Brings everything taken so far to ClickHouse, then acknowledges it. Not to be called twice at once."""
        self._arrived.clear()
        self._full.clear()
        usage: list[UsageRow] = []
        labels: list[LabelRow] = []
        others: dict[type[RecordRows[Any]], list[Any]] = {kind: [] for _, kind in ROWS_OF}
        positions: list[PositionRow] = []
        log_times: list[tuple[PositionRow, int, int]] = []
        acknowledge: list[Callable[[], object]] = []
        now_ms = int(time.time() * 1000)
        for (topic, number), partition in self._partitions.items():
            if not partition.acknowledge:
                continue
            position = PositionRow(topic, number, partition.cursor.next_offset, partition.top_epoch, now_ms)
            positions.append(position)
            acknowledge += partition.acknowledge
            partition.acknowledge, partition.waiting_bytes = [], 0
            if isinstance(partition.rows, RecordRows):
                others[type(partition.rows)] += partition.rows.take()
                continue
            cut = partition.rows.take()
            usage += cut.rows
            labels += cut.labels
            if cut.rows and cut.oldest_log_time_ms is not None and cut.newest_log_time_ms is not None:
                log_times.append((position, cut.oldest_log_time_ms, cut.newest_log_time_ms))
        async with self._drained:
            self._drained.notify_all()

        await self._patience(lambda: self._tables.insert(usage))
        visible_at = int(time.time() * 1000)
        if labels:
            await self._patience(lambda: self._tables.insert(labels))
        for rows in others.values():
            await self._patience(partial(self._tables.insert, rows))
        await self._patience(lambda: self._tables.insert(positions))
        for done in acknowledge:
            done()
        self.durable.update(((one.topic, one.partition), one.next_offset) for one in positions)
        freshness = [
            FreshnessRow(position.topic, position.partition, position.next_offset, oldest, newest, visible_at)
            for position, oldest, newest in log_times
        ]
        await self._patience(lambda: self._tables.insert(freshness))


def _held_bytes(record: LogRecord) -> int:
    return len(record.key or b"") + len(record.value or b"") + RECORD_OVERHEAD_BYTES
