"""Rows made of a state log come to the same table, whatever was written, in whatever runs and how often it is read."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from clickhouse.rows import StateRows, UsageRow
from sluicegate_schemas.state import RollupCell, parse_rollup_key
from tests.state_log import Record, StateLog, compacted, make_log

SOURCE = "sluicegate.state/0"
CellRow = tuple[str, str, str, int, int]
Counts = tuple[str, int, int, int, int, int, int, int]

logs = st.builds(make_log, st.integers(0, 2**32), st.integers(0, 60))
logs_without_evictions = st.builds(make_log, st.integers(0, 2**32), st.integers(0, 60), evictions=st.just(False))


class Table:
    """What ReplacingMergeTree with FINAL holds: for each key the row with the highest version, the last of equals."""

    def __init__(self) -> None:
        self._rows: dict[tuple[object, ...], UsageRow] = {}

    def insert(self, rows: Iterable[UsageRow]) -> None:
        for row in rows:
            key = row[:6]
            if key not in self._rows or row.version >= self._rows[key].version:
                self._rows[key] = row

    def cells(self) -> dict[CellRow, Counts]:
        """Cells that counted anything."""
        return {
            (row.org_id, row.api_key_id, row.operation, row.minute // 60, row.chunk): counts(row)
            for row in self._rows.values()
            if row.events
        }


def counts(cell: UsageRow | RollupCell) -> Counts:
    return (
        cell.category,
        cell.requests,
        cell.errors,
        cell.throttled,
        cell.units,
        cell.credits_micro,
        cell.events,
        cell.rated_version,
    )


def truth(log: StateLog) -> dict[CellRow, Counts]:
    return {parse_rollup_key(key): counts(cell) for key, cell in log.truth.items()}


def read(table: Table, rows: StateRows, records: list[Record], data: st.DataObject) -> None:
    """Feeds ``records`` in runs of any length, inserting now and then."""
    at = 0
    while at < len(records):
        length = data.draw(st.integers(1, len(records) - at), label="run")
        rows.feed(records[at : at + length])
        at += length
        if data.draw(st.booleans(), label="insert"):
            table.insert(rows.take().rows)


@settings(deadline=None)  # other work on the machine must not fail it
@given(logs, st.data())
def test_any_way_to_read_a_log_comes_to_the_rightful_counts(log: StateLog, data: st.DataObject) -> None:
    table, rows = Table(), StateRows(SOURCE)
    read(table, rows, log.records, data)
    table.insert(rows.take().rows)
    assert table.cells() == truth(log)


@settings(deadline=None)  # other work on the machine must not fail it
@given(logs, st.data())
def test_readers_that_die_and_go_on_from_a_stored_position_come_to_the_rightful_counts(
    log: StateLog, data: st.DataObject
) -> None:
    """A reader dies after inserting rows, before or after storing the position; two may be alive at once."""
    table, records = Table(), log.records
    positions = [(0, 0)]
    for _ in range(data.draw(st.integers(0, 5), label="deaths")):
        start, top_epoch = data.draw(st.sampled_from(positions), label="position")
        end = data.draw(st.integers(start, len(records)), label="dies at")
        rows = StateRows(SOURCE, top_epoch)
        read(table, rows, records[start:end], data)
        if data.draw(st.booleans(), label="stored"):
            table.insert(rows.take().rows)
            positions.append((end, rows.top_epoch))
    start, top_epoch = data.draw(st.sampled_from(positions), label="last position")
    rows = StateRows(SOURCE, top_epoch)
    read(table, rows, records[start:], data)
    table.insert(rows.take().rows)
    assert table.cells() == truth(log)


@settings(deadline=None)  # other work on the machine must not fail it
@given(logs_without_evictions, st.data())
def test_a_log_whose_claims_and_headers_compaction_removed_comes_to_the_rightful_counts(
    log: StateLog, data: st.DataObject
) -> None:
    records = compacted(log.records, data.draw(st.integers(0, log.end), label="compacted below"))
    table, rows = Table(), StateRows(SOURCE)
    read(table, rows, records, data)
    table.insert(rows.take().rows)
    assert table.cells() == truth(log)
