"""The rate limit headers of every response (requirements, sections 3 and 9).

``X-RateLimit-*`` tell of one limit: the tighter, by share, of the key's and the category's minute bucket, or on a 429
the limit that fired. ``RateLimit-Policy`` and ``RateLimit`` tell of all of them, as structured fields (RFC 9651) in the
form of draft-ietf-httpapi-ratelimit-headers since its version 08: there ``q`` is what a full bucket holds and ``w`` how
long an empty one takes to be full again, so that ``r``, what it lets through at once, never passes ``q``; ``qu`` is the
unit where it is not requests.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .limiter import MINUTE_MS, Bucket, Level

Header = tuple[str, str]


Stand = tuple[Bucket, int, int]
"""A bucket as it stands: how many requests it lets through at once, in how many ms it is full again."""


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
    unit: str | None = None


def shown_level(level: Level, now_ms: int) -> Shown:
    """A bucket of the gate's own as it stands at ``now_ms``."""
    bucket = level.bucket
    return Shown(
        bucket.name,
        bucket.limit,
        bucket.window_s,
        bucket.capacity,
        bucket.fill_s,
        level.remaining,
        now_ms + level.full_in_ms,
    )


def policy_of(buckets: Sequence[Bucket]) -> str:
    """``RateLimit-Policy`` for ``buckets``."""
    return ", ".join(f'"{bucket.name}";q={bucket.capacity};w={bucket.fill_s}' for bucket in buckets)


def admitted_headers(policy: str, stands: Sequence[Stand], now_ms: int) -> list[Header]:
    """The headers of a request that passed the buckets of ``stands``, at least one; ``policy`` is theirs."""
    told = None
    fields = []
    for stand in stands:
        (name, _, period_ms, capacity), remaining, full_in_ms = stand
        fields.append(f'"{name}";r={remaining};t={-(-full_in_ms // 1000)}')
        if period_ms == MINUTE_MS and (told is None or remaining * told[0].capacity < told[1] * capacity):
            told = stand
    (_, rate, period_ms, _), remaining, full_in_ms = stands[-1] if told is None else told
    return [
        ("X-RateLimit-Limit", str(rate)),
        ("X-RateLimit-Remaining", str(remaining)),
        ("X-RateLimit-Reset", str(-(-(now_ms + full_in_ms) // 1000))),
        ("X-RateLimit-Window", str(period_ms // 1000)),
        ("RateLimit-Policy", policy),
        ("RateLimit", ", ".join(fields)),
    ]


def refused_headers(limits: Sequence[Shown], told: Shown, now_ms: int) -> list[Header]:
    """The headers for ``limits``; ``X-RateLimit-*`` are about ``told``. Values are built from whole numbers and
    limit names alone, so nothing a caller sends can reach them."""
    return [
        ("X-RateLimit-Limit", str(told.limit)),
        ("X-RateLimit-Remaining", str(told.remaining)),
        ("X-RateLimit-Reset", str(ceil_s(told.full_at_ms))),
        ("X-RateLimit-Window", str(told.window_s)),
        ("RateLimit-Policy", ", ".join(_policy(item) for item in limits)),
        (
            "RateLimit",
            ", ".join(
                f'"{item.name}";r={item.remaining};t={max(0, ceil_s(item.full_at_ms - now_ms))}' for item in limits
            ),
        ),
    ]


def _policy(item: Shown) -> str:
    unit = "" if item.unit is None else f';qu="{item.unit}"'
    return f'"{item.name}";q={item.capacity};w={item.fill_s}{unit}'


def ceil_s(value_ms: int) -> int:
    """Milliseconds as whole seconds, rounded up."""
    return -(-value_ms // 1000)
