"""Which names are to be looked at when, the earliest first."""

import heapq
from typing import Final

NEVER_MS: Final = 2**62
_STALE_MAX: Final = 1_000


class Deadlines:
    """One deadline a name. ``next_ms`` is the earliest, at the latest; ``NEVER_MS`` where there is none."""

    def __init__(self) -> None:
        self._due_ms: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self.next_ms = NEVER_MS

    def set(self, name: str, due_ms: int) -> None:
        """``name`` is due at ``due_ms``, and no longer at another time."""
        if self._due_ms.get(name) == due_ms:
            return
        self._due_ms[name] = due_ms
        heapq.heappush(self._heap, (due_ms, name))
        if len(self._heap) > 2 * len(self._due_ms) + _STALE_MAX:
            self._heap = sorted((due_ms, name) for name, due_ms in self._due_ms.items())
        self.next_ms = self._heap[0][0]

    def drop(self, name: str) -> None:
        """``name`` has no deadline any more."""
        self._due_ms.pop(name, None)

    def take(self, now_ms: int, at_most: int | None = None) -> list[str]:
        """The names that are due at ``now_ms``, ``at_most`` so many, in the order of their deadlines; they have none
        any more."""
        due: list[str] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ms and len(due) != at_most:
            due_ms, name = heapq.heappop(heap)
            if self._due_ms.get(name) == due_ms:
                del self._due_ms[name]
                due.append(name)
        self.next_ms = heap[0][0] if heap else NEVER_MS
        return due
