"""Makes the wall clock of one Python process jump: Python runs this file at its start where PYTHONPATH leads to it.

SLUICEGATE_TESTS_CLOCK names a file with the seconds that the clock is ahead (negative: behind); it may change at any
time. ``time.time`` and ``time.time_ns`` follow it; the monotonic clock does not, as on a machine whose clock is set.
"""

import os
import time
from collections.abc import Callable

_CHECK_S = 0.05


def _install(path: str) -> None:
    true_time, true_time_ns, monotonic = time.time, time.time_ns, time.monotonic
    checked_at, ahead_s = float("-inf"), 0

    def seconds_ahead() -> int:
        nonlocal checked_at, ahead_s
        if (now := monotonic()) - checked_at > _CHECK_S:
            checked_at = now
            try:
                with open(path, encoding="ascii") as file:
                    ahead_s = int(file.read() or "0")
            except (OSError, ValueError):
                pass  # it is being written; the next look will do
        return ahead_s

    def shifted_time() -> float:
        return true_time() + seconds_ahead()

    def shifted_time_ns() -> int:
        return true_time_ns() + seconds_ahead() * 1_000_000_000

    replacements: dict[str, Callable[[], float]] = {"time": shifted_time, "time_ns": shifted_time_ns}
    for name, replacement in replacements.items():
        setattr(time, name, replacement)


if clock := os.environ.get("SLUICEGATE_TESTS_CLOCK"):
    _install(clock)
