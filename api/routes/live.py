"""``GET /v1/organizations/live``: balances, decisions and alerts as they come, as server-sent events (HTML Living
Standard, section 9.2).

The stream is not metered and takes no place among the requests that run: it has limits of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..answers import encode
from ..auth import Headers, ReadsAll, customer_of
from ..balances import month_of
from ..live import Event, Hub, Listener
from ..parts import Parts
from ..problems import ProblemError
from .usage import usage_of_month

router = APIRouter(tags=["live"])

HEARTBEAT_S: Final = 15.0
SEND_LIMIT_S: Final = 10.0
"""A client that takes nothing for so long is let go."""
RETRY_MS: Final = 2_000
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


STREAMS: Final[dict[str, Any]] = {
    "response_model": None,
    "responses": {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
}
"""What a route's decorator says of a stream."""


@router.get("/v1/organizations/live", **STREAMS)
async def live(request: Request, caller: ReadsAll) -> Response:
    """Events `balance` (the form of /v1/organizations/usage; first of all, and whenever credits change), `decision` and
    `alert`. Last-Event-ID goes on where a stream broke off; a comment each 15 s says that it lives."""
    parts: Parts = request.app.state.parts

    def may_read(headers: Headers) -> bool:
        """Whether the key is still what it was when the stream began."""
        try:
            return customer_of(parts.knowledge, headers) == caller
        except ProblemError:
            return False

    def begin() -> list[bytes]:
        usage = usage_of_month(parts, caller, month_of(parts.clock()))
        return [b"event: balance\ndata: " + encode(usage) + b"\n\n"]

    last = request.headers.get("last-event-id", "")
    return EventStream(request.app.state.hub, caller.organization_id, may_read, begin, last)


class EventStream(Response):
    """The response that goes on until the client leaves, does not keep up, or may not read any more. It tells what the
    hub says to ``audience``, first what was missed since the last event, or where that cannot be told ``begin()``."""

    def __init__(
        self,
        hub: Hub,
        audience: str,
        may_read: Callable[[Headers], bool],
        begin: Callable[[], list[bytes]],
        last_event_id: str,
    ) -> None:
        super().__init__()
        self._hub = hub
        self._audience = audience
        self._may_read = may_read
        self._begin = begin
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._hub.listening(self._audience) as listener:
            missed = self._hub.since(self._audience, self._last_event_id)
            # Before the answer begins: where nothing can be told it is a 503.
            first = self._begin() if missed is None else [self._text(event) for event in missed]
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            leaving = asyncio.create_task(_left(receive))
            writing = asyncio.create_task(self._write(scope, send, listener, first))
            try:
                await asyncio.wait({leaving, writing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                writing.cancel()
            if writing.done() and not writing.cancelled():
                writing.result()

    async def _write(self, scope: Scope, send: Send, listener: Listener, first: list[bytes]) -> None:
        with contextlib.suppress(TimeoutError):
            async for text in self._texts(scope, listener, first):
                async with asyncio.timeout(SEND_LIMIT_S):
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            async with asyncio.timeout(SEND_LIMIT_S):
                await send({"type": "http.response.body", "body": b""})

    async def _texts(self, scope: Scope, listener: Listener, first: list[bytes]) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        for text in first:
            yield text
        while not listener.is_slow and self._may_read(scope["headers"]):
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    event = await listener.waiting.get()
            except TimeoutError:
                yield b": lives\n\n"
                continue
            if self._may_read(scope["headers"]):
                yield self._text(event)

    def _text(self, event: Event) -> bytes:
        head = f"id: {self._hub.identify(event)}\nevent: {event.kind}\ndata: ".encode()
        return head + event.data + b"\n\n"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
