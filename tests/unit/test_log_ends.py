"""How long a position has been behind the end of its log."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.brokers import Brokers
from streams import log_ends
from streams.log_ends import End, LogEnds


def test_a_position_is_behind_since_a_record_at_it_was_seen() -> None:
    end = End()
    for offset, now in ((5, 0.0), (5, 1.0), (9, 2.0), (20, 3.0)):
        end.seen(offset, now)
    assert [end.behind_since(position) for position in (0, 4, 5, 8, 9, 19, 20, 25)] == [
        0.0, 0.0, 2.0, 2.0, 3.0, 3.0, None, None,
    ]  # fmt: skip


def test_a_log_that_was_cut_is_nobodys_lag() -> None:
    end = End()
    end.seen(20, 0.0)
    end.seen(3, 1.0)
    assert end.behind_since(3) is None
    assert end.behind_since(10) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3000), st.integers(0, 6000))
def test_the_age_is_about_right_however_long_it_lasts_and_memory_is_bounded(steps: list[int], position: int) -> None:
    end, offset, first_behind = End(), 0, None
    for now, step in enumerate(steps):
        offset += step
        end.seen(offset, float(now))
        if first_behind is None and offset > position:
            first_behind = now
    since = end.behind_since(position)
    if first_behind is None:
        assert since is None
    else:
        assert since is not None
        assert since - first_behind <= len(steps) / 100, "what is thinned out is a small part of the whole"
    assert len(end._marks) <= 512


async def test_a_call_that_kafkas_client_cancels_itself_does_not_end_the_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Consumer:
        async def start(self) -> None: ...

        async def stop(self) -> None: ...

    monkeypatch.setattr(log_ends, "AIOKafkaConsumer", lambda **_: Consumer())
    monkeypatch.setattr(log_ends, "INTERVAL_S", 0.001)
    ends, asked = LogEnds(Brokers(), list), asyncio.Queue[None]()

    async def ask(_: object) -> None:
        asked.put_nowait(None)
        raise asyncio.CancelledError

    monkeypatch.setattr(ends, "ask", ask)
    asking = asyncio.ensure_future(ends.run())
    try:
        async with asyncio.timeout(10):
            await asked.get()
            await asked.get()
    finally:
        asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
