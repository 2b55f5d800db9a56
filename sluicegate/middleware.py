"""The ASGI middleware: asks the gate before a request, meters it after (requirements, sections 2 and 3)."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, Unpack

from .clock import Clock, epoch_ms
from .errors import RefusedError
from .follower.entries import Key
from .gate import Answer, Description, Gate, Running, not_found, usable
from .metering import CURRENT, Usage
from .operations import FindOperation, Operation, open_paths_of, route_path
from .publisher import EventFields

log = logging.getLogger("sluicegate.middleware")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Describe = Callable[[Mapping[str, Any]], Description]
"""Takes an ASGI scope: what can be said of the request in advance, see ``Asked``. What it takes from the caller need
not be checked: what no request can be is left out."""

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

    ``describe`` says what is known of a request before it runs; its handler adds what it learns from the body with
    ``current().expect``. A request that may be let in in a moment waits for that at most ``wait_ms_max``.

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
        describe: Describe | None = None,
        wait_ms_max: int = 1_000,
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
        self._describe = describe
        self._wait_ms_max = wait_ms_max
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
        described: Description = {} if self._describe is None else usable(self._describe(scope))
        if operation.charges:
            described.setdefault("charges", operation.charges)
        answer = self._gate.check(_bearer(scope), operation.name, now_ms=started_at_ms, **described)
        usage = Usage(operation.name, cached=described.get("cached", False), subject=described.get("subject"))
        usage.labels.update(described.get("labels", {}))
        admitted_at_ms = started_at_ms
        if answer.pending is not None:
            answer = await self._wait(answer, usage, started_at_ms)
            admitted_at_ms = self._clock()
        if answer.allowed:
            scope.setdefault("state", {})["sluicegate"] = usage
            running = self._gate.begin(answer, admitted_at_ms)
            await self._run(scope, receive, send, answer, usage, started_at_ms, running)
            return
        self._publish(answer.key, usage, started_at_ms, answer.status)
        await _refuse(send, answer)

    async def _wait(self, answer: Answer, usage: Usage, started_at_ms: int) -> Answer:
        """Asks the gate again when what ``answer`` waits for has come, or the time is over."""
        assert answer.pending is not None, "something to wait for"
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_ms_max / 1000):
                    await answer.pending
        except asyncio.CancelledError:
            self._publish(answer.key, usage, started_at_ms, CLIENT_CLOSED)
            raise
        return self._gate.reconsider(answer, self._clock())

    async def _refuse_unrouted(self, scope: Scope, send: Send) -> None:
        if not self.unrouted:
            log.warning("a request was refused: no operation and no open path names it; unrouted counts what follows")
        self.unrouted += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, not_found())

    async def _run(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        answer: Answer,
        usage: Usage,
        started_at_ms: int,
        running: Running | None,
    ) -> None:
        response = _Response(send, answer.headers)
        token = CURRENT.set(usage)
        status: int | None = None
        limit_ms = None if running is None else running.request_ms_max
        try:
            async with asyncio.timeout(None if limit_ms is None else limit_ms / 1000) as deadline:
                if running is not None:
                    usage.ask_again = self._asker(running, response, deadline)
                await self._app(scope, receive, response.send)
            status = response.status or 500
        except asyncio.CancelledError:
            status = response.status or CLIENT_CLOSED
            raise
        except RefusedError:
            await response.send_refusal()
            status = response.status or 500
            if not response.has_refused:
                raise
        except BaseException:
            response.cut |= deadline.expired()
            status = (response.status or CLIENT_CLOSED) if response.cut or response.complete else 500
            raise
        finally:
            CURRENT.reset(token)
            usage.ask_again = None
            self._publish(answer.key, usage, started_at_ms, status or 500, running)
            self._gate.end(running, status or 500, usage.all_charges(), self._clock())

    def _asker(
        self, running: Running, response: "_Response", deadline: asyncio.Timeout
    ) -> Callable[[Description], Awaitable[None]]:
        """What ``current().expect`` calls: the refusal becomes the response, whatever the framework makes of the
        error."""

        async def ask(described: Description) -> None:
            answer = self._gate.revise(running, self._clock(), **usable(described))
            if answer.pending is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_ms_max / 1000):
                        await answer.pending
                answer = self._gate.revise(running, self._clock(), **usable(described))
            if not answer.allowed:
                response.refusal = answer
                raise RefusedError(answer.status)
            response.refusal = None
            if running.request_ms_max is not None:
                ends_by_s = asyncio.get_running_loop().time() + running.request_ms_max / 1000
                set_s = deadline.when()
                deadline.reschedule(ends_by_s if set_s is None else min(set_s, ends_by_s))

        return ask

    def _publish(
        self, key: Key | None, usage: Usage, started_at_ms: int, status: int, running: Running | None = None
    ) -> None:
        if key is None:
            return
        ended_ms = max(started_at_ms, self._clock())
        ts_ms = ended_ms if running is None else running.ended_ms(ended_ms)
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
                started_at_ms=min(started_at_ms, ts_ms),
                ts_ms=ts_ms,
                duration_ms=ended_ms - started_at_ms,
                status=status,
                quantities=usage.quantities or None,
                charges=usage.charges or None,
                model=usage.model,
                cached=usage.cached,
                labels=usage.labels or None,
                resource_delta=usage.resource_delta or None,
                subject=usage.subject,
                leases=(None if running is None else running.leases) or None,
            )
            self.metering_failures += not taken
        except Exception:
            self.metering_failures += 1
            log.exception("a %s of %s was not metered", usage.operation, key.api_key_id)


class _Response:
    """The way out of one response: notes its status, adds the gate's headers, notices a client that left."""

    def __init__(self, send: Send, headers: list[tuple[str, str]]) -> None:
        self.status: int | None = None
        self.refusal: Answer | None = None
        self.cut = False
        self.complete = False
        self.has_refused = False
        self._send = send
        self._headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers]
        self._names = {name for name, _ in self._headers}

    async def send(self, message: Message) -> None:
        if self.refusal is not None and (self.status is None or self.has_refused):
            await self.send_refusal()
            return
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

    async def send_refusal(self) -> None:
        """Sends the refusal instead of what the application would send; nothing where its response has begun."""
        if self.refusal is None or self.status is not None:
            return
        self.status, self.has_refused, self.complete = self.refusal.status, True, True
        await _refuse(self._send, self.refusal)


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
