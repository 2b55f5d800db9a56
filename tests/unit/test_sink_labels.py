"""Ledgers of labels in a state log, and what they come to in ClickHouse."""

from clickhouse.label_rows import LabelRow
from clickhouse.rows import StateRows
from sluicegate_schemas.state import (
    CLAIM_KEY,
    ENCODE,
    TOMBSTONE_EPOCH_HEADER,
    TOMBSTONE_REPAIR_HEADER,
    Claim,
    rollup_version,
)
from streams.domain.tables import LedgerRow, row_key
from tests.state_log import Record

OLD, NEW = 1 << 32 | 77, 2 << 32 | 11
HOUR_MS = 3_600_000
NOON_MS = 497_000 * HOUR_MS
KEY = row_key("l", "label", "org_a:pipeline=nightly:b", "2026-09")


def ledger(offset: int, epoch: int, requests: int, *, at_ms: int = NOON_MS, key: bytes = KEY) -> Record:
    row = LedgerRow("org_a", "org_a", None, requests * 10, [requests * 10], requests, {})
    return Record(offset, key, epoch.to_bytes(8, "big") + row.encode(), timestamp=at_ms)


def removed(offset: int, epoch: int, *, repair: bool) -> Record:
    mark = ((TOMBSTONE_REPAIR_HEADER, b""),) if repair else ()
    return Record(offset, KEY, None, ((TOMBSTONE_EPOCH_HEADER, epoch.to_bytes(8, "big")), *mark), NOON_MS)


def claim(offset: int, epoch: int) -> Record:
    return Record(offset, CLAIM_KEY, epoch.to_bytes(8, "big") + ENCODE(Claim("w", 1, 0)))


def rows_of(*records: Record) -> list[LabelRow]:
    rows = StateRows("state/0")
    rows.feed(records)
    waiting, found = len(rows), rows.take().labels
    assert len(found) == waiting
    return found


def test_an_hour_keeps_what_its_last_flush_said_and_the_next_hour_is_another_row() -> None:
    found = rows_of(
        ledger(3, OLD, 1), ledger(4, OLD, 2, at_ms=NOON_MS + HOUR_MS - 1), ledger(5, OLD, 7, at_ms=NOON_MS + HOUR_MS)
    )
    assert found == [
        LabelRow("org_a", "pipeline=nightly:b", 202609, NOON_MS // 1000, 2, 20, rollup_version(OLD, 4)),
        LabelRow("org_a", "pipeline=nightly:b", 202609, NOON_MS // 1000 + 3600, 7, 70, rollup_version(OLD, 5)),
    ]


def test_ledgers_of_others_are_no_rows() -> None:
    keys = [row_key("l", kind, "org_a", "2026-09") for kind in ("account", "organization", "key", "labels")]
    assert rows_of(*(ledger(number, OLD, 1, key=key) for number, key in enumerate(keys))) == []


def test_what_a_zombie_wrote_is_no_row_and_is_undone_where_it_was_taken_for_one() -> None:
    assert rows_of(claim(0, NEW), ledger(1, OLD, 5)) == []
    [undone] = rows_of(ledger(1, OLD, 5), claim(2, NEW), removed(3, NEW, repair=True))
    assert (undone.requests, undone.credits_micro, undone.version) == (0, 0, rollup_version(NEW, 3))


def test_a_ledger_of_which_the_month_is_over_keeps_its_rows() -> None:
    [kept] = rows_of(ledger(1, OLD, 5), removed(2, OLD, repair=False))
    assert kept.requests == 5


def test_a_time_that_no_broker_has_is_brought_into_the_range_of_the_table() -> None:
    assert [row.hour for row in rows_of(ledger(1, OLD, 5, at_ms=-1))] == [0]
    [row] = rows_of(ledger(1, OLD, 5, at_ms=2**62))
    assert 0 < row.hour < 2**32
