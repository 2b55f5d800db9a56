"""The ASGI middleware: asks the gate before a request, meters it after (requirements, sections 2 and 3)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, Unpack

from .clock import Clock, epoch_ms
from .follower.entries import Key
from .gate import Answer, Gate, not_found
from .metering import CURRENT, Usage
from .operations import FindOperation, Operation, open_paths_of, route_path
from .publisher import EventFields

log = logging.getLogger("sluicegate.middleware")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
KnownCached = Callable[[Mapping[str, Any]], bool]
"""Takes an ASGI scope: whether the answer is in the service's cache, as far as that can be said in advance."""

CLIENT_CLOSED: Final = 499
"""Metered for a request whose client left before the response began; it costs nothing, as every 4xx."""
_AUTHORIZATION_BYTES_MAX: Final = 512


class Meter(Protocol):
    """What the middleware needs of a ``Publisher``."""

    def publish(self, **fields: Unpack[EventFields]) -> bool:
        """Takes one usage event without waiting; False where it was dropped or refused, which the meter counts."""


class Middleware:
    """Gates and meters the HTTP requests that ``find_operation`` names.

    ``open_paths`` (see ``open_paths_of``) pass untouched. Nothing else reaches the application: every other request is
    answered 404, and so is a path that frameworks read differently (see ``route_path``), whatever is open or named. A
    WebSocket is not metered, so its handshake is refused unless its path is open. OPTIONS is a method as any other: a
    CORS middleware around this one answers preflights itself; without one, name them, or list them as open.
    ``unrouted`` counts what was refused so.

    A request whose usage event the publisher drops or refuses is answered all the same; the publisher counts and logs
    those, and ``metering_failures`` counts the events that it did not take, for whatever reason. A model, label or
    subject that no event may carry is left out of it, counted in ``descriptions_left_out``.
    """

    def __init__(
        self,
        app: App,
        *,
        gate: Gate,
        meter: Meter,
        find_operation: FindOperation,
        open_paths: Iterable[str] = (),
        known_cached: KnownCached | None = None,
        clock: Clock = epoch_ms,
    ) -> None:
        self.metering_failures = 0
        self.descriptions_left_out = 0
        self.unrouted = 0
        self._app = app
        self._gate = gate
        self._meter = meter
        self._find_operation = find_operation
        self._is_open = open_paths_of(open_paths)
        self._known_cached = known_cached
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if route_path(scope) is None:
            await self._refuse_unrouted(scope, send)
            return
        operation = self._find_operation(scope) if scope["type"] == "http" else None
        if operation is not None:
            await self._gated(operation, scope, receive, send)
        elif self._is_open(scope):
            await self._app(scope, receive, send)
        else:
            await self._refuse_unrouted(scope, send)

    async def _gated(self, operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
        started_at_ms = self._clock()
        cached = self._known_cached is not None and self._known_cached(scope)
        answer = self._gate.check(
            _bearer(scope), operation.name, charges=operation.charges, cached=cached, now_ms=started_at_ms
        )
        usage = Usage(operation.name, cached=cached)
        if answer.allowed:
            await self._run(scope, receive, send, answer, usage, started_at_ms)
            return
        self._publish(answer.key, usage, started_at_ms, answer.status)
        await _refuse(send, answer)

    async def _refuse_unrouted(self, scope: Scope, send: Send) -> None:
        if not self.unrouted:
            log.warning("a request was refused: no operation and no open path names it; unrouted counts what follows")
        self.unrouted += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, not_found())

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, answer: Answer, usage: Usage, started_at_ms: int
    ) -> None:
        response = _Response(send, answer.headers)
        scope.setdefault("state", {})["sluicegate"] = usage
        token = CURRENT.set(usage)
        status: int | None = None
        try:
            await self._app(scope, receive, response.send)
            status = response.status or 500
        except asyncio.CancelledError:
            status = response.status or CLIENT_CLOSED
            raise
        except BaseException:
            status = (response.status or CLIENT_CLOSED) if response.cut or response.complete else 500
            raise
        finally:
            CURRENT.reset(token)
            self._publish(answer.key, usage, started_at_ms, status or 500)

    def _publish(self, key: Key | None, usage: Usage, started_at_ms: int, status: int) -> None:
        if key is None:
            return
        ts_ms = max(started_at_ms, self._clock())
        try:
            if usage.charges_lost:
                log.error("%s: %d charges beyond the limit of one event are lost", usage.operation, usage.charges_lost)
            if usage.leave_out_unusable():
                self.descriptions_left_out += 1
            taken = self._meter.publish(
                org_id=key.organization_id,
                api_key_id=key.api_key_id,
                account_id=key.account_id,
                operation=usage.operation,
                started_at_ms=started_at_ms,
                ts_ms=ts_ms,
                duration_ms=ts_ms - started_at_ms,
                status=status,
                quantities=usage.quantities or None,
                charges=usage.charges or None,
                model=usage.model,
                cached=usage.cached,
                labels=usage.labels or None,
                resource_delta=usage.resource_delta or None,
                subject=usage.subject,
            )
            self.metering_failures += not taken
        except Exception:
            self.metering_failures += 1
            log.exception("a %s of %s was not metered", usage.operation, key.api_key_id)


class _Response:
    """The way out of one response: notes its status, adds the gate's headers, notices a client that left."""

    def __init__(self, send: Send, headers: list[tuple[str, str]]) -> None:
        self.status: int | None = None
        self.cut = False
        self.complete = False
        self._send = send
        self._headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers]
        self._names = {name for name, _ in self._headers}

    async def send(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts:
            own = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in self._names]
            message = {**message, "headers": [*own, *self._headers]}
        try:
            await self._send(message)
        except OSError:
            self.cut = True
            raise
        if starts:
            self.status = message["status"]
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)


def _bearer(scope: Scope) -> str | None:
    """The Bearer token (RFC 6750, section 2.1); None where there is none, or more than one Authorization field."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) != 1 or len(found[0]) > _AUTHORIZATION_BYTES_MAX:
        return None
    scheme, _, token = found[0].strip().partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


async def _refuse(send: Send, answer: Answer) -> None:
    body = answer.body or b""
    headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
