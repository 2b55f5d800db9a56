"""How old usage is when ClickHouse first shows it: each event's age, seen by polling, by event and not by batch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

PENDING_MAX: Final = 2_000_000
SAMPLES_MAX: Final = 2_000_000


class Freshness:
    """Joins what the usage log holds with what ClickHouse shows, organization by organization.

    An organization's events live in one partition and are counted in its order, so when ClickHouse shows n of them it
    shows the first n of the log. Above ``PENDING_MAX`` waiting or ``SAMPLES_MAX`` measured events no more are measured
    (``complete`` turns false); nothing else depends on them.
    """

    def __init__(self, since_ms: int) -> None:
        self.complete = True
        self._since_ms = since_ms
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[int]] = {}
        self._shown: dict[str, int] = {}
        self._pending = 0
        self._samples_ms: list[int] = []

    def logged(self, organization_id: str, ts_ms: int) -> None:
        """The next event of ``organization_id`` in the usage log ended at ``ts_ms``."""
        with self._lock:
            if self._pending >= PENDING_MAX:
                self.complete = False
            if not self.complete:
                return
            self._waiting.setdefault(organization_id, deque()).append(ts_ms)
            self._pending += 1

    def shown(self, counts: Iterable[tuple[str, int]], asked_at_ms: int) -> None:
        """ClickHouse, asked at ``asked_at_ms``, shows so many events of each organization since its beginning."""
        with self._lock:
            for organization_id, count in counts:
                waiting = self._waiting.get(organization_id)
                new = count - self._shown.get(organization_id, 0)
                while waiting and new > 0:
                    ts_ms = waiting.popleft()
                    self._pending -= 1
                    new -= 1
                    if ts_ms >= self._since_ms and len(self._samples_ms) < SAMPLES_MAX:
                        self._samples_ms.append(max(0, asked_at_ms - ts_ms))
                self._shown[organization_id] = max(0, count - max(new, 0))

    def samples_ms(self) -> list[int]:
        """The ages measured so far, in ms."""
        with self._lock:
            return list(self._samples_ms)


def percentiles(samples: list[int]) -> dict[str, int | None]:
    """The median and the 99th percentile (nearest rank), None where nothing was measured."""
    ordered = sorted(samples)
    if not ordered:
        return {"p50": None, "p99": None}
    return {f"p{percent}": ordered[max(0, -(-len(ordered) * percent // 100) - 1)] for percent in (50, 99)}
