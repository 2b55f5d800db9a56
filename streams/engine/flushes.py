"""The flushes of one owner in order: the one on its way, the one whose reply is weighed, the last true one."""

from dataclasses import dataclass
from typing import Final

_PAUSE_S_A_RECORD: Final = 0.0008
"""A large flush lets the next one wait longer: a row that changes all the time is then written less often, and flushes
take a bounded share of the worker's time …"""
_PAUSE_S_MAX: Final = 1.0
"""… but no longer than this."""


@dataclass(frozen=True, slots=True)
class Flush:
    """One flush: its number, the last offsets of both inputs that it counts, and how many records it appends."""

    number: int
    usage_offset: int
    accounts_offset: int
    records: int


class Flushes:
    """Where an owner's flushes stand. At most one is in flight; it takes effect with ``take_true``."""

    def __init__(self) -> None:
        self.number = 0
        """Of the last flush that began."""
        self.at_once = False
        """The next flush shall not wait for its interval."""
        self._in_flight: Flush | None = None
        self._acknowledged: Flush | None = None
        self._true_positions = (-1, -1)
        self._started_at = float("-inf")
        self._records = 0
        """How many the last flush had."""

    def resume(self, number: int, usage_offset: int, accounts_offset: int) -> None:
        """What the recovered state says of the last flush."""
        self.number = number
        self._true_positions = (usage_offset, accounts_offset)

    @property
    def is_in_flight(self) -> bool:
        """A flush waits for the broker's reply."""
        return self._in_flight is not None

    def covers(self, usage_offset: int, accounts_offset: int) -> bool:
        """The last true flush counts the inputs up to just these offsets."""
        return self._true_positions == (usage_offset, accounts_offset)

    def waited(self, now: float, interval_s: float) -> bool:
        """The last flush began ``interval_s`` ago, or longer if it was large."""
        pause_s = min(self._records * _PAUSE_S_A_RECORD, _PAUSE_S_MAX)
        return now - self._started_at >= max(interval_s, pause_s)

    def begin(self, flush: Flush, now: float) -> None:
        """``flush`` is on its way."""
        self.number = flush.number
        self.at_once = False
        self._in_flight = flush
        self._started_at = now
        self._records = flush.records

    def appended(self) -> Flush | None:
        """The broker's reply came for the flush in flight, which is returned. None where none was."""
        flush, self._in_flight = self._in_flight, None
        if flush is not None:
            self._acknowledged = flush
        return flush

    def take_true(self) -> Flush | None:
        """Nobody with a higher epoch wrote before the flush whose reply came, if one did: it takes effect."""
        flush, self._acknowledged = self._acknowledged, None
        if flush is not None:
            self._true_positions = (flush.usage_offset, flush.accounts_offset)
        return flush
