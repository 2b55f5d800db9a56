"""The operators' paths need a credential before anything of a request is read.

The framework would parse its body first, and so tell somebody whom it does not answer that there is a route.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .auth import operator_of
from .parts import Parts
from .problems import ProblemError, problem

OPERATORS: Final = "/v1/operator"


class Guarded:
    """Wraps an ASGI application. Which scope a route needs, it says itself."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(OPERATORS):
            try:
                operator_of(self._parts.operators, scope["headers"])
            except ProblemError as error:
                await problem(error.status, error.detail, error.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)
