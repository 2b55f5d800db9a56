"""Waits for ClickHouse for as long as it takes, and says so once."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from typing import Final, TypeVar

from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, Error

logger = logging.getLogger(__name__)

PAUSE_S_MIN: Final = 0.1
PAUSE_S_MAX: Final = 10.0
HOPELESS_CODES: Final = frozenset({16, 27, 36, 47, 53, 60, 62, 70, 81, 117, 192, 193, 194, 349, 497, 516})
"""ClickHouse's codes for a missing table, column or database, a wrong type or value, a refused login: waiting heals
none of them. Everything else (no connection, time-out, memory, too many parts, read-only, shutting down) may pass."""
_CODE: Final = re.compile(r"Code: (\d+)")

ResultT = TypeVar("ResultT")


def hopeless(error: BaseException) -> bool:
    """Whether trying again cannot help, so that a person has to look."""
    if not isinstance(error, (ClickHouseError, OSError)):
        return True
    if isinstance(error, DataError):
        return True
    code = error.code if isinstance(error, Error) else None
    if code is None and (match := _CODE.search(str(error))):
        code = int(match[1])
    return code in HOPELESS_CODES


class Patience:
    """Does blocking things with ClickHouse in a thread, again until they are done.

    Pauses grow from ``PAUSE_S_MIN`` to ``PAUSE_S_MAX``, jittered, so that many waiting processes do not come back at
    once. An outage is one line in the log when it begins and one when it ends, however many callers wait through it.
    """

    def __init__(self) -> None:
        self._away_since: float | None = None
        self._tries = 0
        self.failures = 0
        """Tries that failed, since the start."""

    @property
    def away_s(self) -> float:
        """For how long ClickHouse has been away; 0 while it answers."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    async def __call__(self, action: Callable[[], ResultT]) -> ResultT:
        """What ``action`` returns, once it returns; it must be safe to repeat. Raises what is ``hopeless``."""
        pause_s = PAUSE_S_MIN
        while True:
            try:
                result = await asyncio.to_thread(action)
            except Exception as error:
                if hopeless(error):
                    raise
                self._note_failure(error)
            else:
                self._note_success()
                return result
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            pause_s = min(PAUSE_S_MAX, pause_s * 2)

    def _note_failure(self, error: Exception) -> None:
        self._tries += 1
        self.failures += 1
        if self._away_since is None:
            self._away_since = time.monotonic()
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            logger.warning(
                "ClickHouse cannot be written to (%s). Nothing is lost: reading stops, and goes on where it was once "
                "ClickHouse is back. Trying again without end.",
                reason,
            )

    def _note_success(self) -> None:
        if self._away_since is not None:
            away_s = time.monotonic() - self._away_since
            logger.warning("ClickHouse is back after %.1f s and %d tries.", away_s, self._tries)
            self._away_since = None
            self._tries = 0
