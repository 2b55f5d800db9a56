"""What a response says of its limits: the IETF RateLimit fields, else ``X-RateLimit-*``; and when to come back.

Headers come from a server that may be anybody's, so what cannot be read, or says something impossible, is passed over.
"""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import http_sf

HINTS_MAX: Final = 16
_AMOUNT_MAX: Final = 10**12
_SECONDS_MAX: Final = 31 * 86_400


class Hint(NamedTuple):
    """One bucket: it holds ``capacity`` tokens, an empty one is full again after ``fill_s``, ``remaining`` are left."""

    name: str
    capacity: int
    fill_s: int
    remaining: int


def hints_of(headers: Mapping[str, str]) -> list[Hint]:
    """The buckets that a response tells of (draft-ietf-httpapi-ratelimit-headers; requirements, section 3)."""
    policies = dict(_items(headers.get("ratelimit-policy")))
    found = []
    for name, parameters in _items(headers.get("ratelimit"))[:HINTS_MAX]:
        policy = policies.get(name, {})
        hint = _hint(name, policy.get("q"), policy.get("w"), parameters.get("r"))
        if hint is not None:
            found.append(hint)
    if not found:
        hint = _hint(
            "x-ratelimit",
            _whole(headers.get("x-ratelimit-limit")),
            _whole(headers.get("x-ratelimit-window")),
            _whole(headers.get("x-ratelimit-remaining")),
        )
        if hint is not None:
            found.append(hint)
    return found


def _hint(name: str, capacity: object, fill_s: object, remaining: object) -> Hint | None:
    if not (isinstance(capacity, int) and isinstance(fill_s, int) and isinstance(remaining, int)):
        return None
    if not (0 < capacity <= _AMOUNT_MAX and 0 < fill_s <= _SECONDS_MAX and remaining >= 0):
        return None
    return Hint(name, capacity, fill_s, min(remaining, capacity))


def _items(text: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    if not text or len(text) > 4_096:
        return []
    try:
        parsed = http_sf.parse(text.encode("latin-1"), tltype="list")
    except (ValueError, http_sf.StructuredFieldError):
        return []
    if not isinstance(parsed, list):
        return []
    return [(item[0], item[1]) for item in parsed if isinstance(item, tuple) and isinstance(item[0], str)]


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 12 else None


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds from ``now_s`` (UTC epoch) until the server wants to be asked again (RFC 9110, section 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    seconds = _whole(text)
    if seconds is not None:
        return float(min(seconds, _SECONDS_MAX))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(0.0, at.timestamp() - now_s), float(_SECONDS_MAX))
