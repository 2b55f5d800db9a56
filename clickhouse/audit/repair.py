"""Mends in ClickHouse what can be made anew: rows of cells that the state's books still hold, hours and days from finer
rows. Safe while usage flows, and to repeat: what a sink writes meanwhile has a higher version and stays.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from sluicegate_schemas.state import rollup_key

from ..roll import roll_day
from ..rows import UsageRow
from .books import OFFSET_MASK, Books
from .differences import DAY_S, HOUR_S, NOTHING, Difference, Place
from .words import place_words

_OF_BUCKET: Final = """
    org_id = {org:String} AND minute = toDateTime({minute:UInt32}, 'UTC') AND api_key_id = {key:String}
    AND operation = {operation:String} AND source = {source:String} AND chunk = {chunk:UInt64}
"""
_VERSIONS: Final = f"SELECT DISTINCT toString(version) FROM usage_minute WHERE {_OF_BUCKET}"  # noqa: S608 (constant)
_DELETE_VERSION: Final = f"DELETE FROM usage_minute WHERE {_OF_BUCKET} AND version = toUInt128({{version:String}})"  # noqa: S608 (constant)
_DELETE_HOUR: Final = (
    "DELETE FROM usage_hour WHERE org_id = {org:String} AND hour >= toDateTime({start:UInt32}, 'UTC') "
    "AND hour < toDateTime({end:UInt32}, 'UTC')"
)
_DELETE_ORGANIZATION_HOUR: Final = _DELETE_HOUR.replace("usage_hour", "usage_organization_hour")
_DELETE_DAY: Final = (
    "DELETE FROM usage_day WHERE org_id = {org:String} AND day >= toDateTime({start:UInt32}, 'UTC') "
    "AND day < toDateTime({end:UInt32}, 'UTC')"
)
_SYNC: Final = {"lightweight_deletes_sync": 2}


Versions = dict[Place, list[int]]
"""The versions of the rows that stand in each named bucket."""


def versions_of(client: Client, differences: Sequence[Difference]) -> Versions:
    """What stands now in the buckets of usage_minute that differ. Raises clickhouse_connect's errors."""
    return {
        one.place: [int(row[0]) for row in client.query(_VERSIONS, parameters=_bucket(one.place)).result_rows]
        for one in differences
        if _is_named(one.place)
    }


def mend(
    books: Books, client: Client, differences: Sequence[Difference], versions: Versions, ends: Mapping[str, int]
) -> list[str]:
    """Mends what it can; returns a line for each difference. Raises clickhouse_connect's errors; repeat it then.

    ``ends``: where the logs ended after ``versions`` were asked for. A version that no record can have is removed.
    """
    lines = []
    to_roll: set[tuple[str, int, int]] = set()
    wrong_minutes: set[tuple[str | None, str | None]] = set()
    for one in differences:
        place = one.place
        if place.pair == "ledger_cells":
            wrong_minutes.add((place.organization_id, place.month))
            lines.append(f"not mended, look for the cause: {place_words(place)}")
        elif place.pair == "cells_minute":
            if _mend_cell(books, client, one, versions.get(place), ends):
                assert place.organization_id is not None
                to_roll.add((place.organization_id, place.start_s // HOUR_S * HOUR_S, HOUR_S))
                lines.append(f"mended: {place_words(place)}")
            else:
                wrong_minutes.add((place.organization_id, place.month))
                lines.append(
                    f"not mended, the state no longer holds it, restore it from a backup: {place_words(place)}"
                )
    for one in differences:
        place = one.place
        if place.pair not in ("minute_hour", "hour_day"):
            continue
        assert place.organization_id is not None
        if (place.organization_id, place.month) in wrong_minutes:
            lines.append(f"not rolled anew while its minutes are wrong: {place_words(place)}")
        else:
            to_roll.add((place.organization_id, place.start_s, place.length_s))
            lines.append(f"rolled anew: {place_words(place)}")
    _roll(client, to_roll)
    return lines


def _is_named(place: Place) -> bool:
    names = (place.organization_id, place.api_key_id, place.operation, place.chunk, place.source)
    return place.pair == "cells_minute" and all(name is not None for name in names)


def _mend_cell(
    books: Books, client: Client, one: Difference, versions: Sequence[int] | None, ends: Mapping[str, int]
) -> bool:
    place = one.place
    if versions is None:
        return False
    organization_id, api_key_id, operation = str(place.organization_id), str(place.api_key_id), str(place.operation)
    source, chunk = str(place.source), place.chunk or 0
    partition = books.sources[source]
    cell = partition.cell(rollup_key(organization_id, api_key_id, operation, place.start_s // 60, chunk))
    if cell is None and one.expected != NOTHING:
        return False
    for version in versions:
        if partition.next_offset <= version & OFFSET_MASK < ends[source]:
            continue  # newer than the books: the sink's
        parameters = {**_bucket(place), "version": str(version)}
        client.command(_DELETE_VERSION, parameters=parameters, settings=_SYNC)
    if cell is not None:
        names = (organization_id, place.start_s, api_key_id, operation, source, chunk, cell.category)
        row = UsageRow(*names, *cell.amounts, cell.rated_version, cell.version)
        columns: list[Any] = [[value] for value in row]
        client.insert("usage_minute", columns, column_names=list(UsageRow._fields), column_oriented=True)
    return True


def _bucket(place: Place) -> dict[str, Any]:
    return {
        "org": place.organization_id, "minute": place.start_s, "key": place.api_key_id, "operation": place.operation,
        "source": place.source, "chunk": place.chunk,
    }  # fmt: skip


def _roll(client: Client, to_roll: set[tuple[str, int, int]]) -> None:
    """Hours and days keep the highest version, so what is wrong has to go before it is rolled anew."""
    for organization_id, start_s, length_s in sorted(to_roll):
        day_s = start_s // DAY_S * DAY_S
        if length_s < DAY_S:
            hour = {"org": organization_id, "start": start_s, "end": start_s + length_s}
            # The audit compares hours with minutes: what it looks at is away for as short as can be.
            for statement in (_DELETE_ORGANIZATION_HOUR, _DELETE_HOUR):
                client.command(statement, parameters=hour, settings=_SYNC)
        day = {"org": organization_id, "start": day_s, "end": day_s + DAY_S}
        client.command(_DELETE_DAY, parameters=day, settings=_SYNC)
    for day_s in sorted({start_s // DAY_S * DAY_S for _, start_s, _ in to_roll}):
        midnight = datetime.fromtimestamp(day_s, UTC)
        roll_day(client, midnight, since=midnight - timedelta(days=1))
