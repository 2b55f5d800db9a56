"""How an organization was served in a month: how many of its requests were answered, failed, and how long they took
(requirements, section 1).

Durations are counted in buckets that are an eighth of their octave wide (a log-linear histogram, as HdrHistogram: Tene,
2012): a quantile is exact below 16 ms, and above that at most an eighth too high, whatever the durations are.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

_LINEAR_MS: Final = 16
_SUB_BITS: Final = 3


class Served(NamedTuple):
    """``requests`` are those that were not throttled; ``failures`` those of them that were answered 5xx."""

    requests: int
    failures: int
    p50_ms: int
    p99_ms: int


def bucket_of(duration_ms: int) -> int:
    """The bucket that a duration is counted in; never negative."""
    if duration_ms < _LINEAR_MS:
        return duration_ms
    shift = duration_ms.bit_length() - _SUB_BITS - 1
    return (shift << _SUB_BITS) + (duration_ms >> shift)


def longest_ms(bucket: int) -> int:
    """The longest duration that is counted in ``bucket``."""
    if bucket < _LINEAR_MS:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    return ((bucket - (shift << _SUB_BITS) + 1) << shift) - 1


def served(durations: Mapping[int, int], failures: int) -> Served | None:
    """The figures of a month; None before its first request."""
    total = sum(durations.values())
    if not total:
        return None
    ranks = [-(-total * percent // 100) for percent in (50, 99)]
    quantiles: list[int] = []
    reached = 0
    for bucket in sorted(durations):
        reached += durations[bucket]
        while len(quantiles) < len(ranks) and reached >= ranks[len(quantiles)]:
            quantiles.append(longest_ms(bucket))
    return Served(total, failures, *quantiles)
