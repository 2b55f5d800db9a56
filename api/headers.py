"""The header fields of answers, as the OpenAPI document says them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final


def _field(kind: str, description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


LIMITED: Final = {
    "X-RateLimit-Limit": _field("integer", "Requests a window of the limit that is told"),
    "X-RateLimit-Remaining": _field("integer", "How many of them are left"),
    "X-RateLimit-Reset": _field("integer", "When all are there again, in Unix seconds"),
    "X-RateLimit-Window": _field("integer", "The window in seconds"),
    "RateLimit": _field("string", "Each limit with what is left, as a structured field"),
    "RateLimit-Policy": _field("string", "Each limit, as a structured field"),
}
"""Of the answers to requests that the gate looked at."""
RETRY: Final = {"Retry-After": _field("integer", "After how many seconds to ask again")}
KEPT: Final = {
    "ETag": _field("string", "The weak tag of all but how fresh it is, for If-None-Match"),
    "Vary": _field("string", "What the answer depends on"),
    "Cache-Control": _field("string", "The caller's own cache may keep it, and asks each time"),
}
"""Of answers that may be kept and asked about again (``entity_tags``)."""
NOT_CHANGED: Final = {304: {"description": "Nothing changed since the tag that If-None-Match names", "headers": KEPT}}
IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETags that the caller has, or *: 304 where one is still right",
    "schema": {"type": "string"},
}
PAGED: Final = {"Link": _field("string", "The next page, where there is one (RFC 8288)")}
FRESH: Final = {
    "X-As-Of": _field("string", "Of CSV: as_of"),
    "X-Lag-Ms": _field("integer", "Of CSV: lag_ms"),
    "X-Final": _field("boolean", "Of CSV: final"),
}


def add_headers(document: dict[str, Any], metered: Iterable[str]) -> None:
    """Adds the limits' fields to the answers of the routes ``metered`` (as ``GET /v1/…``). Raises KeyError for a route
    that is not there."""
    for route in metered:
        method, path = route.replace(":path}", "}").split(" ")
        responses: Mapping[str, dict[str, Any]] = document["paths"][path][method.lower()]["responses"]
        for status in ("200", "429"):
            more = RETRY if status == "429" else {}
            responses[status]["headers"] = responses[status].get("headers", {}) | LIMITED | more
