"""The bodies of refused requests, byte for byte as the contract shows them (requirements, section 3).

Credits are exact: their text goes into the JSON as it is, since a float could not hold it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from sluicegate_schemas.catalogue import Tier
from sluicegate_schemas.money import credits_text


def _body(status: int, kind: str, message: str, details: Mapping[str, Any]) -> bytes:
    present = {name: value for name, value in details.items() if value is not None}
    body = {
        "success": False,
        "status": status,
        "error": {"message": message, "type": kind, "details": present},
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=0)


def too_many_requests(
    *, limit: int, window: str, retry_after_s: int, scope: str, limit_name: str, decision_id: str | None
) -> bytes:
    """429: ``limit`` requests in ``window`` ("1s", "1m") were used up; ``decision_id`` where a worker decided it."""
    details = {
        "limit": limit,
        "window": window,
        "retry_after": retry_after_s,
        "scope": scope,
        "limit_name": limit_name,
        "decision_id": decision_id,
    }
    return _body(429, "TooManyRequestsError", "Rate limit exceeded", details)


def credits_used_up(
    *, used_micro: int, total_micro: int, tier: Tier, reset_date: str, scope: str, decision_id: str
) -> bytes:
    """403: the month's credits are used; ``reset_date`` (RFC 3339, UTC) is when there are new ones."""
    details = {
        "resource": "credits",
        "current": msgspec.Raw(credits_text(used_micro).encode()),
        "limit": msgspec.Raw(credits_text(total_micro).encode()),
        "tier": tier,
        "reset_date": reset_date,
        "scope": scope,
        "limit_name": "credits",
        "decision_id": decision_id,
    }
    return _body(403, "QuotaExceededError", "Credit quota exceeded", details)


def not_authenticated(message: str) -> bytes:
    """401: the key is missing, unknown or revoked. The body never says which key, and not whether it once existed."""
    return _body(401, "AuthenticationError", message, {"field": "Authorization"})


def not_found() -> bytes:
    """404: no operation has this method and path. The body repeats nothing of the request."""
    return _body(404, "NotFoundError", "No operation has this method and path", {})


def not_available(message: str) -> bytes:
    """503: the gate cannot tell yet."""
    return _body(503, "ServiceUnavailableError", message, {})
