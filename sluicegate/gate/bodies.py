"""The bodies of refused requests, byte for byte as the contract shows them (requirements, section 3).

Credits are exact: their text goes into the JSON as it is, since a float could not hold it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec


def _body(status: int, kind: str, message: str, details: Mapping[str, Any]) -> bytes:
    present = {name: value for name, value in details.items() if value is not None}
    body = {
        "success": False,
        "status": status,
        "error": {"message": message, "type": kind, "details": present},
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=0)


def too_many_requests(message: str, details: Mapping[str, Any]) -> bytes:
    """429: too much in too short a time."""
    return _body(429, "TooManyRequestsError", message, details)


def quota_exceeded(message: str, details: Mapping[str, Any]) -> bytes:
    """403: an amount is used up."""
    return _body(403, "QuotaExceededError", message, details)


def bad_request(message: str, details: Mapping[str, Any]) -> bytes:
    """400: the request asks for more than one request may."""
    return _body(400, "BadRequestError", message, details)


def not_authenticated(message: str) -> bytes:
    """401: the key is missing, unknown or revoked. The body never says which key, and not whether it once existed."""
    return _body(401, "AuthenticationError", message, {"field": "Authorization"})


def not_found() -> bytes:
    """404: no operation has this method and path. The body repeats nothing of the request."""
    return _body(404, "NotFoundError", "No operation has this method and path", {})


def not_available(message: str) -> bytes:
    """503: the gate cannot tell yet."""
    return _body(503, "ServiceUnavailableError", message, {})
