"""How long decisions take: from the log's time of the event that caused one to its being in force here."""

from collections import deque
from typing import Final, NamedTuple

KEPT_MAX: Final = 1_024
KEPT_MS: Final = 600_000


class LagFigures(NamedTuple):
    """Of the last ten minutes' decisions, at most the last 1,024; None where there was none."""

    decisions: int
    median_ms: int | None
    p99_ms: int | None
    worst_ms: int | None


class Lags:
    """The lags that this process measured. The log's time is the broker's clock, the rest this node's: what they differ
    by is in each figure, and none is below 0."""

    def __init__(self) -> None:
        self._lags: deque[tuple[int, int]] = deque(maxlen=KEPT_MAX)

    def add(self, logged_at_ms: int, applied_at_ms: int) -> None:
        """A decision that an event logged at ``logged_at_ms`` caused is in force now."""
        self._lags.append((applied_at_ms, max(0, applied_at_ms - logged_at_ms)))

    def figures(self, now_ms: int) -> LagFigures:
        """Sorts what is kept: not for each request."""
        lags = sorted(lag_ms for at_ms, lag_ms in self._lags if at_ms > now_ms - KEPT_MS)
        if not lags:
            return LagFigures(0, None, None, None)
        return LagFigures(len(lags), lags[len(lags) // 2], lags[len(lags) * 99 // 100], lags[-1])
