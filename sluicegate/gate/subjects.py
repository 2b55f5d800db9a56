"""Which subjects (a batch id) were admitted a short while ago (requirements, section 3: once per batch in 60 s)."""

from collections import OrderedDict
from typing import NamedTuple


class Subject(NamedTuple):
    """What an operation is about."""

    organization_id: str
    operation: str
    subject: str


class Intervals:
    """Until when each subject is closed, in bounded memory: above ``subjects_max`` the one admitted longest ago is
    forgotten, counted in ``forgotten``; the workers' blocks still hold for it."""

    def __init__(self, subjects_max: int = 100_000) -> None:
        self.forgotten = 0
        self._subjects_max = subjects_max
        self._until_ms: OrderedDict[Subject, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until_ms)

    def until_ms(self, subject: Subject, now_ms: int) -> int | None:
        """When the subject is open again; None where it is."""
        until_ms = self._until_ms.get(subject)
        return None if until_ms is None or until_ms <= now_ms else until_ms

    def close(self, subject: Subject, until_ms: int, now_ms: int) -> None:
        """Admits the subject now, and not again before ``until_ms``."""
        self._until_ms[subject] = until_ms
        self._until_ms.move_to_end(subject)
        for _ in range(2):
            oldest, oldest_ms = next(iter(self._until_ms.items()))
            if oldest_ms > now_ms and len(self._until_ms) <= self._subjects_max:
                return
            self.forgotten += oldest_ms > now_ms
            del self._until_ms[oldest]

    def give_back(self, subject: Subject, until_ms: int) -> None:
        """Opens the subject again, if nobody closed it later."""
        if self._until_ms.get(subject) == until_ms:
            del self._until_ms[subject]
