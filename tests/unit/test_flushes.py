"""The rhythm of a partition's flushes."""

from streams.engine.flushes import Flush, Flushes

INTERVAL_S = 0.2


def waits_s(records: int) -> float:
    """How long the next flush waits behind one of so many records, to a millisecond."""
    flushes = Flushes()
    flushes.begin(Flush(1, 0, 0, records), now=100.0)
    return next(ms / 1000 for ms in range(5_000) if flushes.waited(100.0 + ms / 1000, INTERVAL_S))


def test_the_first_flush_waits_for_nothing():
    assert Flushes().waited(0.0, INTERVAL_S)


def test_small_flushes_keep_the_interval():
    assert waits_s(1) == waits_s(200) == INTERVAL_S


def test_behind_a_large_flush_the_next_one_waits_by_its_records_but_no_longer_than_a_second():
    assert 0.39 <= waits_s(500) <= 0.41
    assert 0.99 <= waits_s(10_000) <= 1.01
