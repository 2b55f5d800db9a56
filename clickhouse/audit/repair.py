"""Mends in ClickHouse what can be made anew: rows of cells that the state's books still hold, hours and days from finer
rows. Safe while usage flows, and to repeat: what a sink writes meanwhile has a higher version and stays. Who reads
meanwhile sees what was wrong or what is right: the right row is there before the wrong one goes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from sluicegate_schemas.state import rollup_key

from ..rows import UsageRow
from .books import OFFSET_MASK, Books, Cell
from .differences import HOUR_S, NOTHING, Difference, Place
from .reroll import SYNC, reroll
from .words import place_words

_OF_BUCKET: Final = """
    org_id = {org:String} AND minute = toDateTime({minute:UInt32}, 'UTC') AND api_key_id = {key:String}
    AND operation = {operation:String} AND source = {source:String} AND chunk = {chunk:UInt64}
"""
_VERSIONS: Final = f"SELECT DISTINCT toString(version) FROM usage_minute WHERE {_OF_BUCKET}"  # noqa: S608 (constant)
_DELETE_VERSION: Final = f"DELETE FROM usage_minute WHERE {_OF_BUCKET} AND version = toUInt128({{version:String}})"  # noqa: S608 (constant)


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
    reroll(client, to_roll)
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
    if cell is not None:
        _write(client, place, cell)
    wrong = [
        version
        for version in versions
        # What stands there now and was made since belongs to the sink; the rest that is not lower has to go.
        if not partition.next_offset <= version & OFFSET_MASK < ends[source]
        and (cell is None or version > cell.version)
    ]
    for version in wrong:
        client.command(_DELETE_VERSION, parameters={**_bucket(place), "version": str(version)}, settings=SYNC)
    if cell is not None and wrong:
        _write(client, place, cell)  # a merge in between would have left the wrong one alone
    return True


def _write(client: Client, place: Place, cell: Cell) -> None:
    names = (place.organization_id, place.start_s, place.api_key_id, place.operation, place.source, place.chunk or 0)
    row = (*names, cell.category, *cell.amounts, cell.rated_version, cell.version)
    columns: list[Any] = [[value] for value in row]
    client.insert(
        "usage_minute",
        columns,
        column_names=list(UsageRow._fields),
        column_oriented=True,
        settings={"insert_deduplicate": 0},  # what was inserted once and then deleted has to come again
    )


def _bucket(place: Place) -> dict[str, Any]:
    return {
        "org": place.organization_id, "minute": place.start_s, "key": place.api_key_id, "operation": place.operation,
        "source": place.source, "chunk": place.chunk,
    }  # fmt: skip
