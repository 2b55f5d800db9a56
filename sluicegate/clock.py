"""The system's clock, in the one place that reads it; everything else is handed a ``Clock``."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns whole milliseconds since 1970-01-01T00:00:00Z."""


def epoch_ms() -> int:
    """The system's time in whole milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000
