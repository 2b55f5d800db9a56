"""There is no way around gate and meter: what reaches the application is an operation, or open on purpose."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from examples.service import OPERATIONS, create_app
from sluicegate import ConfigurationError, Gate, Middleware, Sluicegate, by_routes
from sluicegate.middleware import App, Message, Scope
from sluicegate.operations import Operation, Routes, open_paths_of
from sluicegate_schemas.limits import RateLimits
from tests.gating import NOW_MS, SECRET, Known, catalogue_record, heron, key_record, organization_record
from tests.metering import Recorder

AUTHORIZED = [(b"authorization", f"Bearer {SECRET}".encode())]


class Counting:
    """An application that notes every request that reaches it."""

    def __init__(self, app: App) -> None:
        self.reached: list[str] = []
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.reached.append(scope["path"])
        await self._app(scope, receive, send)


async def ask(
    app: App,
    method: str,
    path: str,
    *,
    root_path: str = "",
    headers: list[tuple[bytes, bytes]] | None = None,
    kind: str = "http",
) -> tuple[list[Message], Scope]:
    """Calls ``app`` with an already decoded path, as servers do; the answer and the scope."""
    sent: list[Message] = []
    left = [{"type": "websocket.connect"}] if kind == "websocket" else [{"type": "http.request", "body": b"{}"}]

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return left.pop() if left else {"type": f"{kind}.disconnect"}

    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": AUTHORIZED if headers is None else headers,
        "server": ("service", 80),
    }
    if kind == "http":
        scope["method"] = method
    await app(scope, receive, send)
    return sent, scope


@pytest.fixture
def meter() -> Recorder:
    return Recorder()


@pytest.fixture
def example(meter: Recorder) -> App:
    """The example service, with a gate that knows one key and a meter that keeps what it is given."""
    sluicegate = Sluicegate.from_environment({})
    sluicegate.gate, sluicegate.publisher = Gate(heron()), meter  # type: ignore[assignment]  # all that is used of it
    return create_app(sluicegate)


AROUND = [
    ("POST", "/v1/inference/llm%0A"),
    ("POST", "/v1/inference/llm%0D%0A"),
    ("POST", "/v1/inference/llm%00"),
    ("POST", "/v1/inference/llm%C2%85"),
    ("POST", "/v1/inference/llm%E2%80%A8"),
    ("POST", "/v1/inference/llm%250A"),
    ("POST", "/v1/inference/llm/"),
    ("POST", "/v1/inference//llm"),
    ("POST", "//v1/inference/llm"),
    ("POST", "/v1/./inference/llm"),
    ("POST", "/v1/search/%2E%2E/inference/llm"),
    ("POST", "/health/%2e%2e/v1/inference/llm"),
    ("POST", "/v1/Inference/LLM"),
    ("POST", "/V1/inference/llm"),
    ("POST", "/v1/inference/llm;a=1"),
    ("POST", "/v1/inference%5Cllm"),
    ("POST", "/v1/search/other"),
    ("POST", "/v1/search/knn%0A"),
    ("POST", "/v1/retrievers/r1%2Fr2/execute"),
    ("POST", "/v1/retrievers/r1/execute%0A"),
    ("POST", "/v1/retrievers/%0A/execute"),
    ("GET", "/v1/inference/llm"),
    ("PUT", "/v1/collections"),
    ("post", "/v1/inference/llm"),
    ("OPTIONS", "/v1/inference/llm"),
    ("TRACE", "/v1/collections"),
    ("HEAD", "/v1/inference/llm"),
    ("GET", "/"),
    ("GET", "/health/"),
    ("GET", "/health%0A"),
    ("POST", "/health"),
    ("OPTIONS", "/health"),
]


@pytest.mark.parametrize("secret", [SECRET, None])
@pytest.mark.parametrize(("method", "target"), AROUND)
async def test_the_example_answers_404_to_what_is_no_operation(
    example: App, meter: Recorder, method: str, target: str, secret: str | None
) -> None:
    headers = AUTHORIZED if secret else []
    sent, scope = await ask(example, method, unquote(target), headers=headers)
    assert sent[0]["status"] == 404
    assert sent[1]["body"] == (
        b'{"success": false, "status": 404, "error": {"message": "No operation has this method and path", '
        b'"type": "NotFoundError", "details": {}}}'
    )
    assert (b"content-type", b"application/json") in sent[0]["headers"]
    assert "endpoint" not in scope, "no handler was chosen"
    assert meter.events == []


@pytest.mark.parametrize("target", ["/v1/inference%2Fllm", "/v1/%69nference/llm", "/v1/inference/llm?a=%0A"])
async def test_what_decodes_to_an_operation_is_metered_as_that_operation(
    example: App, meter: Recorder, target: str
) -> None:
    transport = httpx.ASGITransport(app=example)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.post(target, json={"input_tokens": 1, "output_tokens": 2})
        assert response.status_code == 401
        client.headers["Authorization"] = f"Bearer {SECRET}"
        response = await client.post(target, json={"input_tokens": 1, "output_tokens": 2})
    assert response.status_code == 200
    assert [(event["operation"], event["quantities"]) for event in meter.events] == [("inference.llm", {"tokens": 3})]


@pytest.mark.parametrize("target", ["/v1/inference/llm%0A", "/v1/inference/%2e%2e/inference/llm", "/v1/search/other"])
async def test_a_real_server_decodes_paths_before_they_are_looked_at(
    example: App, meter: Recorder, target: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(example, lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            head = f"POST {target} HTTP/1.1\r\nHost: service\r\nAuthorization: Bearer {SECRET}\r\n"
            writer.write(f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            async with asyncio.timeout(10):
                answer = await reader.read()
            writer.close()
        finally:
            server.should_exit = True
            await serving
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"type": "NotFoundError"' in answer
    assert meter.events == []


async def test_head_needs_a_key_and_is_metered_as_get(example: App, meter: Recorder) -> None:
    sent, _ = await ask(example, "HEAD", "/v1/collections", headers=[])
    assert (sent[0]["status"], meter.events) == (401, [])
    sent, _ = await ask(example, "HEAD", "/v1/collections")
    assert sent[0]["status"] == 200
    assert [event["operation"] for event in meter.events] == ["collections.list"]


async def test_head_and_get_take_from_one_bucket(meter: Recorder) -> None:
    rates = RateLimits(requests_per_minute=60, requests_per_second=1, burst=1)
    known = Known().learn(catalogue_record(), organization_record(rates=rates), key_record())
    app = Middleware(
        ANYTHING, gate=Gate(known), meter=meter, find_operation=by_routes({"GET /a": "a.list"}), clock=noon
    )
    statuses = [(await ask(app, method, "/a"))[0][0]["status"] for method in ("HEAD", "GET", "HEAD")]
    assert statuses == [200, 429, 429]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_examples_health_is_open(example: App, meter: Recorder, method: str) -> None:
    sent, scope = await ask(example, method, "/health", headers=[])
    assert (sent[0]["status"], "endpoint" in scope, meter.events) == (503, True, [])


@pytest.mark.parametrize("route", list(OPERATIONS))
async def test_every_operation_of_the_example_reaches_a_handler_and_is_metered(
    example: App, meter: Recorder, route: str
) -> None:
    method, path = route.replace("{id}", "x").split(" ")
    _, scope = await ask(example, method, path)
    operation = OPERATIONS[route]
    assert "endpoint" in scope
    assert [event["operation"] for event in meter.events] == [
        operation.name if isinstance(operation, Operation) else operation
    ]


def noon() -> int:
    return NOW_MS


async def anything(request: Request) -> Response:
    return PlainTextResponse(request.url.path)


async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


INNER = Starlette(routes=[Route("/{path:path}", anything, methods=["GET", "POST"])])
ANYTHING = Starlette(
    routes=[
        WebSocketRoute("/live", live),
        Mount("/mounted", app=INNER),
        Route("/{path:path}", anything, methods=["GET", "POST", "OPTIONS"]),
    ]
)
SEARCH: Routes = {"POST /search": "search.knn", "GET /files/{rest:path}": "files.get", "POST /mounted/run": "run.start"}


def guarded(meter: Recorder, app: App = ANYTHING, operations: Routes = SEARCH, **more: Any) -> tuple[App, Counting]:
    counting = Counting(app)
    find = by_routes(operations)
    return Middleware(counting, gate=Gate(heron()), meter=meter, find_operation=find, clock=noon, **more), counting


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/search\n"),
        ("POST", "/search/"),
        ("POST", "//search"),
        ("POST", "/SEARCH"),
        ("POST", "/x/../search"),
        ("POST", "/./search"),
        ("POST", "/mounted/search"),
        ("POST", "/mounted/run\n"),
        ("POST", "/mounted//run"),
        ("POST", "/mounted"),
        ("OPTIONS", "/search"),
        ("GET", "/files"),
        ("GET", "/files/../search"),
        ("GET", "/files/.."),
        ("GET", "/files/a\n"),
        ("GET", "/files/a\x7f"),
        ("GET", "/files/a\x85"),
        ("GET", "/files/\x9fa"),
        ("GET", "/files/a\u2028b"),
        ("GET", "/files/a\u2029"),
        ("GET", "*"),
        ("GET", ""),
        ("GET", "http://service/files/a"),
    ],
)
async def test_a_route_that_takes_every_path_is_not_reached(meter: Recorder, method: str, path: str) -> None:
    app, counting = guarded(meter)
    sent, _ = await ask(app, method, path)
    assert (sent[0]["status"], counting.reached, meter.events) == (404, [], [])


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE", "post"]),
    path=st.lists(
        st.sampled_from(
            ["/", "search", "files", "mounted", "run", "open", ".", "..", "\n", "\r", "\x00", "%2F", "S", "é"]
        )
    ).map("".join),
    root_path=st.sampled_from(["", "/", "/mounted", "/files", "/search"]),
)
async def test_whatever_reaches_the_application_was_metered_or_is_open(method: str, path: str, root_path: str) -> None:
    meter = Recorder()
    app, counting = guarded(meter, open_paths=["/open", "POST /open/{rest:path}"])
    sent, scope = await ask(app, method, root_path + path, root_path=root_path)
    assert len(meter.events) <= len(counting.reached) == (sent[0]["status"] != 404)
    if counting.reached and not meter.events:
        beneath = path if path.startswith("/") else root_path + path
        assert beneath == "/open" or (method == "POST" and beneath.startswith("/open/"))
        assert not any(character in scope["path"] for character in "\r\n\x00")


async def test_a_mounted_application_may_be_guarded_by_its_own_table(meter: Recorder) -> None:
    inner, counting = guarded(meter, INNER)
    outer = Starlette(routes=[Mount("/api", app=inner)])
    statuses = [
        (await ask(outer, "POST", path))[0][0]["status"]
        for path in ("/api/search", "/api/api/search", "/api/search/", "/api/search\n", "/api//search")
    ]
    assert statuses == [200, 404, 404, 404, 404]
    assert (counting.reached, len(meter.events)) == (["/api/search"], 1)


@pytest.mark.parametrize(
    ("root_path", "path", "status"),
    [
        ("/api", "/api/search", 200),
        ("/api", "/search", 200),
        ("/api", "/apisearch", 404),
        ("/api", "/api", 404),
        ("/api", "/api/api/search", 404),
        ("/search", "/search", 404),
        ("/api/", "/api/search", 404),
    ],
)
async def test_behind_a_root_path_gate_and_framework_see_the_same_path(
    meter: Recorder, root_path: str, path: str, status: int
) -> None:
    handler = Starlette(routes=[Route("/search", anything, methods=["POST"])])
    app, counting = guarded(meter, handler)
    sent, _ = await ask(app, "POST", path, root_path=root_path)
    assert (sent[0]["status"], len(counting.reached), len(meter.events)) == (status, status == 200, status == 200)


async def test_a_finder_of_ones_own_cannot_leave_a_path_open(meter: Recorder) -> None:
    asked: list[str] = []

    def find(scope: Any) -> Operation | None:
        asked.append(scope["path"])
        return None if scope["path"] == "/free" else Operation("search.knn")

    counting = Counting(ANYTHING)
    app = Middleware(counting, gate=Gate(heron()), meter=meter, find_operation=find, clock=noon)
    statuses = [(await ask(app, "GET", path))[0][0]["status"] for path in ("/free", "/paid", "/paid\n", "/../paid")]
    assert statuses == [404, 200, 404, 404]
    assert (asked, counting.reached) == (["/free", "/paid"], ["/paid"])
    assert app.unrouted == 3


async def test_an_operation_stays_metered_beneath_an_open_path(meter: Recorder) -> None:
    app, counting = guarded(meter, open_paths=["GET /{rest:path}", "POST /{rest:path}"])
    assert (await ask(app, "POST", "/search", headers=[]))[0][0]["status"] == 401
    assert (await ask(app, "POST", "/other", headers=[]))[0][0]["status"] == 200
    assert counting.reached == ["/other"]


async def test_a_preflight_passes_where_it_is_open_on_purpose(meter: Recorder) -> None:
    app, counting = guarded(meter, open_paths=["OPTIONS /search"])
    assert (await ask(app, "OPTIONS", "/search", headers=[]))[0][0]["status"] == 200
    assert (counting.reached, meter.events) == (["/search"], [])


async def test_a_websocket_is_refused_unless_its_path_is_open(meter: Recorder) -> None:
    app, counting = guarded(meter, operations={**SEARCH, "GET /live": "live.follow"})
    sent, _ = await ask(app, "GET", "/live", kind="websocket")
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert (counting.reached, meter.events) == ([], [])

    app, counting = guarded(meter, open_paths=("/live",))
    sent, _ = await ask(app, "GET", "/live", kind="websocket")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    sent, _ = await ask(app, "GET", "/live\n", kind="websocket")
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_the_first_refusal_is_said_and_all_are_counted(meter: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    app, _ = guarded(meter)
    for _time in range(3):
        await ask(app, "GET", "/secret-in-the-path")
    assert isinstance(app, Middleware)
    assert app.unrouted == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secret-in-the-path" not in caplog.text


@pytest.mark.parametrize("path", ["health", "GET health", "HEAD /health", "/{a", "/a b"])
def test_a_wrong_open_path_is_refused_by_name(path: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(path)):
        open_paths_of([path])


def test_a_text_is_no_list_of_open_paths() -> None:
    with pytest.raises(ConfigurationError, match="must be a list or tuple"):
        open_paths_of("/health")
