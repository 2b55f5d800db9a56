"""Answers that a client may keep and ask about again: ETag and If-None-Match (RFC 9110, sections 8.8.3 and 13.1.2)."""

import hashlib
import re
from typing import Final

from fastapi import Request
from starlette.responses import Response

KEPT: Final = {"Cache-Control": "private, no-cache"}
"""The caller's own cache may keep it, and asks each time."""
_TAG_BYTES: Final = 12
_OPAQUE_TAG: Final = re.compile(r'"[^"]*"')


def tagged(request: Request, response: Response, content: bytes) -> Response:
    """``response`` with the weak tag of ``content``, which is all of it but ``as_of`` and ``lag_ms``; 304 where the
    caller has that already."""
    tag = f'W/"{hashlib.sha256(content).hexdigest()[: 2 * _TAG_BYTES]}"'
    fields = {**KEPT, "ETag": tag, "Vary": "Authorization, Accept"}
    named = ",".join(request.headers.getlist("if-none-match"))
    if named.strip() == "*" or tag.removeprefix("W/") in _OPAQUE_TAG.findall(named):  # weakly: W/ makes no difference
        return Response(status_code=304, headers=fields)
    response.headers.update(fields)
    return response
