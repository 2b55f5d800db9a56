"""How connections are held: their number, how long one may take to say what it wants, and how long it may be silent.

The server bounds none of it but the silence between two requests (``timeout_keep_alive``). A connection that has asked
something is bounded by the answer's own limits (``limits``).
"""

import asyncio
import resource
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from .limits import HEAD_BYTES_MAX

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as HTTPProtocol
else:
    HTTPProtocol = AutoHTTPProtocol  # the one in C where it is installed

CONNECTIONS_MAX: Final = 2_000
"""Open at a time; a further one is told 503 and closed unread."""
HEAD_LIMIT_S: Final = 10.0
"""From when a request begins to come until its head is there."""
IDLE_LIMIT_S: Final = 30
"""Silence of a connection: before its first request, and between an answer and the next request."""
UNTAKEN_LIMIT_MS: Final = 30_000
"""A client that takes nothing of what it is sent for so long is given up by the system (RFC 5482)."""
STOP_LIMIT_S: Final = 5
_FILES_BESIDE: Final = 512
"""Open files of the process that are no connections."""
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LONG_HEAD: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HTTPProtocol):
    """One connection of the server's, with a deadline until each request's head is there."""

    _due: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_silent = True
    """Nothing has come yet."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server's own
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(_FULL)
        else:
            self._due = self.loop.call_later(IDLE_LIMIT_S, self._late)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._forget_due()
            return
        answering = before is not None and not before.response_complete
        if self._is_silent:
            self._is_silent = False
            self._forget_due()
        if before is None or not before.more_body:  # else it is of a body, of which nothing is kept once it is answered
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_LONG_HEAD, answering)
                return
        if self._due is None and not answering:
            self._due = self.loop.call_later(HEAD_LIMIT_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_due()
        super().connection_lost(exc)

    def _forget_due(self) -> None:
        self._head_bytes = 0
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _late(self) -> None:
        self._due = None
        self.transport.close()

    def _refuse(self, answer: bytes, answering: bool = False) -> None:
        self._forget_due()
        if answering:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def configuration(app: ASGIApp) -> uvicorn.Config:
    """How the server runs ``app``, which answers for itself whatever a request holds."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_keep_alive=IDLE_LIMIT_S,
        timeout_graceful_shutdown=STOP_LIMIT_S,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, and room for as many files as there may be connections. Raises OSError."""
    _make_room()
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server((host, port), family=family, backlog=512)
    if sys.platform == "linux":  # whoever is accepted has it from the socket that listens
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_LIMIT_MS)
    return listening


def _make_room() -> None:
    """Raises the process's own limit of open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        room = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
