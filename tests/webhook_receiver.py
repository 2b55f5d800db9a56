"""A receiver of webhooks on loopback, as somebody's own service would be: HTTP, signatures verified by the library."""

from __future__ import annotations

import http.server
import socketserver
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.outputs import Scope

SECRET = "whsec_" + b64encode(b"a secret of the tests, 32 bytes.").decode()
OLD_SECRET = "whsec_" + b64encode(b"the secret that was used before.").decode()
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def alert(number: int = 1, *, state: str = "fired", at: datetime | None = None, **changes: Any) -> UsageAlert:
    """The alert ``number`` of an organization."""
    now = (at or datetime.now(UTC)).replace(microsecond=0)
    fields: dict[str, Any] = {
        "alert_id": f"credits_80/org_heron/2026-01/{number}",
        "state": state,
        "sentence": f"Organization org_heron used 80 % of its credits, for the time number {number}.",
        "advice": "Cache or batch." if state == "fired" else "",
        "fired_at": now,
        "at": now,
        "rule": "credits_80",
        "severity": "warning",
        "account_id": "org_heron",
        "organization_id": "org_heron",
        "scope": Scope(kind="account", id="org_heron"),
        "threshold": 80,
        "observed": 80,
        "limit": 100,
        "unit": "credits_micro",
        "plan_version": 1,
        "cause": None,
    }
    return UsageAlert(**(fields | changes))


@dataclass
class Reply:
    """What the receiver answers: a status, headers, a body, after a while; ``body_forever`` never ends."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_s: float = 0.0
    body_forever: bool = False


class Receiver:
    """Listens from ``start`` to ``stop``, on one port; may be started again.

    ``reply`` says what to answer to the n-th request (from 0) and its webhook id. ``accepted`` counts verified requests
    by webhook id that were answered 2xx; ``payloads`` keeps the newest of each.
    """

    def __init__(self, *secrets: str, reply: Callable[[int, str], Reply] | None = None, port: int = 0) -> None:
        self._webhooks = [Webhook(secret) for secret in secrets or (SECRET,)]
        self.reply = reply or (lambda _number, _id: Reply())
        self.port = port
        self.requests = 0
        self.rejected: list[str] = []
        """Why requests were not believed."""
        self.accepted: Counter[str] = Counter()
        self.payloads: dict[str, dict[str, Any]] = {}
        self.headers: list[dict[str, str]] = []
        self.times_s: list[float] = []
        self._server: _Server | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/alerts?from=sluicegate"

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def heard(self, body: bytes, headers: dict[str, str]) -> Reply:
        """One request; called in a thread of its own."""
        webhook_id = headers.get("webhook-id", "")
        with self._lock:
            number, self.requests = self.requests, self.requests + 1
            self.headers.append(headers)
            self.times_s.append(time.monotonic())
        try:
            payloads = [webhook.verify(body, headers) for webhook in self._webhooks]
        except WebhookVerificationError as error:
            self.rejected.append(str(error))
            return Reply(401)
        reply = self.reply(number, webhook_id)
        if 200 <= reply.status < 300:
            with self._lock:
                self.accepted[webhook_id] += 1
                self.payloads[webhook_id] = payloads[0]
        return reply


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that hangs up, as it may."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        reply = self.server.receiver.heard(body, {name.lower(): value for name, value in self.headers.items()})
        time.sleep(reply.after_s)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if not reply.body_forever:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)
        while reply.body_forever:
            self.wfile.write(b"x" * 65_536)

    def log_message(self, *_: Any) -> None: ...
