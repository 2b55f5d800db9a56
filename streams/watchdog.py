"""A thread that ends a process whose event loop is blocked.

The heartbeats of the consumer group run in a thread of Faust's, so the group would keep the partitions with a worker
that does nothing any more. Here the loop has to show itself every second. Where it does not for ``limit_s``, the
stacks of all threads are logged, the group is left, and the process ends with ``EXIT_STUCK``; a supervisor starts it
anew, and meanwhile other workers take over.

A process that is stopped by a signal or sleeps with its machine is not blocked: only time counts that this thread saw
pass. What it can't see is code that never lets go of the interpreter (a C extension in an endless loop).
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Final

log = logging.getLogger(__name__)

EXIT_STUCK: Final = 75
"""EX_TEMPFAIL of sysexits.h: start me again."""
INTERVAL_S: Final = 0.5
LEAVE_LIMIT_S: Final = 2.0


class Blocked:
    """How long a loop has not shown itself, of the time that ``passed`` was called in; pure, with time given."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._beats = 0
        self._beats_seen = -1
        self._looked_at: float | None = None

    def beat(self) -> None:
        """The loop runs."""
        self._beats += 1

    def passed(self, now: float) -> float:
        """It is ``now``: for how many seconds the loop has been blocked."""
        step_s = 0.0 if self._looked_at is None else min(now - self._looked_at, 2 * INTERVAL_S)
        self._looked_at = now
        beats = self._beats
        self.seconds = self.seconds + step_s if beats == self._beats_seen else 0.0
        self._beats_seen = beats
        return self.seconds


class Watchdog:
    """Watches the event loop that ``beat`` runs on, from ``start`` to ``stop``.

    ``leave`` is called in a thread of its own before the process ends; it has ``LEAVE_LIMIT_S``.
    """

    def __init__(self, limit_s: float, *, leave: Callable[[], object], end: Callable[[int], object] = os._exit) -> None:
        self._limit_s = limit_s
        self._leave = leave
        self._end = end
        self._blocked = Blocked()
        self._stopping = threading.Event()
        self._loop_thread = 0

    @property
    def blocked_s(self) -> float:
        """For how long the loop has not shown itself."""
        return self._blocked.seconds

    def start(self) -> None:
        """Begins, from the thread of the loop."""
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends watching."""
        self._stopping.set()

    async def beat(self) -> None:
        """Shows that the loop runs, until cancelled."""
        try:
            while True:
                self._blocked.beat()
                await asyncio.sleep(INTERVAL_S / 2)
        finally:
            self.stop()

    def _watch(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            if self._blocked.passed(monotonic()) >= self._limit_s:
                for action in (self._say, self._leave, logging.shutdown):
                    _briefly(action)
                self._end(EXIT_STUCK)
                return

    def _say(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "unknown\n"
        log.critical(
            "STUCK: the event loop has been blocked for %.0f s. Leaving the group and ending with status %d, so that "
            "others take over. Nothing is lost: the state stands at the last flush. It is here:\n%s",
            self._blocked.seconds,
            EXIT_STUCK,
            stack,
        )
        if sys.__stderr__ is not None:  # Faust puts something without a descriptor in place of sys.stderr
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)


def _briefly(action: Callable[[], object]) -> None:
    """``action``, for at most ``LEAVE_LIMIT_S``: the blocked loop may hold the very lock, or pipe, that it needs."""
    doing = threading.Thread(target=action, name="watchdog-end", daemon=True)
    doing.start()
    doing.join(LEAVE_LIMIT_S)
