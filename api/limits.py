"""The bounds of every request, and the headers of every answer: the outermost layer.

Nothing else sees a request that breaks one, and no error gets past it without an answer.
"""

import asyncio
import logging
from collections.abc import Callable
from itertools import chain
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import ProblemError, problem

log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 64 * 1024
LENGTH_DIGITS_MAX: Final = 18
QUERY_BYTES_MAX: Final = 4 * 1024
PATH_BYTES_MAX: Final = 1024
HEADERS_MAX: Final = 64
HEAD_BYTES_MAX: Final = 32 * 1024
"""Names and values of all header fields; and what comes of a request before its head is there."""
ANSWER_LIMIT_S: Final = 30.0
"""An answer has begun by then, or it is a 503; a stream may go on."""
HEADERS: Final = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class TooLargeError(HTTPException):
    """A body that grows beyond its bound while it is read: an error of the framework's own kind, since it takes any
    other for a body that cannot be parsed."""

    def __init__(self) -> None:
        super().__init__(413)


class Bounds:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = _refusal(scope)
        if refusal is None:
            refusal = await self._answered(scope, receive, send)
        if refusal is not None:
            await problem(refusal.status, refusal.detail, refusal.headers)(scope, receive, _completing(send))

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> ProblemError | None:
        """Lets the application answer; returns what to answer where it did not."""
        has_begun = False

        def begin() -> None:
            nonlocal has_begun
            has_begun = True
            if not limit.expired():  # else it begins while it is given up: then it goes on, since it has begun
                limit.reschedule(None)

        try:
            async with asyncio.timeout(ANSWER_LIMIT_S) as limit:
                await self._app(scope, _bounded(receive), _completing(send, begin))
        except Exception as error:
            if has_begun:
                raise
            return _refusal_of(error)
        return None


def _completing(send: Send, begin: Callable[[], None] = lambda: None) -> Send:
    """Adds the fields that every answer has, where it does not say another thing itself."""

    async def send_completed(message: Message) -> None:
        if message["type"] == "http.response.start":
            begin()
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            message = {**message, "headers": own + [field for field in HEADERS if field[0] not in names]}
        await send(message)

    return send_completed


def _refusal(scope: Scope) -> ProblemError | None:
    """What is refused unread."""
    if len(scope["query_string"]) > QUERY_BYTES_MAX or len(scope["path"]) > PATH_BYTES_MAX:
        return ProblemError(414, "The address is too long.")
    headers = scope["headers"]
    if len(headers) > HEADERS_MAX or sum(map(len, chain.from_iterable(headers))) > HEAD_BYTES_MAX:
        return ProblemError(431, "There are too many header fields, or they are too long.")
    length = dict(headers).get(b"content-length", b"0")
    if length.isdigit() and (len(length) > LENGTH_DIGITS_MAX or int(length) > BODY_BYTES_MAX):
        return _too_large()
    return None


def _refusal_of(error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case TooLargeError():
            return _too_large()
        case TimeoutError():
            return ProblemError(503, "The answer took too long.", {"Retry-After": "5"})
    log.error("a request was not answered", exc_info=error)
    return ProblemError(500, "This is a fault of the service; it was noted.")


def _too_large() -> ProblemError:
    return ProblemError(413, f"A body has at most {BODY_BYTES_MAX} bytes.")


def _bounded(receive: Receive) -> Receive:
    taken = 0

    async def receive_bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > BODY_BYTES_MAX:
            raise TooLargeError
        return message

    return receive_bounded
