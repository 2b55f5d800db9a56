"""The question that is asked most, answered without the framework's routing: ``GET /v1/organizations/usage`` as it is
asked by who polls it.

It is the route's own answer (``routes.usage``): the framework finds out again with each request what a route takes,
which is most of what such an answer costs. With a query, or another method, the route answers itself.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import encode
from .auth import Caller, check_scopes
from .balances import month_of
from .parts import Parts
from .problems import ProblemError, problem
from .routes.usage import usage_of_month

PATH: Final = "/v1/organizations/usage"


class Direct:
    """Wraps an ASGI application; stands within ``Metered``, which says who asks."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != PATH or scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        parts = self._parts
        caller: Caller = scope["state"]["caller"]
        try:
            check_scopes(caller, "usage:read")
            body = encode(usage_of_month(parts, caller, month_of(parts.clock())))
        except ProblemError as error:
            await problem(error.status, error.detail, error.headers)(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
