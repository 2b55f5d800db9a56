"""The audit's comparisons: for any log and any delay nothing is reported; one damaged bucket is named, and it alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from clickhouse.audit.books import OFFSET_MASK, Books, Cell
from clickhouse.audit.compare import (
    Cut,
    ShownCell,
    ShownSum,
    cell_differences,
    ledger_differences,
    narrowed,
    sum_differences,
)
from clickhouse.audit.differences import NOTHING, Amounts, Difference, month_of
from clickhouse.audit.spans import Spans
from clickhouse.rows import StateRows, UsageRow
from sluicegate_schemas.state import (
    ENCODE,
    EPOCH_BYTES,
    TOMBSTONE_EPOCH_HEADER,
    TOMBSTONE_REPAIR_HEADER,
    RollupCell,
    parse_rollup_key,
    rollup_key,
)
from tests.state_log import Record, StateLog, make_log

SOURCE = "state/0"
NOW_S = 29_000_000 * 60 + 600
END_S = NOW_S + 86_400 * 365

seeds = st.integers(0, 2**32)


@dataclass
class Table:
    """usage_minute: for each cell the row with the highest version."""

    rows: dict[bytes, UsageRow] = field(default_factory=dict)

    def insert(self, rows: list[UsageRow]) -> None:
        for row in rows:
            key = rollup_key(row.org_id, row.api_key_id, row.operation, row.minute // 60, row.chunk)
            if key not in self.rows or row.version >= self.rows[key].version:
                self.rows[key] = row

    def cells(self) -> list[ShownCell]:
        return [ShownCell(SOURCE, key, Cell(row.version, row.category, amounts(row))) for key, row in self.rows.items()]

    def sums(self) -> list[ShownSum]:
        return [
            ShownSum(SOURCE, row.org_id, row.minute, amounts(row), row.version & OFFSET_MASK)
            for row in self.rows.values()
        ]


def amounts(row: UsageRow) -> Amounts:
    return Amounts(row.requests, row.errors, row.throttled, row.units, row.credits_micro, row.events)


def books_of(records: list[Record], now_s: int = NOW_S, *, adopts: bool = False, **bounds: int) -> Books:
    limits = {"open_max": 10_000, "evicted_max": 10_000, "sums_max": 10_000} | bounds
    books = Books([SOURCE], now_s, adopts=adopts, **limits)
    feed(books, records)
    return books


def feed(books: Books, records: list[Record]) -> None:
    for record in records:
        books.feed(SOURCE, record.offset, record.key, record.value, record.headers)


def sunk(records: list[Record]) -> Table:
    table, sink = Table(), StateRows(SOURCE)
    sink.feed(records)
    table.insert(sink.take().rows)
    return table


def findings(books: Books, table: Table, sunk_below: int, log_end: int) -> list[Difference]:
    """As a look has them: sums first, then row by row what differs."""
    cut = Cut({SOURCE: sunk_below}, {SOURCE: log_end})
    found: list[Difference] = []
    for whole in sum_differences(books, table.sums(), cut, 0, END_S).differences:
        place = whole.place
        rows = [
            one
            for one in table.cells()
            if parse_rollup_key(one.key)[0] == place.organization_id
            and 0 <= parse_rollup_key(one.key)[3] * 60 - place.start_s < place.length_s
        ]
        found += narrowed(whole, cell_differences(books, place, rows, cut))
    return found


@given(seeds, st.integers(1, 40), st.data())
def test_whatever_the_sink_and_the_audit_have_read_so_far_a_delay_is_no_drift(
    seed: int, steps: int, data: st.DataObject
) -> None:
    log = make_log(seed, steps)
    ends = [batch[-1].offset + 1 for batch in log.batches]
    audited, written, position = (data.draw(st.sampled_from([0, *ends])) for _ in range(3))
    position = min(written, position, audited)  # the position is asked first, and follows the rows
    books = books_of([record for record in log.records if record.offset < audited])
    table = sunk([record for record in log.records if record.offset < written])
    assert findings(books, table, position, log.end) == []


@given(seeds, st.integers(2, 40), st.sampled_from([-1, 1]), st.sampled_from(["events", "credits_micro", "units"]),
       st.sampled_from(["higher version", "same version", "beyond the log"]), st.data())  # fmt: skip
def test_a_bucket_that_is_wrong_by_one_is_named_and_no_other(
    seed: int, steps: int, delta: int, name: str, version: str, data: st.DataObject
) -> None:
    log = make_log(seed, steps)
    books, table = books_of(log.records), sunk(log.records)
    if not table.rows:
        return
    key = data.draw(st.sampled_from(sorted(table.rows)))
    row = table.rows[key]
    if version == "higher version" and row.version & OFFSET_MASK == log.end - 1:
        return
    added = {"higher version": 1, "same version": 0, "beyond the log": 2**62}[version]
    table.rows[key] = row._replace(**{name: getattr(row, name) + delta}, version=row.version + added)
    [found] = findings(books, table, log.end, log.end)
    org_id, api_key_id, operation, minute, chunk = parse_rollup_key(key)
    place = found.place
    assert (place.organization_id, place.api_key_id, place.operation) == (org_id, api_key_id, operation)
    assert (place.start_s, place.length_s, place.chunk) == (minute * 60, 60, chunk)
    assert found.drift == NOTHING._replace(**{name: delta})


@given(seeds, st.integers(2, 40), st.data())
def test_a_row_that_is_gone_is_named(seed: int, steps: int, data: st.DataObject) -> None:
    log = make_log(seed, steps)
    books, table = books_of(log.records), sunk(log.records)
    held = [key for key, row in table.rows.items() if amounts(row) != NOTHING]
    if not held:
        return
    key = data.draw(st.sampled_from(sorted(held)))
    row = table.rows.pop(key)
    [found] = findings(books, table, log.end, log.end)
    assert (found.place.start_s, found.place.chunk, found.place.operation) == (row.minute, row.chunk, row.operation)
    assert found.drift == NOTHING.minus(amounts(row))
    assert found.why == "the row is missing"


@given(seeds, st.integers(2, 40), st.data())
def test_an_audit_that_begins_late_adopts_what_was_evicted_and_finds_damage_after_that(
    seed: int, steps: int, data: st.DataObject
) -> None:
    """Evicted cells' records may be gone from the log, which is compacted up to anywhere; ClickHouse has them, and each
    part is counted once."""
    log = make_log(seed, steps)
    table = sunk(log.records)
    dirty_from = data.draw(st.integers(0, log.end))
    books = books_of(
        [record for record in log.records if record.offset >= dirty_from or is_kept(log, record)], adopts=True
    )
    books.sources[SOURCE].next_offset = log.end
    minutes = books.open_minutes()
    for shown in table.sums():
        if shown.start_s not in minutes:
            books.adopt(SOURCE, shown.organization_id, shown.start_s, shown.amounts)
    for one in table.cells():
        if parse_rollup_key(one.key)[3] * 60 in minutes:
            books.adopt_cell(SOURCE, one.key, one.cell)
    books.settle(nothing_older=True)
    assert findings(books, table, log.end, log.end) == []
    if table.rows:
        key = data.draw(st.sampled_from(sorted(table.rows)))
        row = table.rows[key]
        table.rows[key] = row._replace(events=row.events + 1)
        found = findings(books, table, log.end, log.end)
        assert sum(one.drift.events for one in found) == 1
        assert {(one.place.organization_id, one.place.start_s) for one in found} == {(row.org_id, row.minute)}


def is_kept(log: StateLog, record: Record) -> bool:
    """Whether a full compaction keeps the record."""
    return all(later.key != record.key or later.offset <= record.offset for later in log.records)


@given(seeds, st.integers(1, 40), st.lists(st.integers(0, 40 * 86_400), max_size=6))
def test_sums_grow_coarser_and_lose_nothing(seed: int, steps: int, ages_s: list[int]) -> None:
    log = make_log(seed, steps)
    books, table = books_of(log.records), sunk(log.records)
    for age_s in sorted(ages_s):
        books.advance(NOW_S + age_s)
        assert findings(books, table, log.end, log.end) == []
        total = Amounts.total(held.amounts for *_, held in books.sums(0, END_S))
        assert total == Amounts.total(amounts(row) for row in table.rows.values())


@given(seeds, st.integers(1, 20), st.integers(0, 3))
def test_a_record_that_is_read_again_changes_nothing(seed: int, steps: int, times: int) -> None:
    log = make_log(seed, steps)
    books = books_of(log.records, evicted_max=1)
    wanted = {place[:3]: place[3].amounts for place in books.sums(0, END_S)}
    for _ in range(times):
        feed(books, log.records)
    assert {place[:3]: place[3].amounts for place in books.sums(0, END_S)} == wanted


@given(seeds, st.integers(1, 30), st.sampled_from([-1, 0, 1]), st.booleans())
def test_a_ledger_that_is_wrong_by_one_is_named_with_its_organization_and_month(
    seed: int, steps: int, delta: int, is_corrected: bool
) -> None:
    log = make_log(seed, steps)
    month = month_of(log.minute * 60)
    used: Counter[str] = Counter()
    for key, cell in log.truth.items():
        used[parse_rollup_key(key)[0]] += cell.credits_micro
    books = books_of(log.records)
    epoch = log.owner.epoch.to_bytes(EPOCH_BYTES, "big")
    offset = log.end
    for organization_id in sorted(used):
        booked_in, corrections = ("2099-01", {month: used[organization_id]}) if is_corrected else (month, {})
        wrong = delta if organization_id == min(used) else 0
        row = ["org", organization_id, None, used[organization_id] + wrong, [], 0, corrections]
        books.feed(SOURCE, offset, f"l|organization|{organization_id}|{booked_in}".encode(), epoch + ENCODE(row), ())
        offset += 1
    events = sum(cell.events for cell in log.truth.values())
    books.feed(SOURCE, offset, b"t|totals", epoch + ENCODE([0, events]), ())
    found = list(ledger_differences(books).differences)
    if not used or not delta or Spans.at(NOW_S).reach_s > NOW_S:
        assert found == []
        return
    [one] = found
    assert (one.place.organization_id, one.drift.credits_micro) == (min(used), -delta)
    assert one.place.month == ("2099-01" if is_corrected else month)


def test_an_event_that_no_cell_counts_is_found_by_partition() -> None:
    log = make_log(7, 20)
    books = books_of(log.records)
    events = sum(cell.events for cell in log.truth.values())
    epoch = log.owner.epoch.to_bytes(EPOCH_BYTES, "big")
    books.feed(SOURCE, log.end, b"t|totals", epoch + ENCODE([0, events + 1]), ())
    found = [one for one in ledger_differences(books).differences if one.place.source == SOURCE]
    assert [(one.expected.events, one.found.events) for one in found] == [(events + 1, events)]


def test_a_rollup_cell_of_the_contract_is_what_the_audit_sums() -> None:
    assert Amounts._fields == ("requests", "errors", "throttled", "units", "credits_micro", "events")
    assert set(Amounts._fields) < set(RollupCell.__struct_fields__)


def test_a_void_record_that_was_taken_for_valid_is_undone_as_the_sink_undoes_it() -> None:
    """Compaction had removed the claim that made it void; then its owner's repair follows."""
    key, former, owner = rollup_key("org_a", "key_a", "search.knn", NOW_S // 60, 3), 1 << 32, 2 << 32
    value = former.to_bytes(EPOCH_BYTES, "big") + ENCODE(RollupCell("search", 1, events=1, credits_micro=5))
    marks = ((TOMBSTONE_EPOCH_HEADER, owner.to_bytes(EPOCH_BYTES, "big")), (TOMBSTONE_REPAIR_HEADER, b""))
    records = [Record(0, key, value), Record(1, key, None, marks)]
    books, table = books_of(records), sunk(records)
    assert amounts(table.rows[key]) == NOTHING
    assert findings(books, table, 2, 2) == []
    assert books.credits_micro == {("org_a", month_of(NOW_S)): 0}
