"""An event loop that is blocked, one that is only paused, and what is done about the first."""

import asyncio
import logging
import threading
import time

import pytest

from streams import watchdog
from streams.watchdog import EXIT_STUCK, INTERVAL_S, Blocked, Watchdog


def test_a_loop_that_does_not_show_itself_is_blocked_for_as_long() -> None:
    blocked = Blocked()
    assert [blocked.passed(number * INTERVAL_S) for number in range(5)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    blocked.beat()
    assert blocked.passed(5 * INTERVAL_S) == 0.0
    assert blocked.passed(6 * INTERVAL_S) == INTERVAL_S


def test_a_pause_of_the_whole_process_is_no_block() -> None:
    blocked = Blocked()
    blocked.passed(0.0)
    assert blocked.passed(3600.0) <= 2 * INTERVAL_S


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "INTERVAL_S", 0.02)


@pytest.mark.usefixtures("quick")
async def test_a_blocked_loop_is_said_with_its_stack_and_the_group_is_left_before_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    ended = threading.Event()

    def end(status: int) -> None:
        done.append(status)
        ended.set()

    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback", lambda *_, **__: None)
    watching = Watchdog(0.2, leave=lambda: done.append("left"), end=end)
    watching.start()
    beating = asyncio.create_task(watching.beat())
    await asyncio.sleep(0.1)
    assert ended.wait(20), "the loop is blocked here, and nobody ended the process"
    beating.cancel()
    assert done == ["left", EXIT_STUCK]
    assert "the event loop has been blocked" in caplog.text
    assert "ended.wait(20)" in caplog.text


@pytest.mark.usefixtures("quick")
async def test_a_loop_that_runs_is_left_alone_and_so_is_a_process_that_stops() -> None:
    ended = threading.Event()
    watching = Watchdog(0.2, leave=lambda: None, end=lambda _: ended.set())
    watching.start()
    beating = asyncio.create_task(watching.beat())
    await asyncio.sleep(0.6)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    time.sleep(0.6)  # noqa: ASYNC251 (a loop that does not run any more)
    assert not ended.is_set()


@pytest.mark.usefixtures("quick")
async def test_an_end_that_cannot_log_or_leave_is_an_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocked loop may hold the lock of the log, or have filled the pipe that it goes to."""
    monkeypatch.setattr(watchdog, "LEAVE_LIMIT_S", 0.05)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    for_ever = threading.Event()
    ended = threading.Event()
    watching = Watchdog(0.1, leave=for_ever.wait, end=lambda _: ended.set())
    monkeypatch.setattr(watching, "_say", for_ever.wait)
    watching.start()
    assert ended.wait(20)
    for_ever.set()
