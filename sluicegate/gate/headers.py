"""The rate limit headers of every response (requirements, sections 3 and 9).

``X-RateLimit-*`` tell of one bucket: the minute bucket, or on a 429 the limit that fired. ``RateLimit-Policy`` and
``RateLimit`` tell of all of them, as structured fields (RFC 9651) in the form of draft-ietf-httpapi-ratelimit-headers
since its version 08: there ``q`` is what a full bucket holds and ``w`` how long an empty one takes to be full again, so
that ``r``, what it lets through at once, never passes ``q``.
"""

from collections.abc import Sequence
from typing import NamedTuple

Header = tuple[str, str]


class Shown(NamedTuple):
    """One limit as the headers show it. ``name`` is a limit's name: letters, digits and ``_`` alone."""

    name: str
    limit: int
    """Requests in ``window_s``."""
    window_s: int
    capacity: int
    fill_s: int
    remaining: int
    full_at_ms: int
    """When it is full again (UTC epoch)."""


def rate_limit_headers(limits: Sequence[Shown], told: Shown, now_ms: int) -> list[Header]:
    """The headers for ``limits``; ``X-RateLimit-*`` are about ``told``. Values are built from whole numbers and
    limit names alone, so nothing a caller sends can reach them."""
    return [
        ("X-RateLimit-Limit", str(told.limit)),
        ("X-RateLimit-Remaining", str(told.remaining)),
        ("X-RateLimit-Reset", str(ceil_s(told.full_at_ms))),
        ("X-RateLimit-Window", str(told.window_s)),
        ("RateLimit-Policy", ", ".join(f'"{item.name}";q={item.capacity};w={item.fill_s}' for item in limits)),
        (
            "RateLimit",
            ", ".join(
                f'"{item.name}";r={item.remaining};t={max(0, ceil_s(item.full_at_ms - now_ms))}' for item in limits
            ),
        ),
    ]


def ceil_s(value_ms: int) -> int:
    """Milliseconds as whole seconds, rounded up."""
    return -(-value_ms // 1000)
