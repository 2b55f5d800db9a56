"""One call through the kit, decided step by step without I/O: what sync and async transport have in common."""

import random
from collections.abc import Callable, Mapping
from enum import StrEnum
from threading import Lock
from typing import Final

import httpx

from .breaker import Breaker
from .hints import hints_of, retry_after_s
from .pace import Pacer
from .settings import ClientSettings

_HARMLESS_AGAIN: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_NOT_BEGUN: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
SERVERS_MAX: Final = 1_024


class Reason(StrEnum):
    """Why a fallback is asked for."""

    CIRCUIT_OPEN = "circuit_open"
    THROTTLED = "throttled"
    """429, and the tries or the patience are used up."""
    QUOTA = "quota"
    """403 of a used up quota or budget: trying again will not help before it resets."""
    FAILED = "failed"
    """No response, or a 5xx, and the tries or the patience are used up."""


class CircuitOpenError(httpx.TransportError):
    """The server failed so often in a row that it is not asked for a while."""


class _Server:
    """What is known of one server and key. Guarded by the kit's lock."""

    def __init__(self, settings: ClientSettings) -> None:
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_open_s)
        self.pacer = Pacer(settings.reserve_percent)


class Kit:
    """What all calls of a transport share; may be used by several threads.

    Above ``SERVERS_MAX`` servers and keys what was learnt longest ago is forgotten.
    """

    def __init__(
        self,
        settings: ClientSettings,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.monotonic = monotonic
        self.wall = wall
        self.draw = draw
        self.lock = Lock()
        self._servers: dict[tuple[str, int], _Server] = {}

    def server(self, request: httpx.Request) -> _Server:
        """By origin and credentials; the latter are not kept."""
        url = request.url
        name = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}", hash(request.headers.get("authorization"))
        with self.lock:
            server = self._servers.pop(name, None) or _Server(self.settings)
            self._servers[name] = server
            while len(self._servers) > SERVERS_MAX:
                del self._servers[next(iter(self._servers))]
        return server


class Call:
    """One request and its tries."""

    def __init__(self, kit: Kit, request: httpx.Request) -> None:
        self._kit = kit
        self._server = kit.server(request)
        self._path = f"{request.method} {request.url.path}"
        self._began = kit.monotonic()
        self._tries = 0
        is_whole = isinstance(request.stream, httpx.ByteStream)  # a stream that was read is gone
        may_repeat = request.method.upper() in _HARMLESS_AGAIN or "idempotency-key" in request.headers
        self._may_repeat = is_whole and may_repeat
        self._may_send_again = is_whole

    def pace_s(self) -> float:
        """How long to wait before this try. Raises CircuitOpenError: not to be made at all."""
        kit = self._kit
        with kit.lock:
            now = kit.monotonic()
            if not self._server.breaker.admits(now):
                raise CircuitOpenError("the server failed too often; it is asked again soon")
            self._tries += 1
            wait_s = self._server.pacer.enter(self._path, now) if kit.settings.paces else 0.0
            return min(wait_s, max(0.0, self._began + kit.settings.patience_s - now))

    def left(self) -> None:
        """The caller gave up while a try was under way."""
        with self._kit.lock:
            self._server.breaker.left()

    def answered(self, status: int, headers: Mapping[str, str]) -> float | None:
        """How long to wait before the next try; None: this response is the answer."""
        kit = self._kit
        wait_s = retry_after_s(headers, kit.wall())
        with kit.lock:
            now = kit.monotonic()
            if status >= 500:
                self._server.breaker.failed(now)
            else:
                self._server.breaker.succeeded()
            self._server.pacer.told(self._path, hints_of(headers), now)
            if status == 429:
                self._server.pacer.refused(self._path, now, wait_s or 0.0)
        if status == 429 or (status == 503 and wait_s is not None):
            return self._next(wait_s, allowed=self._may_send_again)
        return self._next(None, allowed=self._may_repeat) if status >= 500 else None

    def failed(self, error: httpx.TransportError) -> float | None:
        """The same for a try that brought no response."""
        kit = self._kit
        with kit.lock:
            self._server.breaker.failed(kit.monotonic())
        return self._next(None, allowed=self._may_send_again if isinstance(error, _NOT_BEGUN) else self._may_repeat)

    def _next(self, told_s: float | None, *, allowed: bool) -> float | None:
        kit, settings = self._kit, self._kit.settings
        if not allowed or self._tries >= settings.tries:
            return None
        if told_s is None:
            wait_s = kit.draw() * min(settings.backoff_max_s, settings.backoff_base_s * 2**self._tries)
        else:
            wait_s = told_s + kit.draw() * settings.backoff_base_s
        return wait_s if kit.monotonic() + wait_s - self._began <= settings.patience_s else None


def reason_of(response: httpx.Response | None, error: httpx.TransportError | None) -> Reason | None:
    """Why a fallback is asked for instead of this response, which has been read, or error; None: it is not."""
    if response is None:
        return Reason.CIRCUIT_OPEN if isinstance(error, CircuitOpenError) else Reason.FAILED
    if response.status_code == 429:
        return Reason.THROTTLED
    if response.status_code == 403 and b'"QuotaExceededError"' in response.content:
        return Reason.QUOTA
    return Reason.FAILED if response.status_code >= 500 else None


def is_refusal(status: int) -> bool:
    """Whether a response with this status may be one that a fallback is asked for."""
    return status in (403, 429) or status >= 500
