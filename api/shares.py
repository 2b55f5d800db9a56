"""What one organization may have of what all share: questions to ClickHouse and looks into the usage log.

Without a share one that asks much would hold every place there is, and the others would get 503.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .problems import ProblemError

OF_ORGANIZATION_MAX: Final = 6
"""Requests at a time that may ask of the past."""


class Shares:
    """Counts who has how many; nothing is kept of who has none."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._taken)

    @contextmanager
    def taken(self, organization_id: str) -> Iterator[None]:
        """One more for the time of the context. Raises ProblemError: 429."""
        if self._taken[organization_id] >= OF_ORGANIZATION_MAX:
            raise ProblemError(429, "The organization asks as much of the past as it may.", {"Retry-After": "1"})
        self._taken[organization_id] += 1
        try:
            yield
        finally:
            self._taken[organization_id] -= 1
            if not self._taken[organization_id]:
                del self._taken[organization_id]
