"""Single records of a state log, and what they come to."""

import pytest

from clickhouse.rows import StateRows
from sluicegate_schemas.state import (
    CLAIM_KEY,
    ENCODE,
    HEADER_KEY,
    TOMBSTONE_EPOCH_HEADER,
    TOMBSTONE_REPAIR_HEADER,
    Claim,
    Header,
    RollupCell,
    rollup_key,
    rollup_version,
)
from streams.engine.fold import StateFormatError
from tests.state_log import Record

KEY = rollup_key("org_a", "key_a", "search.knn", 29_000_000, 4)
OLD, NEW = 1 << 32 | 77, 2 << 32 | 11


def cell(offset: int, epoch: int, requests: int = 1) -> Record:
    content = ENCODE(RollupCell("search", requests=requests, events=requests, rated_version=3))
    return Record(offset, KEY, epoch.to_bytes(8, "big") + content)


def claim(offset: int, epoch: int) -> Record:
    return Record(offset, CLAIM_KEY, epoch.to_bytes(8, "big") + ENCODE(Claim("w", 1, 0)))


def header(offset: int, epoch: int, log_time_ms: int) -> Record:
    return Record(offset, HEADER_KEY, epoch.to_bytes(8, "big") + ENCODE(Header(1, 0, -1, log_time_ms, 1, 0, 0, [])))


def tombstone(offset: int, epoch: int, *, repair: bool = False) -> Record:
    mark = ((TOMBSTONE_REPAIR_HEADER, b""),) if repair else ()
    return Record(offset, KEY, None, ((TOMBSTONE_EPOCH_HEADER, epoch.to_bytes(8, "big")), *mark))


def requests_of(rows: StateRows) -> list[int]:
    return [row.requests for row in rows.take().rows]


def test_a_cell_becomes_a_row_with_its_source_and_version() -> None:
    rows = StateRows("sluicegate.state/3")
    rows.feed([cell(9, OLD, requests=2)])
    [row] = rows.take().rows
    assert row == (
        *("org_a", 29_000_000 * 60, "key_a", "search.knn", "sluicegate.state/3", 4, "search"),
        *(2, 0, 0, 0, 0, 2, 3, rollup_version(OLD, 9)),
    )


def test_the_version_grows_with_the_epoch_then_with_the_offset() -> None:
    assert rollup_version(NEW, 1) > rollup_version(OLD, 2**62) > rollup_version(OLD, 5)


def test_a_record_behind_a_higher_claim_is_void() -> None:
    rows = StateRows("s/0")
    rows.feed([claim(0, NEW), cell(1, OLD)])
    assert requests_of(rows) == []


def test_the_stored_epoch_voids_what_follows_on_the_position() -> None:
    rows = StateRows("s/0", top_epoch=NEW)
    rows.feed([cell(5, OLD)])
    assert requests_of(rows) == []


def test_an_evicted_cell_keeps_its_row() -> None:
    rows = StateRows("s/0")
    rows.feed([cell(0, OLD, 5)])
    assert requests_of(rows) == [5]
    rows.feed([tombstone(1, OLD)])
    assert requests_of(rows) == []


def test_a_void_record_that_was_taken_for_valid_is_set_to_zero_when_it_is_repaired() -> None:
    """Compaction had removed the claim in front of it."""
    rows = StateRows("s/0")
    rows.feed([cell(8, OLD, 5), claim(9, NEW), tombstone(10, NEW, repair=True)])
    [row] = rows.take().rows
    assert (row.requests, row.events, row.version) == (0, 0, rollup_version(NEW, 10))


def test_a_repair_leaves_the_row_of_a_cell_that_was_evicted_before_a_zombie_wrote_it() -> None:
    rows = StateRows("s/0")
    rows.feed([cell(0, OLD, 5), claim(1, NEW), tombstone(2, NEW), cell(3, OLD, 6), tombstone(4, NEW, repair=True)])
    assert requests_of(rows) == [5]


def test_a_repair_after_a_stretch_that_another_sink_read_sets_nothing_to_zero() -> None:
    rows = StateRows("s/0")
    rows.feed([cell(0, OLD, 5)])
    rows.skip(NEW)
    rows.feed([cell(50, OLD, 6), tombstone(51, NEW, repair=True)])
    assert requests_of(rows) == [5]


def test_the_log_times_of_the_first_and_last_flush_are_kept() -> None:
    rows = StateRows("s/0")
    rows.feed([header(0, OLD, 100), header(1, OLD, 200), header(2, OLD, 300)])
    assert rows.take()[2:] == (100, 300)
    assert rows.take()[2:] == (None, None)


@pytest.mark.parametrize(
    "record",
    [
        Record(7, KEY, b"short"),
        Record(7, KEY, OLD.to_bytes(8, "big") + b"\xc1"),
        Record(7, b"c|org_a|key_a", OLD.to_bytes(8, "big") + ENCODE(RollupCell("search"))),
        Record(7, KEY, None),
        Record(
            7, b"l|label|org_a:pipeline=a|2026-13", OLD.to_bytes(8, "big") + ENCODE(["org_a", None, None, 0, [], 0])
        ),
        Record(7, b"l|label|org_a:pipeline=a|2026-12", OLD.to_bytes(8, "big") + ENCODE(["org_a", None, None, 0, []])),
        Record(7, HEADER_KEY, OLD.to_bytes(8, "big") + b"\x01"),
    ],
)
def test_a_record_that_no_worker_wrote_is_refused_with_its_place(record: Record) -> None:
    with pytest.raises(StateFormatError, match="s/0, offset 7"):
        StateRows("s/0").feed([record])
