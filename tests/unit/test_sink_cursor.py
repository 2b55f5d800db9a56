"""The guard that a reader never passes over a record, though runs may be left over from before a seek."""

from collections.abc import Sequence

from clickhouse.cursor import Cursor, SeekTo
from tests.state_log import Record


def run(*offsets: int) -> list[Record]:
    return [Record(offset, b"k", b"v") for offset in offsets]


def offsets(taken: Sequence[Record] | SeekTo) -> list[int]:
    assert not isinstance(taken, SeekTo)
    return [record.offset for record in taken]


def test_runs_that_follow_on_are_taken_whole() -> None:
    cursor = Cursor(5)
    assert offsets(cursor.take(run(5, 6))) == [5, 6]
    assert offsets(cursor.take(run(7))) == [7]
    assert cursor.next_offset == 8


def test_what_was_taken_before_is_not_taken_again() -> None:
    cursor = Cursor(5)
    assert offsets(cursor.take(run(3, 4, 5, 6))) == [5, 6]
    assert offsets(cursor.take(run(5, 6))) == []
    assert cursor.next_offset == 7


def test_a_run_left_over_from_before_a_seek_is_refused() -> None:
    cursor = Cursor(5)
    assert cursor.take(run(9, 10)) == SeekTo(5)
    assert cursor.take(run(11)) == SeekTo(5)
    assert offsets(cursor.take(run(5, 6, 7, 8, 9, 10, 11))) == [5, 6, 7, 8, 9, 10, 11]


def test_a_hole_that_compaction_left_is_believed_when_it_comes_first_again() -> None:
    cursor = Cursor(5)
    assert cursor.take(run(9, 10)) == SeekTo(5)
    assert offsets(cursor.take(run(9, 10))) == [9, 10]
    assert cursor.take(run(20)) == SeekTo(11)


def test_a_cursor_never_moves_back() -> None:
    cursor = Cursor(5)
    cursor.advance(9)
    cursor.advance(2)
    assert cursor.next_offset == 9
