"""A state log means the same however it is read: record by record or in runs, by aiokafka's records or the batches'."""

from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.state import CLAIM_KEY, ENCODE, HEADER_KEY, Header
from streams.engine.fold import Fold, StateFormatError
from streams.engine.plain_consumer import batches_of

HEADER = ENCODE(Header(1, 0, 0, 0, 0, 0, 0, []))
TP = TopicPartition("state", 0)


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def epoch(number: int) -> bytes:
    return number.to_bytes(8, "big")


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Mostly what workers write; now and then what nobody may."""
    by = epoch(draw(st.integers(0, 3)))
    key = draw(st.sampled_from([b"k|a", b"k|b", b"b|a"] * 3 + [HEADER_KEY, CLAIM_KEY]))
    kind = draw(st.sampled_from(["row"] * 12 + ["tombstone"] * 4 + ["short", "bare", "keyless", "unreadable"]))
    if kind == "tombstone":
        return Record(key, None, (("e", by),))
    if kind == "short":
        return Record(key, by)
    if kind == "bare":
        return Record(key, None)
    if kind == "unreadable":
        return Record(HEADER_KEY, by + b"\xc1")
    return Record(
        None if kind == "keyless" else key, by + (HEADER if key == HEADER_KEY else draw(st.binary(min_size=1)))
    )


def meaning(fold: Fold) -> tuple[object, ...]:
    return fold.rows, fold.header, fold.void_keys, fold.void_records, fold.top_epoch, fold.row_count, fold.check()


@given(st.lists(records()), st.lists(st.integers(1, 9)))
def test_a_log_folds_in_runs_as_it_does_record_by_record(log: list[Record], sizes: list[int]) -> None:
    one, many = Fold(), Fold()
    refused = refused_in_runs = False
    try:
        for record in log:
            one.feed(*record)
    except StateFormatError:
        refused = True
    runs = iter(log)
    try:
        for size in [*sizes, len(log)]:
            many.feed_all(list(islice(runs, size)))
    except StateFormatError:
        refused_in_runs = True
    assert refused_in_runs == refused
    assert meaning(many) == meaning(one)


class _Assignment:
    """As aiokafka keeps it: where one partition is read on."""

    active = True
    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def state_value(self, _: TopicPartition) -> "_Assignment":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def fetched(content: bytes, position: int) -> tuple[Any, _Assignment]:
    """What aiokafka makes of the bytes that a fetch from ``position`` on returned."""
    assignment = _Assignment(position)
    unread = PartitionRecords(TP, MemoryRecords(content), [], position, None, None, True, 0)
    return FetchResult(TP, assignment=assignment, partition_records=unread, backoff=0.1), assignment


def batch(base: int, log: list[Record], *, is_control: bool = False) -> bytes:
    """A record batch as it stands in a log from the offset ``base`` on."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, 1, 1, 0, 1 << 20)
    for at, record in enumerate(log):
        builder.append(at, 1_790_000_000_000 + at, record.key, record.value, list(record.headers))
    content = bytearray(builder.build())
    content[0:8] = base.to_bytes(8, "big")
    if is_control:
        content[22] |= 0x20
        content[17:21] = calc_crc32c(content[21:]).to_bytes(4, "big")
    return bytes(content)


BATCHES = st.lists(st.tuples(st.lists(records(), min_size=1, max_size=5), st.booleans()), min_size=1, max_size=4)


@given(BATCHES, st.integers(0, 12))
def test_the_records_of_the_batches_are_those_that_aiokafka_hands_out(
    log: list[tuple[list[Record], bool]], start: int
) -> None:
    content, base = b"", 0
    for run, is_control in log:
        content += batch(base, run, is_control=is_control)
        base += len(run)
    (theirs, theirs_at), (ours, ours_at) = fetched(content, min(start, base)), fetched(content, min(start, base))
    seen = partial(map, lambda record: (record.offset, record.timestamp, record.key, record.value, [*record.headers]))
    assert [*seen(chain(*batches_of(ours)))] == [*seen(theirs.getall())]
    assert ours_at.position == theirs_at.position
    assert not ours.has_more()
    assert batches_of(ours) == []


def test_a_batch_whose_checksum_is_wrong_is_not_read() -> None:
    content = bytearray(batch(0, [Record(b"k|a", epoch(1) + b"x")]))
    content[-3] ^= 1
    with pytest.raises(CorruptRecordException):
        batches_of(fetched(bytes(content), 0)[0])


def test_what_was_fetched_before_a_seek_is_left_out() -> None:
    result, assignment = fetched(batch(0, [Record(b"k|a", epoch(1) + b"x")]), 0)
    assignment.position = 7
    assert batches_of(result) == []
