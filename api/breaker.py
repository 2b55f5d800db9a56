"""Remembers that somebody does not answer, so that not everybody who asks waits to find out (a circuit breaker, as
Nygard describes it in "Release It!", 2007)."""

import time
from collections.abc import Callable
from math import ceil
from typing import Final

from .problems import away

REMEMBERED_S: Final = 15.0


class Breaker:
    """Opens with a failure that nothing has contradicted since its question was asked. For ``REMEMBERED_S`` every
    further question is refused; then one is let through, and says for the others whether the answers are back."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._answered_at = self._open_until = float("-inf")
        self._is_open = False

    def begin(self) -> float:
        """Before a question; returns when it began. Raises ProblemError: 503."""
        now = self._clock()
        if self._is_open:
            if now < self._open_until:
                raise away(self._what, max(1, ceil(self._open_until - now)))
            self._open_until = now + REMEMBERED_S
        return now

    def answered(self) -> None:
        """A question was answered, if only with an error of its own."""
        self._answered_at = self._clock()
        self._is_open = False

    def failed(self, began: float) -> None:
        """The question that ``began`` then had no answer."""
        if self._answered_at < began:
            self._is_open = True
            self._open_until = self._clock() + REMEMBERED_S
