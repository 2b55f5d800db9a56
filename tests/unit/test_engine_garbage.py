"""Python's collector and the state of a worker."""

import gc
import weakref

import pytest

from streams.engine.garbage import set_aside


class Knot:
    """Holds itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> object:
    yield
    gc.unfreeze()


def test_nothing_is_collected_while_rows_come_back_and_nothing_of_them_is_looked_at_afterwards() -> None:
    with set_aside():
        assert not gc.isenabled()
        kept = Knot()
    assert gc.isenabled()
    assert all(one is not kept for one in gc.get_objects())


def test_what_was_set_aside_and_is_held_no_longer_goes_with_the_next_recovery() -> None:
    with set_aside():
        knot = Knot()
    gone = weakref.ref(knot)
    del knot
    gc.collect()
    assert gone() is not None
    with set_aside():
        assert gone() is None


def test_a_recovery_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(OSError, match="away"), set_aside():
        raise OSError("away")
    assert gc.isenabled()
