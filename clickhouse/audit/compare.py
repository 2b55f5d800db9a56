"""The comparisons, each at a cut where both sides must say the same: pure.

What the log has and ClickHouse does not yet, or the other way round, is in motion and not compared: a row of ClickHouse
is the state record at the offset in its version, and the sink's position says up to which offset all rows are there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sluicegate_schemas.alerts import DriftPair
from sluicegate_schemas.state import parse_rollup_key

from .books import OFFSET_MASK, Books, Cell
from .differences import MINUTE_S, NOTHING, Amounts, Difference, Looked, Place, month_of, month_start_s


class ShownSum(NamedTuple):
    """Rows of usage_minute that ClickHouse summed up: of one source and organization, from ``start_s`` on."""

    source: str
    organization_id: str
    start_s: int
    amounts: Amounts
    newest_offset: int
    """The highest offset in the rows' versions."""
    version: int = 0
    """The sum of the rows' versions."""
    ingested_s: int = 0
    """When the newest of the rows came in, in epoch seconds by ClickHouse's clock."""


class ShownCell(NamedTuple):
    """One row of usage_minute; ``key`` is the cell's row key in the state."""

    source: str
    key: bytes
    cell: Cell


@dataclass(frozen=True, slots=True)
class Cut:
    """What is known of the moment at which ClickHouse was asked.

    ``sunk``: by source, below which offset all records were in ClickHouse before it was asked. ``ends``: where the logs
    ended after it had answered; no row can come from beyond.
    """

    sunk: Mapping[str, int]
    ends: Mapping[str, int]


def ledger_differences(books: Books) -> Looked:
    """Ledger ↔ cells: credits by organization and month, and events by partition, as of the end of what is folded.

    Only months whose every day is within reach are compared. A correction is booked in a later month's ledger than its
    cell lies in, and counts for the cell's.
    """
    ledger: dict[tuple[str, str], int] = {}
    for source in books.sources.values():
        for (organization_id, month), row in source.ledgers.items():
            own = organization_id, month
            ledger[own] = ledger.get(own, 0) + row.used_micro - sum(row.corrections_micro.values())
            for corrected, micro in row.corrections_micro.items():
                ledger[organization_id, corrected] = ledger.get((organization_id, corrected), 0) + micro
    months = [
        name
        for name in sorted(ledger.keys() | books.credits_micro.keys())
        if month_start_s(name[1]) >= books.spans.reach_s
    ]
    found = [
        Difference(
            Place("ledger_cells", *name),
            Amounts(credits_micro=ledger.get(name, 0)),
            Amounts(credits_micro=books.credits_micro.get(name, 0)),
        )
        for name in months
        if ledger.get(name, 0) != books.credits_micro.get(name, 0)
    ]
    for name, source in books.sources.items():
        if source.events_before is not None and source.counted != source.events_before + source.events:
            expected = Amounts(events=source.counted - source.events_before)
            place = Place("ledger_cells", None, None, source=name)
            found.append(Difference(place, expected, Amounts(events=source.events)))
    return Looked(found, len(months) + len(books.sources))


def sum_differences(books: Books, shown: Iterable[ShownSum], cut: Cut, start_s: int, end_s: int) -> Looked:
    """Cells ↔ minutes: the sums of all spans that begin in the range, by source and organization."""
    there: dict[tuple[int, str, str], tuple[Amounts, int]] = {}
    for one in shown:
        if one.source not in books.sources:
            continue  # another generation of topics writes to the same tables
        name = books.spans.start_s(one.start_s), one.source, one.organization_id
        amounts, newest_offset = there.get(name, (NOTHING, -1))
        there[name] = amounts.plus(one.amounts), max(newest_offset, one.newest_offset)
    wanted = {(start, source, org): held for start, source, org, held in books.sums(start_s, end_s)}
    looked = Looked([], 0)
    in_motion = 0
    for name in wanted.keys() | there.keys():
        start, source, organization_id = name
        held = wanted.get(name)
        amounts, newest_offset = there.get(name, (NOTHING, -1))
        is_behind = held is not None and held.newest_offset >= cut.sunk.get(source, 0)
        is_ahead = books.sources[source].next_offset <= newest_offset < cut.ends[source]
        if is_behind or is_ahead:
            in_motion += 1
            continue
        expected = NOTHING if held is None else held.amounts
        if amounts != expected:
            place = Place("cells_minute", organization_id, month_of(start), start, books.spans.length_s(start), source)
            looked.differences.append(Difference(place, expected, amounts))
    looked.differences.sort(key=lambda one: one.place[:6])
    return Looked(looked.differences, len(wanted.keys() | there.keys()) - in_motion, in_motion)


def cell_differences(books: Books, place: Place, shown: Iterable[ShownCell], cut: Cut) -> list[Difference]:
    """Cells ↔ minutes within one span of one source and organization (``place``), row by row.

    Names the cells that are open or remembered. What the others differ by is left to ``narrowed``.
    """
    assert place.source is not None
    assert place.organization_id is not None
    source = books.sources[place.source]
    sunk = cut.sunk.get(place.source, 0)
    rows = {one.key: one.cell for one in shown}
    prefix = f"c|{place.organization_id}|".encode()
    held = {
        key: cell
        for cells in (source.open, source.evicted)
        for key, cell in cells.items()
        if key.startswith(prefix) and 0 <= parse_rollup_key(key)[3] * 60 - place.start_s < place.length_s
    }
    are_all_held = _sum_of(books, place) == Amounts.total(cell.amounts for cell in held.values())
    found = []
    for key in sorted(held.keys() | rows.keys()):
        cell, row = held.get(key), rows.get(key)
        if row is not None and source.next_offset <= row.offset < cut.ends[place.source]:
            continue  # written since
        if cell is None:
            if row is not None and are_all_held and row.amounts != NOTHING:
                found.append(_named(place, key, row, NOTHING, row.amounts, "the state's log never had such a cell"))
        elif cell.offset >= sunk:
            continue  # on its way
        elif row is None:
            if cell.amounts != NOTHING:
                found.append(_named(place, key, cell, cell.amounts, NOTHING, "the row is missing"))
        elif row.amounts != cell.amounts:
            why = _version_words(row.version, cell.version)
            found.append(_named(place, key, row, cell.amounts, row.amounts, why))
    return found


def narrowed(whole: Difference, parts: Sequence[Difference]) -> list[Difference]:
    """``parts``, and what of ``whole`` they do not explain."""
    rest = whole.drift.minus(Amounts.total(part.drift for part in parts))
    if rest == NOTHING:
        return list(parts)
    if not parts:
        return [whole]
    found = whole.found.minus(Amounts.total(part.drift for part in parts))
    return [*parts, whole._replace(found=found)]


def _sum_of(books: Books, place: Place) -> Amounts:
    for _, source, organization_id, held in books.sums(place.start_s, place.start_s + MINUTE_S):
        if (source, organization_id) == (place.source, place.organization_id):
            return held.amounts
    return NOTHING


def _named(place: Place, key: bytes, cell: Cell, expected: Amounts, found: Amounts, why: str) -> Difference:
    _, api_key_id, operation, minute, chunk = parse_rollup_key(key)
    names = place._replace(
        start_s=minute * 60,
        length_s=MINUTE_S,
        api_key_id=api_key_id,
        operation=operation,
        category=cell.category,
        chunk=chunk,
    )
    return Difference(names, expected, found, why)


def _version_words(row: int, cell: int) -> str:
    if row == cell:
        return "the row has the right version and other amounts"
    offset = row & OFFSET_MASK
    if row < cell:
        return f"the row is as of state offset {offset}, a newer one got lost"
    return f"no record of this cell stands at state offset {offset}, where the row says that it is from"


class Rolled(NamedTuple):
    """Rows of one table summed up: their amounts, the sum of their versions, and when the newest came in (epoch s)."""

    amounts: Amounts = NOTHING
    version: int = 0
    ingested_s: int = 0

    def plus(self, other: "Rolled") -> "Rolled":
        """Both together."""
        newest_s = max(self.ingested_s, other.ingested_s)
        return Rolled(self.amounts.plus(other.amounts), self.version + other.version, newest_s)


class RolledName(NamedTuple):
    """Whose rows were summed; key and operation are None where all of them are."""

    organization_id: str
    start_s: int
    api_key_id: str | None = None
    operation: str | None = None


@dataclass(slots=True)
class RolledSums:
    """Sums of one table by name."""

    sums: dict[RolledName, Rolled] = field(default_factory=dict)

    def add(self, name: RolledName, one: Rolled) -> None:
        """Adds ``one`` to what ``name`` has."""
        held = self.sums.get(name)
        self.sums[name] = one if held is None else held.plus(one)


def rolled_differences(
    pair: DriftPair, fine: RolledSums, coarse: RolledSums, length_s: int, rolled_until_s: int
) -> Looked:
    """Minutes ↔ hours, or hours ↔ days; ``coarse`` was read before ``fine``, so it can only be behind.

    A sum of versions that is equal means: rolled from these very rows. A lower one is a delay while the newest row came
    in after ``rolled_until_s``, and a row that was never rolled otherwise; a higher one means that rows got lost.
    """
    looked = Looked([], 0)
    in_motion = 0
    for name in fine.sums.keys() | coarse.sums.keys():
        wanted, there = fine.sums.get(name, Rolled()), coarse.sums.get(name, Rolled())
        why = ""
        if there.version < wanted.version:
            if wanted.ingested_s >= rolled_until_s:
                in_motion += 1
                continue
            why = "the coarser table was not brought up to date"
        elif there.version > wanted.version:
            why = "rows of the finer table that the coarser one was made of are gone"
        if wanted.amounts != there.amounts:
            place = Place(
                pair, name.organization_id, month_of(name.start_s), name.start_s, length_s,
                api_key_id=name.api_key_id, operation=name.operation,
            )  # fmt: skip
            looked.differences.append(Difference(place, wanted.amounts, there.amounts, why))
    looked.differences.sort(key=lambda one: (one.place.start_s, one.place.organization_id, one.place.api_key_id or ""))
    return Looked(looked.differences, len(fine.sums.keys() | coarse.sums.keys()) - in_motion, in_motion)
