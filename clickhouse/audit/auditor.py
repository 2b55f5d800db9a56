"""Carries the audit out: reads, asks, compares, in looks that are each taken at one cut."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aiokafka import ConsumerRecord

from .ask import Asker
from .books import Books
from .compare import (
    Cut,
    Rolled,
    RolledName,
    RolledSums,
    ShownSum,
    cell_differences,
    ledger_differences,
    narrowed,
    rolled_differences,
    sum_differences,
)
from .differences import DAY_S, HOUR_S, Difference, Looked
from .log import StateLog
from .settings import AuditSettings

logger = logging.getLogger(__name__)

CONFIRM_S: Final = 1.0
"""A difference counts once a second look finds it too: what no cut foresees (a lagging replica) is not reported."""
NARROWED_MAX: Final = 20
"""Sums that differ are looked into row by row, so many of one look; the others are reported as they are."""
ROWS_TOGETHER_MAX: Final = 200_000
"""Adjacent days are looked at together up to about so many rows; a day is always looked at as a whole."""
_END_OF_TIME_S: Final = 4_102_444_800


class Slice(NamedTuple):
    """A range of time that one look compares: the open hours by minutes, or whole days by hours."""

    start_s: int
    end_s: int
    by_minutes: bool


class LogCutError(Exception):
    """ClickHouse holds more than the log: the topic was cut or made anew under its old name."""


@dataclass(slots=True)
class Findings:
    """What stands: the newest findings of each part; the ledger's under None."""

    by_part: dict[Slice | None, Looked] = field(default_factory=dict)
    walks: int = 0
    """How often all parts were looked at."""
    walked_at_s: float | None = None
    """When the last walk over all parts was done."""

    def put(self, part: Slice | None, looked: Looked) -> None:
        """The newest findings of ``part``, instead of those of parts of its kind that it overlaps."""
        if part is not None:
            for other in [one for one in self.by_part if one is not None and one.by_minutes == part.by_minutes]:
                if other.start_s < part.end_s and part.start_s < other.end_s:
                    del self.by_part[other]
        self.by_part[part] = looked

    def differences(self) -> list[Difference]:
        """All of them, the ledger's first."""
        parts = sorted(self.by_part.copy().items(), key=lambda item: (item[0] is not None, item[0] or ()))
        return [one for _, looked in parts for one in looked.differences]


class Auditor:
    """One audit: ``begin`` once, then ``walk`` again and again. ``clock`` gives the UTC epoch in seconds.

    All of it raises clickhouse_connect's errors, OSError, KafkaError, TopicsMissingError, StateFormatError,
    BooksFullError and LogCutError. After any of them but those of ClickHouse the audit has to begin anew.
    """

    def __init__(
        self, log: StateLog, asker: Asker, settings: AuditSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.findings = Findings()
        self._log = log
        self._asker = asker
        self._settings = settings
        self._clock = clock
        self._books: Books | None = None
        self._sunk_at_ms = 0

    @property
    def books(self) -> Books:
        """The state's books; after ``begin``."""
        assert self._books is not None
        return self._books

    async def begin(self) -> None:
        """Reads the state's log from its first record on, and from ClickHouse the cells that were evicted."""
        settings = self._settings
        self._log.rewind()
        sources = await self.reopen()
        books = self._books = Books(
            sources,
            int(self._clock()),
            open_max=settings.open_cells_max,
            evicted_max=settings.evicted_cells_max,
            sums_max=settings.sums_max,
            adopts=True,
        )
        await self._log.catch_up(self._take)
        ends = await self._log.catch_up(self._take)  # a long first reading may have been overtaken by compaction
        await asyncio.to_thread(self._adopt, books, ends)
        logger.info(
            "the audit begins: %d partitions, %d open cells",
            len(books.sources),
            sum(len(source.open) for source in books.sources.values()),
        )

    async def reopen(self) -> Sequence[str]:
        """Connects to Kafka again, where reading had come to; returns the sources."""
        await self._log.close()
        return await self._log.open()

    def _take(self, source: str, record: ConsumerRecord) -> None:
        self.books.feed(source, record.offset, record.key, record.value, record.headers)

    def _adopt(self, books: Books, ends: dict[str, int]) -> None:
        minutes = books.open_minutes()
        spans = books.spans
        for shown in self._asker.evicted_sums(spans.reach_s, spans.minutes_s, ends, minutes):
            if shown.source in books.sources:
                books.adopt(shown.source, shown.organization_id, shown.start_s, shown.amounts)
        for row in self._asker.rows_of_minutes(minutes, spans.reach_s) if minutes else ():
            if row.source in books.sources and row.cell.offset < ends[row.source]:
                books.adopt_cell(row.source, row.key, row.cell)
        books.settle(nothing_older=not self._asker.has_older(spans.reach_s))

    async def walk(self) -> AsyncIterator[None]:
        """Looks at all parts: the ledger and the open hours first, and again each interval, between them the past, day
        by day. Yields after each look.

        After a look at the past it rests, so that ClickHouse is busy with them for no more than the set share.
        """
        self.books.advance(int(self._clock()))
        fresh: list[Slice | None] = [None, Slice(self.books.spans.minutes_s, _END_OF_TIME_S, True)]
        past = await self._past()
        fresh_at = float("-inf")
        left = list(reversed(past))
        while True:
            if time.monotonic() - fresh_at >= self._settings.interval_s:
                fresh_at = time.monotonic()
                for part in fresh:
                    self.findings.put(part, await self._confirmed(part))
                    yield
            if not left:
                break
            began = time.monotonic()
            days = left.pop()
            self.findings.put(days, await self._confirmed(days))
            spent_s = time.monotonic() - began
            yield
            await asyncio.sleep(spent_s * (100 / self._settings.share_percent - 1))
        for gone in self.findings.by_part.keys() - {*fresh, *past}:
            del self.findings.by_part[gone]
        self.findings.walks += 1
        self.findings.walked_at_s = self._clock()

    async def _confirmed(self, part: Slice | None) -> Looked:
        """What two looks in a row find, narrowed down."""
        looked = await self._look(part)
        if not looked.differences:
            return looked
        await asyncio.sleep(CONFIRM_S)
        before = {one.place for one in looked.differences}
        looked = await self._look(part)
        again = [one for one in looked.differences if one.place in before]
        return looked._replace(differences=await self._narrow(again))

    async def _past(self) -> list[Slice]:
        """The days that hold anything, the newest first; adjacent ones together while they have few rows."""
        reach_s, end_s = self.books.spans.reach_s, int(self._clock()) // DAY_S * DAY_S + DAY_S
        rows = await asyncio.to_thread(self._asker.rows_by_day, reach_s, end_s)
        slices: list[Slice] = []
        room = 0
        for day_s in sorted((rows.keys() | self.books.days()) & set(range(reach_s, end_s, DAY_S)), reverse=True):
            room -= rows.get(day_s, 0)
            if slices and room >= 0:
                slices[-1] = slices[-1]._replace(start_s=day_s)
            else:
                slices.append(Slice(day_s, day_s + DAY_S, False))
                room = ROWS_TOGETHER_MAX - rows.get(day_s, 0)
        return slices

    async def _cut(self) -> dict[str, int]:
        """The sink's positions, and then the log to its end."""
        sunk, self._sunk_at_ms = await asyncio.to_thread(self._asker.positions, self._log.topic)
        ends = await self._log.catch_up(self._take)
        for source, offset in sunk.items():
            if offset > ends.get(source, offset):
                raise LogCutError(
                    f"ClickHouse holds {source} up to offset {offset}, but its log ends at {ends[source]}: it "
                    "was cut or made anew. Give a topic that was made anew another prefix, or restore the log."
                )
        return sunk

    async def _cut_after(self, sunk: dict[str, int], shown: Sequence[ShownSum]) -> Cut:
        """The cut of an answer; where the logs end now matters only if a row seems to be newer than the books."""
        sources = self.books.sources
        if any(one.source in sources and one.newest_offset >= sources[one.source].next_offset for one in shown):
            return Cut(sunk, await self._log.ends())
        return Cut(sunk, {name: source.next_offset for name, source in sources.items()})

    async def _look(self, part: Slice | None) -> Looked:
        books = self.books
        if part is None:
            await self._log.catch_up(self._take)
            return ledger_differences(books)
        start_s, end_s, by_minutes = part
        sunk = await self._cut()
        if by_minutes:
            shown = await asyncio.to_thread(self._asker.sums, start_s, end_s, 60)
            return sum_differences(books, shown, await self._cut_after(sunk, shown), start_s, end_s)
        days = await asyncio.to_thread(self._asker.days, start_s, end_s)
        hours = await asyncio.to_thread(self._asker.hours, start_s, end_s)
        shown = await asyncio.to_thread(self._asker.sums, start_s, end_s, HOUR_S)
        until_s = min(end_s, books.spans.minutes_s)
        cut = await self._cut_after(sunk, shown)
        past = [one for one in shown if one.start_s < until_s]
        looked = sum_differences(books, past, cut, start_s, until_s) if start_s < until_s else Looked([], 0)
        return looked.plus(self._rolled(days, hours, shown))

    def _rolled(self, days: RolledSums, hours: RolledSums, shown: Sequence[ShownSum]) -> Looked:
        rolled_until_s = self._sunk_at_ms // 1000 - int(self._settings.roll_patience_s)
        minutes, ingested = RolledSums(), RolledSums()
        for one in shown:
            minutes.add(RolledName(one.organization_id, one.start_s), Rolled(one.amounts, one.version, one.ingested_s))
            ingested.add(
                RolledName(one.organization_id, one.start_s // DAY_S * DAY_S), Rolled(ingested_s=one.ingested_s)
            )
        hours_of_days = RolledSums()
        for name, rolled in hours.sums.items():
            hours_of_days.add(name._replace(start_s=name.start_s // DAY_S * DAY_S), rolled)
        for name, rolled in ingested.sums.items():
            if name in hours_of_days.sums:
                hours_of_days.add(name, rolled)
        of_hours = rolled_differences("minute_hour", minutes, hours, HOUR_S, rolled_until_s)
        return of_hours.plus(rolled_differences("hour_day", hours_of_days, days, DAY_S, rolled_until_s))

    async def _narrow(self, differences: Sequence[Difference]) -> list[Difference]:
        """The differences, as finely named as can be."""
        found: list[Difference] = []
        for number, whole in enumerate(differences):
            if number >= NARROWED_MAX or whole.place.pair == "ledger_cells":
                found.append(whole)
            elif whole.place.pair == "cells_minute":
                sunk = await self._cut()
                shown = await asyncio.to_thread(self._asker.rows_of, whole.place)
                cut = Cut(sunk, await self._log.ends())
                found += narrowed(whole, cell_differences(self.books, whole.place, shown, cut))
            else:
                found += narrowed(whole, await asyncio.to_thread(self._narrow_rolled, whole))
        return found

    def _narrow_rolled(self, whole: Difference) -> list[Difference]:
        place = whole.place
        assert place.organization_id is not None
        times = place.start_s, place.start_s + place.length_s
        if place.pair == "minute_hour":
            coarse = self._asker.hours(*times, place.organization_id)
            fine = self._asker.minutes_of(*times, place.organization_id)
        else:
            coarse = self._asker.days(*times, place.organization_id)
            fine = RolledSums()
            for name, rolled in self._asker.hours(*times, place.organization_id).sums.items():
                fine.add(name._replace(start_s=place.start_s), rolled)
        return rolled_differences(place.pair, fine, coarse, place.length_s, _END_OF_TIME_S).differences
