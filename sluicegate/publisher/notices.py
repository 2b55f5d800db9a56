"""Trouble is said once a minute for each kind, not once for each event."""

import logging
from collections.abc import Callable
from typing import Final

LOGGER: Final = logging.getLogger("sluicegate.publisher")
_QUIET_SECONDS: Final = 60.0


class Notices:
    """Logs warnings, rate-limited by kind, and keeps the last one. Kinds are few and fixed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: dict[str, tuple[float, int]] = {}
        self.last: str | None = None

    def warn(self, kind: str, message: str) -> None:
        """Logs ``message`` unless its kind was logged within the last minute; then it is counted for the next time."""
        self.last = message
        now = self._monotonic()
        since, swallowed = self._said.get(kind, (-_QUIET_SECONDS, 0))
        if now - since < _QUIET_SECONDS:
            self._said[kind] = (since, swallowed + 1)
            return
        self._said[kind] = (now, 0)
        LOGGER.warning("%s%s", message, f" ({swallowed} more of this kind)" if swallowed else "")
