"""What the audit asks ClickHouse: blocking, each question bounded by a range of time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from sluicegate_schemas.state import rollup_key

from ..connection import ClickHouse
from .books import Cell
from .compare import Rolled, RolledName, RolledSums, ShownCell, ShownSum
from .differences import Amounts, Place

MEMORY_BYTES_MAX: Final = 1_000_000_000
THREADS_MAX: Final = 2
"""Of ClickHouse's, for one question of the audit."""
_SUMS: Final = "sum(requests), sum(errors), sum(throttled), sum(units), sum(credits_micro), sum(events)"
_OFFSET: Final = "toUInt64(bitAnd(version, toUInt128(18446744073709551615)))"
_RANGE: Final = "minute >= toDateTime({start:UInt32}, 'UTC') AND minute < toDateTime({end:UInt32}, 'UTC')"
_STEPS: Final = {60: "toStartOfMinute(minute)", 3_600: "toStartOfHour(minute)"}
_SUMS_BY_STEP: Final = """
SELECT source, org_id, toUnixTimestamp({step}) AS start, {sums}, max({offset}), toString(sum(version)),
       toUnixTimestamp(max(ingested_at))
FROM usage_minute FINAL WHERE {range} GROUP BY source, org_id, start
"""
_ROWS: Final = """
SELECT source, org_id, toUnixTimestamp(minute), api_key_id, operation, chunk, category,
       requests, errors, throttled, units, credits_micro, events, rated_version, toString(version)
FROM usage_minute FINAL WHERE {condition}
"""
_POSITIONS: Final = """
SELECT topic, partition, next_offset, toUnixTimestamp64Milli(written_at) FROM sink_position FINAL
WHERE topic = {topic:String}
"""
_HOURS: Final = """
SELECT org_id, toUnixTimestamp(hour) AS start{names}, {sums}, toString(sum(version)) FROM usage_hour FINAL
WHERE hour >= toDateTime({{start:UInt32}}, 'UTC') AND hour < toDateTime({{end:UInt32}}, 'UTC'){condition}
GROUP BY org_id, start{names}
"""
_DAYS: Final = """
SELECT org_id, toUnixTimestamp(day) AS start{names}, {sums}, toString(sum(version)) FROM usage_day FINAL
WHERE day >= toDateTime({{start:UInt32}}, 'UTC') AND day < toDateTime({{end:UInt32}}, 'UTC'){condition}
GROUP BY org_id, start{names}
"""
_MINUTE_NAMES: Final = """
SELECT org_id, toUnixTimestamp(toStartOfHour(minute)) AS start, api_key_id, operation, {sums}, toString(sum(version)),
       toUnixTimestamp(max(ingested_at))
FROM usage_minute FINAL WHERE {range} AND org_id = {{org:String}} GROUP BY org_id, start, api_key_id, operation
"""
_DAYS_HELD: Final = """
SELECT toUnixTimestamp(day) AS start, sum(held) FROM (
    SELECT toStartOfDay(minute) AS day, count() AS held FROM usage_minute WHERE {minute} GROUP BY day
    UNION ALL SELECT toStartOfDay(hour) AS day, count() AS held FROM usage_hour WHERE {hour} GROUP BY day
    UNION ALL SELECT usage_day.day AS day, count() AS held FROM usage_day WHERE {day} GROUP BY day)
GROUP BY start
"""
_OLDER: Final = "SELECT sum(events) FROM usage_day FINAL WHERE day < toDateTime({end:UInt32}, 'UTC')"


class Asker:
    """Asks with a client of its own, made when it is first needed. Raises clickhouse_connect's errors and OSError."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client."""
        if self._client is None:
            self._client = self._clickhouse.connect()
        return self._client

    def close(self) -> None:
        """Closes the connection; the next question opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _rows(self, query: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        settings = {"max_memory_usage": MEMORY_BYTES_MAX, "max_threads": THREADS_MAX}
        try:
            return self.client.query(query, parameters=parameters, settings=settings).result_rows
        except (ClickHouseError, OSError):
            self.close()
            raise

    def positions(self, topic: str) -> tuple[dict[str, int], int]:
        """By source, below which offset all state records are in ClickHouse; and when the sink last said so (ms)."""
        rows = self._rows(_POSITIONS, topic=topic)
        sunk = {f"{row[0]}/{row[1]}": int(row[2]) for row in rows}
        return sunk, max((int(row[3]) for row in rows), default=0)

    def sums(self, start_s: int, end_s: int, step_s: int) -> list[ShownSum]:
        """usage_minute by source, organization and minute or hour."""
        query = (
            _SUMS_BY_STEP.replace("{step}", _STEPS[step_s])
            .replace("{sums}", _SUMS)
            .replace("{offset}", _OFFSET)
            .replace("{range}", _RANGE)
        )
        return [_shown_sum(row) for row in self._rows(query, start=start_s, end=end_s)]

    def evicted_sums(
        self, start_s: int, minutes_s: int, ends: Mapping[str, int], besides: Collection[int]
    ) -> list[ShownSum]:
        """usage_minute as of the offsets ``ends``, by hour and from ``minutes_s`` on by minute, without the minutes
        ``besides`` (epoch seconds)."""
        step = f"if(minute >= toDateTime({int(minutes_s)}, 'UTC'), toStartOfMinute(minute), toStartOfHour(minute))"
        query = _SUMS_BY_STEP.replace("{step}", step).replace("{sums}", _SUMS).replace("{offset}", _OFFSET)
        excluded = "".join(f",{int(minute)}" for minute in sorted(besides))
        condition = (
            "minute >= toDateTime({start:UInt32}, 'UTC')"
            f" AND toUnixTimestamp(minute) NOT IN (0{excluded})"
            f" AND {_OFFSET} < transform(source, {{sources:Array(String)}}, {{ends:Array(UInt64)}}, 0)"
        )
        rows = self._rows(
            query.replace("{range}", condition), start=start_s, sources=list(ends), ends=list(ends.values())
        )
        return [_shown_sum(row) for row in rows]

    def rows_of_minutes(self, minutes: Collection[int], start_s: int) -> Iterator[ShownCell]:
        """The rows of ``minutes`` (epoch seconds) from ``start_s`` on, one by one."""
        wanted = "".join(f",{int(minute)}" for minute in sorted(minutes))
        condition = f"minute >= toDateTime({int(start_s)}, 'UTC') AND toUnixTimestamp(minute) IN (0{wanted})"
        with self.client.query_rows_stream(_ROWS.replace("{condition}", condition)) as stream:
            for row in stream:
                yield _shown_cell(row)

    def rows_of(self, place: Place) -> list[ShownCell]:
        """The rows of one span of one source and organization."""
        condition = f"{_RANGE} AND source = {{source:String}} AND org_id = {{org:String}}"
        rows = self._rows(
            _ROWS.replace("{condition}", condition),
            start=place.start_s,
            end=place.start_s + place.length_s,
            source=place.source,
            org=place.organization_id,
        )
        return [_shown_cell(row) for row in rows]

    def hours(self, start_s: int, end_s: int, organization_id: str | None = None) -> RolledSums:
        """usage_hour by organization and hour; of one organization by key and operation too."""
        return self._rolled(_HOURS, start_s, end_s, organization_id)

    def days(self, start_s: int, end_s: int, organization_id: str | None = None) -> RolledSums:
        """usage_day by organization and day; of one organization by key and operation too."""
        return self._rolled(_DAYS, start_s, end_s, organization_id)

    def _rolled(self, query: str, start_s: int, end_s: int, organization_id: str | None) -> RolledSums:
        names, condition = (
            ("", "") if organization_id is None else (", api_key_id, operation", " AND org_id = {org:String}")
        )
        text = query.format(names=names, sums=_SUMS, condition=condition)
        rolled = RolledSums()
        for row in self._rows(text, start=start_s, end=end_s, org=organization_id or ""):
            count = 2 if organization_id is None else 4
            amounts = Amounts(*(int(value) for value in row[count : count + 6]))
            rolled.add(RolledName(*_names(row[:count])), Rolled(amounts, int(row[count + 6])))
        return rolled

    def minutes_of(self, start_s: int, end_s: int, organization_id: str) -> RolledSums:
        """usage_minute of one organization by hour, key and operation."""
        query = _MINUTE_NAMES.format(sums=_SUMS, range=_RANGE)
        rolled = RolledSums()
        for row in self._rows(query, start=start_s, end=end_s, org=organization_id):
            amounts = Amounts(*(int(value) for value in row[4:10]))
            rolled.add(RolledName(*_names(row[:4])), Rolled(amounts, int(row[10]), int(row[11])))
        return rolled

    def rows_by_day(self, start_s: int, end_s: int) -> dict[int, int]:
        """About how many rows each day (its first second) has in the three tables; days without any are left out."""
        query = _DAYS_HELD
        for column in ("minute", "hour", "day"):
            bounds = _RANGE.replace("minute", "usage_day.day" if column == "day" else column)
            query = query.replace(f"{{{column}}}", bounds)
        return {int(row[0]): int(row[1]) for row in self._rows(query, start=start_s, end=end_s)}

    def has_older(self, end_s: int) -> bool:
        """Whether any usage lies in days before ``end_s``."""
        return bool(self._rows(_OLDER, end=end_s)[0][0])


def _names(row: Sequence[Any]) -> tuple[Any, ...]:
    return (str(row[0]), int(row[1]), *(str(name) for name in row[2:]))


def _shown_sum(row: Sequence[Any]) -> ShownSum:
    source, organization_id, start_s, *rest = row
    *amounts, newest_offset, version, ingested_s = rest
    return ShownSum(
        str(source),
        str(organization_id),
        int(start_s),
        Amounts(*(int(value) for value in amounts)),
        int(newest_offset),
        int(version),
        int(ingested_s),
    )


def _shown_cell(row: Sequence[Any]) -> ShownCell:
    source, organization_id, minute_s, api_key_id, operation, chunk, category, *amounts, rated_version, version = row
    # A damaged name may hold the sign that joins them; then it must not be taken for another cell's.
    org, api_key, what = (str(name).replace("|", "?") for name in (organization_id, api_key_id, operation))
    key = rollup_key(org, api_key, what, int(minute_s) // 60, int(chunk))
    sums = Amounts(*(int(value) for value in amounts))
    return ShownCell(str(source), key, Cell(int(version), str(category), sums, int(rated_version)))
