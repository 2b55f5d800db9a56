"""The state logs that the bench writes are such as workers write: else its figures would be of something else."""

from itertools import islice

from clickhouse.rows import StateRows
from streams.engine.fold import Fold
from tests.bench import recovery, sink
from tests.state_log import Record


def test_a_worker_recovers_what_the_bench_of_recovery_writes() -> None:
    fold, offset = Fold(), 0
    for flush in recovery.flushes(3, 30_000, 15_000):
        fold.feed_all(Record(offset + at, one.key, one.value, tuple(one.headers)) for at, one in enumerate(flush))
        offset += len(flush)
    live = list(fold.items())
    assert fold.check(fold.checksums()) is None
    assert 30_000 <= len(live) < offset - 15_000 + 10
    assert {key[:2] for key, _ in live} == {b"o|", b"k|", b"b|"}


def test_the_sink_reads_what_its_bench_writes() -> None:
    rows = StateRows("state/0")
    for run in islice(sink.runs(0, 100), 3):
        rows.feed(run.records)
    assert len(rows.take().rows) == 100
