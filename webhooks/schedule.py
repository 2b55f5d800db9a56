"""When a delivery is tried again. Pure: times, jitter and the receiver's wish are given."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

DELAYS_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000)
"""Pauses after the first, second, … failed attempt: the first steps of the schedule of Standard Webhooks 1.0. The last
one repeats."""
WINDOW_MS: Final = 86_400_000
"""For how long a delivery is tried: the last attempt is made at its end."""
JITTER: Final = 0.2
"""A pause is lengthened by up to this share of it, so that what failed together does not come back together."""


def next_attempt_ms(
    *, taken_at_ms: int, now_ms: int, attempts: int, delays_s: Sequence[int], retry_after_s: float, chance: float
) -> int | None:
    """When to try again after ``attempts`` failed ones, the newest just now; None where it is given up.

    ``chance`` in [0, 1) draws the jitter. ``retry_after_s`` is the receiver's wish (0: none); it lengthens a pause and
    never ends the trying early: an attempt that would come after the window's end comes at its end.
    """
    end_ms = taken_at_ms + WINDOW_MS
    if now_ms >= end_ms:
        return None
    delay_s = delays_s[min(attempts, len(delays_s)) - 1] * (1 + JITTER * chance)
    return min(now_ms + round(1000 * max(delay_s, retry_after_s)), end_ms)


def retry_after_s(header: str | None, now_ms: int) -> float:
    """The seconds that ``Retry-After`` asks for (RFC 9110, section 10.2.3): whole seconds or a date. 0 where it asks
    for nothing, or cannot be read; at most the window."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(int(text[:12]))
    else:
        try:
            date = parsedate_to_datetime(text)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = (date - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), WINDOW_MS / 1000)
