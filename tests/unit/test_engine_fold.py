"""What a state log means."""

import pytest

from sluicegate_schemas.state import CLAIM_KEY, ENCODE, HEADER_KEY, Header
from streams.engine.fold import Epochs, Fold, StateFormatError, row_crc


def value(epoch: int, payload: bytes) -> bytes:
    return epoch.to_bytes(8, "big") + payload


def tombstone(epoch: int, *, repair: bool = False) -> list[tuple[str, bytes]]:
    return [("e", epoch.to_bytes(8, "big")), *([("v", b"")] if repair else [])]


def header(rows: dict[bytes, bytes], usage_offset: int = 7) -> bytes:
    crc_xor = 0
    for key, payload in rows.items():
        crc_xor ^= row_crc(key, payload)
    return ENCODE(Header(1, usage_offset, -1, 0, 0, len(rows), crc_xor, []))


def test_the_newest_valid_value_of_a_key_stands() -> None:
    fold = Fold()
    fold.feed(b"k", value(1, b"old"))
    fold.feed(b"k", value(1, b"new"))
    assert fold.rows == {b"k": b"new"}


def test_a_record_behind_a_higher_epoch_is_void_until_its_key_is_written_again() -> None:
    fold = Fold()
    fold.feed(b"k", value(1, b"true"))
    fold.feed(CLAIM_KEY, value(2, b"claim"))
    assert not fold.feed(b"k", value(1, b"stale")).valid
    assert fold.rows == {b"k": b"true"}
    assert fold.void_keys == {b"k"}
    fold.feed(b"k", value(2, b"true"))
    assert fold.void_keys == set()


def test_a_tombstone_removes_a_row_and_says_whether_it_only_repairs() -> None:
    fold = Fold()
    fold.feed(b"k", value(1, b"x"))
    assert not fold.feed(b"k", None, tombstone(1)).repair
    assert fold.feed(b"other", None, tombstone(1, repair=True)).repair
    assert fold.rows == {}


def test_the_check_notices_a_missing_and_a_changed_row() -> None:
    rows = {b"a": b"1", b"b": b"2"}
    for lost, wrong in ((b"a", None), (b"a", b"9")):
        fold = Fold()
        for key, payload in rows.items():
            kept = wrong if key == lost else payload
            if kept is not None:
                fold.feed(key, value(1, kept))
        fold.feed(HEADER_KEY, value(1, header(rows)))
        assert fold.check() is not None
    whole = Fold()
    for key, payload in rows.items():
        whole.feed(key, value(1, payload))
    assert whole.check() == "2 rows, but no flush header"
    whole.feed(HEADER_KEY, value(1, header(rows)))
    assert whole.check() is None


@pytest.mark.parametrize(
    ("key", "content", "headers"),
    [(b"k", b"short", []), (b"k", None, []), (b"k", None, [("e", b"x")]), (None, value(1, b"x"), []),
     (HEADER_KEY, value(1, b"\xc1"), [])],
)  # fmt: skip
def test_a_record_that_no_worker_wrote_is_refused(
    key: bytes | None, content: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    with pytest.raises(StateFormatError):
        Fold().feed(key, content, headers)


def test_epochs_go_on_from_a_stored_position() -> None:
    epochs = Epochs(top_epoch=5)
    assert not epochs.feed(b"k", value(4, b"x")).valid
    assert epochs.feed(b"k", value(5, b"x")).valid
