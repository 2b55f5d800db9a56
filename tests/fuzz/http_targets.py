"""What reads HTTP requests: the engine's HTTP face in parts and as a whole, and the middleware around a gate."""

import asyncio
import re
from base64 import b64encode
from typing import Any, Final

from sluicegate.gate import Gate
from sluicegate.middleware import Middleware
from sluicegate.operations import by_routes
from stack.clickhouse_http.app import ClickHouseHttp
from stack.clickhouse_http.bodies import DECOMPRESSORS, unpack
from stack.clickhouse_http.engine import Answer
from stack.clickhouse_http.failures import EngineError
from stack.clickhouse_http.forms import read_form
from stack.clickhouse_http.request import Statement, read_credentials, read_statement
from tests.gating import NOW_MS, SECRET, heron
from tests.metering import Recorder

from .target import Target

UNPACKED_MAX: Final = 1_000_000
PASSWORD: Final = "right"
BASIC: Final = b64encode(f"sluicegate:{PASSWORD}".encode())
_HEADER_VALUE: Final = re.compile(rb"[\t\x20-\x7e]*\Z")


def form(value: bytes) -> dict[str, str]:
    """A form: the content type on the first line, then the body."""
    content_type, _, body = value.partition(b"\n")
    return read_form(content_type.decode("latin-1"), body)


def statement(value: bytes) -> Statement:
    """A statement: the address's fields on the first line, then the body."""
    first, _, body = value.partition(b"\n")
    pairs = [pair.partition("=") for pair in first.decode("utf-8", "surrogateescape").split("&")]
    fields = {name: content for name, _, content in pairs}
    return read_statement(fields, body, headers={"x-clickhouse-database": fields.get("database", "")})


def credentials(value: bytes) -> tuple[str, str]:
    """The Authorization header of a login."""
    return read_credentials({}, {"authorization": value.decode("latin-1")})


def body(value: bytes) -> bytes:
    """A compressed body: the encoding on the first line."""
    encoding, _, packed = value.partition(b"\n")
    unpacked = unpack(packed, encoding.decode("latin-1"), UNPACKED_MAX)
    assert encoding.decode("latin-1") not in DECOMPRESSORS or len(unpacked) <= UNPACKED_MAX
    return unpacked


class _Engine:
    """Answers every statement with its text."""

    def run(self, asked: Statement) -> Answer:
        return Answer(asked.text, "{}")

    def close(self) -> None:
        """Nothing is open."""


def request_of(value: bytes) -> tuple[str, bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """(method, path, query, headers, body) of a request written as in HTTP/1.1, however wrong."""
    head, _, content = value.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [(name.strip().lower(), text.strip()) for name, _, text in (line.partition(b":") for line in lines)]
    return method.decode("latin-1"), path, query, headers, content


def ask(app: Any, value: bytes) -> list[dict[str, Any]]:
    """Sends a request to an ASGI application; the messages of its answer, with headers that cannot be split."""
    method, path, query, headers, content = request_of(value)
    sent: list[dict[str, Any]] = []
    left = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return left.pop() if left else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path.decode("utf-8", "replace"), "raw_path": path, "root_path": "", "query_string": query,
        "headers": headers, "server": ("service", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    for name, text in sent[0]["headers"]:
        assert re.fullmatch(rb"[a-z0-9-]+", name), f"a header named {name!r}"
        assert _HEADER_VALUE.match(text), f"{name!r} is {text!r}"
    return sent


def engine_face(value: bytes) -> int:
    """A whole request to the engine's HTTP face; without the password no statement runs."""
    sent = ask(ClickHouseHttp(_Engine(), "sluicegate", PASSWORD).application(), value)  # type: ignore[arg-type]  # all that is used
    status = sent[0]["status"]
    assert status < 500 or status in (501, 503) or b"DB::Exception" in b"".join(part.get("body", b"") for part in sent)
    knows_password = PASSWORD.encode() in value or BASIC in value
    assert status != 200 or knows_password or value.startswith((b"GET /", b"HEAD /"))
    return int(status)


OPERATIONS: Final = by_routes({"POST /v1/search": "search.knn", "GET /v1/documents/{id}": "documents.get"})


def middleware(value: bytes) -> int:
    """A whole request through gate and meter: it reaches the application only with the one good key, once metered."""
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    meter = Recorder()
    guarded = Middleware(app, gate=Gate(heron()), meter=meter, find_operation=OPERATIONS, clock=lambda: NOW_MS)
    sent = ask(guarded, value)
    status = sent[0]["status"]
    assert status in (200, 401, 404, 429)
    assert (status == 200) == bool(reached)
    if reached:
        assert SECRET.encode() in value
        assert [name for name, _ in request_of(value)[3]].count(b"authorization") == 1
        assert len(meter.events) == 1
        assert re.fullmatch(r"/v1/(search|documents/[^/\x00-\x1f\x7f]+)", reached[0])
    assert SECRET not in repr(meter.events)
    return int(status)


REQUESTS: Final = (
    Target("form", "bytes", form, (EngineError,), says=None),
    Target("statement", "bytes", statement, (EngineError,), says=None),
    Target("credentials", "bytes", credentials, (EngineError,)),
    Target("body", "bytes", body, (EngineError,), says=None),
    Target("engine_face", "bytes", engine_face, ()),
    Target("middleware", "bytes", middleware, ()),
)
