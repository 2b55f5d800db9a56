"""One small HTTP server for what watches a process: ``/livez``, ``/readyz`` and ``/metrics``.

::

    registry = CollectorRegistry()                       # one a process, of its own: prometheus_client's global one
    registry.register(collector)                         # would bring metrics that nobody decided on
    endpoint = Endpoint(
        settings.health_listen,                          # "127.0.0.1:9464"; "" listens nowhere
        registry=registry,
        live=lambda: Answer(True, {"state": "runs"}),    # False is answered 503: start me anew
        ready=lambda: Answer(False, {"waits_for": "its broker"}),
    )
    endpoint.address                                     # ("127.0.0.1", 9464), as bound: port 0 takes a free one
    endpoint.close()

It runs in threads of its own, so it answers while the process's event loop is stuck; ``live``, ``ready`` and the
collectors are called there, so they may only read. It has no authentication and says nothing secret: who sets another
address than loopback opens it to that network. Connections, their time and the size of a request are bounded.
"""

import http.server
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 16
"""Above it a connection is closed unanswered."""
ANSWER_LIMIT_S: Final = 5.0
"""A connection that is not done by then is cut."""
_LISTEN: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


class Answer(NamedTuple):
    """``ok`` is answered 200, else 503; ``body`` goes out as JSON."""

    ok: bool
    body: Mapping[str, Any] | msgspec.Struct


Probe = Callable[[], Answer]


class ListenError(ValueError):
    """Nothing can listen there; the message says why and what to do."""


def parse_listen(text: str) -> tuple[str, int] | None:
    """(address, port) of ``host:port`` or ``[v6]:port``; None for "". Raises ListenError.

    An address is always named: whoever wants all of them writes ``0.0.0.0:9464``.
    """
    if not text:
        return None
    match = _LISTEN.fullmatch(text)
    if match is None or (port := int(match["port"])) > 65_535:
        raise ListenError(f"{text!r} is no address to listen on; write it like 127.0.0.1:9464, [::1]:9464, or nothing")
    return match["six"] or match["host"], port


class Endpoint:
    """Listens from its making to ``close``; see the module. Raises ListenError where it can't."""

    def __init__(self, listen: str, *, registry: CollectorRegistry, live: Probe, ready: Probe) -> None:
        self._server: _Server | None = None
        place = parse_listen(listen)
        if place is None:
            return
        pages = {"/livez": _probe_page(live), "/readyz": _probe_page(ready), "/metrics": _metrics_page(registry)}
        try:
            family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
            self._server = _Server(family, place, pages)
        except OSError as error:
            raise ListenError(f"nothing can listen on {listen} ({error.strerror}); choose another address") from error
        threading.Thread(target=self._server.serve_forever, name="health-endpoint", daemon=True).start()
        log.info("health and metrics: http://%s/livez, /readyz, /metrics", self.netloc)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; None where it does not."""
        return None if self._server is None else (self._server.server_address[0], self._server.server_address[1])

    @property
    def netloc(self) -> str:
        """``host:port`` as in a URL; "" where it does not listen."""
        if self.address is None:
            return ""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Listens no more. May be called twice."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()


_Page = Callable[[str], tuple[int, str, bytes]]
"""(status, content type, body) for the request's ``Accept``."""


def _probe_page(probe: Probe) -> _Page:
    def page(_accept: str) -> tuple[int, str, bytes]:
        answer = probe()
        return 200 if answer.ok else 503, "application/json", msgspec.json.encode(answer.body) + b"\n"

    return page


def _metrics_page(registry: CollectorRegistry) -> _Page:
    def page(accept: str) -> tuple[int, str, bytes]:
        encode, content_type = choose_encoder(accept)
        return 200, content_type, encode(registry)

    return page


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    server_address: tuple[str, int]

    def __init__(self, family: socket.AddressFamily, place: tuple[str, int], pages: Mapping[str, _Page]) -> None:
        self.address_family = family
        self.pages = pages
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask a name server for its own name

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        cut = threading.Timer(ANSWER_LIMIT_S, _cut, (request,))
        cut.daemon = True
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request for health or metrics failed", exc_info=True)


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it ended by itself


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = ANSWER_LIMIT_S

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(404)
            return
        try:
            self._answer(*page(self.headers.get("Accept", "")))
        except OSError:
            raise
        except Exception:
            log.exception("%s cannot be answered", self.path.partition("?")[0])
            self.send_error(500)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # http.server's own would repeat parts of the request.
        self.close_connection = True
        self._answer(code, "text/plain; charset=utf-8", f"{http.HTTPStatus(code).phrase}\n".encode())

    def version_string(self) -> str:
        return "sluicegate"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
        log.debug("%s", self.command)
