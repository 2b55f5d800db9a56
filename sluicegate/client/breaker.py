"""A circuit breaker: after failures in a row nobody asks for a while, then one does. Pure, with time given.

Libraries for it were looked at: one holds its lock while the call runs, so that calls would queue behind each other;
another lets all that wait through at once when the circuit is half open.
"""

from typing import Literal

State = Literal["closed", "open", "half_open"]


class Breaker:
    """One circuit. Times are seconds of a clock that never goes back."""

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._failures = 0
        self._opened_at: float | None = None
        self._trial_at: float | None = None

    def state(self, now: float) -> State:
        """As of ``now``."""
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self._open_s else "half_open"

    def admits(self, now: float) -> bool:
        """Whether a call may be made; ``succeeded``, ``failed`` or ``left`` must follow one that was.

        Half open, one call is; if nothing was heard of it for as long as the circuit stays open, another.
        """
        match self.state(now):
            case "closed":
                return True
            case "open":
                return False
        if self._trial_at is not None and now < self._trial_at + self._open_s:
            return False
        self._trial_at = now
        return True

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0
        self._opened_at = self._trial_at = None

    def failed(self, now: float) -> None:
        """It did not, or with a 5xx."""
        self._failures += 1
        if self._opened_at is not None or self._failures >= self._failures_max:
            self._opened_at, self._trial_at = now, None

    def left(self) -> None:
        """The caller gave up: nothing is known."""
        self._trial_at = None
