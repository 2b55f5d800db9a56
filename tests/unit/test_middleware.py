"""Gating and metering around an application, as a caller of it sees it and as it is metered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Unpack

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import sluicegate
from sluicegate import Gate, Middleware, Operation, by_routes
from sluicegate.errors import ConfigurationError
from sluicegate.middleware import Message, Scope
from sluicegate.operations import Routes
from sluicegate.publisher import EventFields
from sluicegate.publisher.event import encode_event
from tests.gating import NOW_MS, SECRET, Known, credit_block, decision_record, heron
from tests.metering import Recorder

ROUTES: Routes = {
    "GET /v1/documents": "documents.list",
    "POST /v1/search": "search.knn",
    "POST /v1/retrievers/{name}/execute": Operation("retriever.execute", charges=("search.knn",)),
    "GET /v1/stream": "inference.llm",
    "GET /v1/crash": "documents.get",
}


class Clock:
    """Goes on by 7 ms each time it is read."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS - 7

    def __call__(self) -> int:
        self.now_ms += 7
        return self.now_ms


class Broken:
    """A meter that fails."""

    def publish(self, **fields: Unpack[EventFields]) -> bool:
        raise RuntimeError("no room")


async def listed(_: Request) -> Response:
    return JSONResponse({"documents": []}, headers={"X-RateLimit-Limit": "from the application"})


async def searched(request: Request) -> Response:
    usage = sluicegate.current()
    assert request.state.sluicegate is usage
    usage.quantities["documents"] = 3
    usage.model = "m-1"
    usage.labels["pipeline"] = "p-1"
    usage.resource_delta["collections"] = 1
    usage.subject = "batch-1"
    return JSONResponse({"found": 3})


def executed(_: Request) -> Response:
    """Not async: the framework runs it in a thread."""
    sluicegate.current().charge("search.knn")
    sluicegate.current().charge("inference.llm", model="m-2", cached=True, tokens=12)
    return PlainTextResponse("done")


async def streamed(_: Request) -> Response:
    async def parts() -> Any:
        for _ in range(100):
            sluicegate.current().quantities["tokens"] = sluicegate.current().quantities.get("tokens", 0) + 10
            yield b"ten tokens "

    return StreamingResponse(parts())


async def crashed(_: Request) -> Response:
    raise LookupError("the application fails")


async def health(_: Request) -> Response:
    return PlainTextResponse("up")


APPLICATION = Starlette(
    routes=[
        Route("/v1/documents", listed),
        Route("/v1/search", searched, methods=["POST"]),
        Route("/v1/retrievers/{name}/execute", executed, methods=["POST"]),
        Route("/v1/stream", streamed),
        Route("/v1/crash", crashed),
        Route("/health", health),
    ]
)


def guard(known: Known, meter: Recorder | Broken, **more: Any) -> Middleware:
    return Middleware(
        APPLICATION, gate=Gate(known), meter=meter, find_operation=by_routes(ROUTES), clock=Clock(), **more
    )


async def call(app: Middleware, method: str, path: str, *, secret: str | None = SECRET) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.request(method, path, headers=headers)


async def test_an_allowed_request_runs_and_is_metered_with_its_end_as_time() -> None:
    meter = Recorder()
    response = await call(guard(heron(), meter), "GET", "/v1/documents")
    assert response.json() == {"documents": []}
    assert response.headers["X-RateLimit-Remaining"] == "479"
    assert response.headers.get_list("X-RateLimit-Limit") == ["480"]
    assert meter.events == [
        {
            "org_id": "org_heron",
            "api_key_id": "key_heron_1",
            "account_id": "org_heron",
            "operation": "documents.list",
            "started_at_ms": NOW_MS,
            "ts_ms": NOW_MS + 7,
            "duration_ms": 7,
            "status": 200,
            "quantities": None,
            "charges": None,
            "model": None,
            "cached": False,
            "labels": None,
            "resource_delta": None,
            "subject": None,
            "leases": None,
        }
    ]


async def test_a_handler_reports_what_only_it_knows() -> None:
    meter = Recorder()
    await call(guard(heron(), meter), "POST", "/v1/search")
    (event,) = meter.events
    assert event["quantities"] == {"documents": 3}
    assert (event["model"], event["subject"]) == ("m-1", "batch-1")
    assert (event["labels"], event["resource_delta"]) == ({"pipeline": "p-1"}, {"collections": 1})


async def test_a_handler_in_a_thread_adds_charges() -> None:
    meter = Recorder()
    await call(guard(heron(), meter), "POST", "/v1/retrievers/r1/execute")
    charges = meter.events[0]["charges"]
    assert charges is not None
    assert [(charge.operation, charge.quantities, charge.model, charge.cached) for charge in charges] == [
        ("search.knn", None, None, False),
        ("inference.llm", {"tokens": 12}, "m-2", True),
    ]


@pytest.mark.contract("3.3", "3.23")
async def test_a_throttled_request_never_reaches_the_application_and_is_metered_as_429() -> None:
    meter = Recorder()
    response = await call(guard(heron(decision_record(until_ms=NOW_MS + 14_500)), meter), "GET", "/v1/crash")
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "15"
    assert response.headers["Content-Length"] == str(len(response.content))
    assert response.json()["error"]["type"] == "TooManyRequestsError"
    assert [(event["operation"], event["status"]) for event in meter.events] == [("documents.get", 429)]


async def test_used_up_credits_close_what_costs_and_what_will_be_charged() -> None:
    meter = Recorder()
    app = guard(heron(credit_block()), meter)
    assert (await call(app, "POST", "/v1/search")).status_code == 403
    assert (await call(app, "POST", "/v1/retrievers/r1/execute")).status_code == 403
    assert (await call(app, "GET", "/v1/documents")).status_code == 200
    assert [event["status"] for event in meter.events] == [403, 403, 200]


@pytest.mark.contract("9.3")
async def test_a_hit_that_is_known_beforehand_passes_a_credit_block_as_cached() -> None:
    meter = Recorder()
    app = guard(heron(credit_block()), meter, describe=lambda scope: {"cached": scope["path"] == "/v1/search"})
    assert (await call(app, "POST", "/v1/search")).status_code == 200
    assert meter.events[0]["cached"] is True


@pytest.mark.parametrize("secret", [None, "sk_live_demo_nobody", "with space", "x" * 600])
async def test_a_caller_without_a_good_key_is_answered_401_and_not_metered(secret: str | None) -> None:
    meter = Recorder()
    response = await call(guard(heron(), meter), "GET", "/v1/documents", secret=secret)
    assert (response.status_code, meter.events) == (401, [])
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_two_authorization_fields_are_no_key() -> None:
    sent, _ = await by_hand(guard(heron(), Recorder()), headers=[(b"authorization", f"Bearer {SECRET}".encode())] * 2)
    assert sent[0]["status"] == 401


async def test_an_open_path_is_neither_gated_nor_metered() -> None:
    meter = Recorder()
    response = await call(guard(heron(), meter, open_paths=("/health",)), "GET", "/health", secret=None)
    assert (response.text, meter.events) == ("up", [])
    assert "X-RateLimit-Limit" not in response.headers


async def test_an_exception_of_the_application_is_metered_as_500() -> None:
    meter = Recorder()
    response = await call(guard(heron(), meter), "GET", "/v1/crash")
    assert (response.status_code, [event["status"] for event in meter.events]) == (500, [500])


async def test_a_callers_text_cannot_make_its_request_unmetered() -> None:
    async def described(_: Request) -> Response:
        usage = sluicegate.current()
        usage.model = usage.subject = "not a name\n"
        usage.labels |= {"pipeline": "p-1", "Bad Name": "x", "long": "x" * 65} | {f"l{n}": "x" for n in range(9)}
        usage.charge("inference.llm", model="\x00", tokens=12)
        return PlainTextResponse("done")

    meter = Recorder()
    app = Starlette(routes=[Route("/v1/documents", described)])
    guarded = Middleware(app, gate=Gate(heron()), meter=meter, find_operation=by_routes(ROUTES), clock=Clock())
    assert (await call(guarded, "GET", "/v1/documents")).status_code == 200
    (event,) = meter.events
    assert (event["model"], event["subject"]) == (None, None)
    assert event["labels"] == {"pipeline": "p-1"} | {f"l{n}": "x" for n in range(7)}
    assert [charge.model for charge in event["charges"] or ()] == [None]
    assert guarded.descriptions_left_out == 1
    encode_event(event)


async def test_a_failing_publisher_breaks_no_request() -> None:
    app = guard(heron(), Broken())
    assert (await call(app, "GET", "/v1/documents")).status_code == 200
    assert (await call(guard(heron(credit_block()), Broken()), "POST", "/v1/search")).status_code == 403
    assert app.metering_failures == 1


async def by_hand(
    app: Middleware,
    *,
    path: str = "/v1/stream",
    headers: list[tuple[bytes, bytes]] | None = None,
    after: int = 10**6,
    then: Callable[[], BaseException] = lambda: OSError("the client left"),
) -> tuple[list[Message], BaseException | None]:
    """Calls ``app`` as a server does; from message ``after`` on sending raises what ``then`` makes."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if len(sent) >= after:
            raise then()
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": headers if headers is not None else [(b"authorization", f"Bearer {SECRET}".encode())],
    }
    try:
        await app(scope, receive, send)
    except BaseException as error:
        return sent, error
    return sent, None


@pytest.mark.contract("9.2")
@pytest.mark.parametrize("then", [lambda: OSError("the client left"), asyncio.CancelledError])
async def test_a_stream_that_the_client_cuts_pays_for_what_it_delivered(then: Callable[[], BaseException]) -> None:
    meter = Recorder()
    sent, error = await by_hand(guard(heron(), meter), after=1 + 7, then=then)
    assert error is not None
    assert len(sent) == 8
    (event,) = meter.events
    assert (event["status"], event["quantities"]) == (200, {"tokens": 80})


async def test_a_client_that_leaves_before_the_answer_pays_nothing() -> None:
    meter = Recorder()
    _, error = await by_hand(guard(heron(), meter), after=0)
    assert error is not None
    assert meter.events[0]["status"] == 499


async def test_outside_a_metered_request_reports_go_nowhere() -> None:
    sluicegate.current().quantities["tokens"] = 5
    assert sluicegate.current().quantities == {}


async def test_charges_beyond_the_most_of_one_event_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def greedy(_: Request) -> Response:
        for _charge in range(18):
            sluicegate.current().charge("search.knn")
        return PlainTextResponse("done")

    meter = Recorder()
    application = Starlette(routes=[Route("/v1/documents", greedy)])
    app = Middleware(application, gate=Gate(heron()), meter=meter, find_operation=by_routes(ROUTES), clock=Clock())
    await call(app, "GET", "/v1/documents")
    assert len(meter.events[0]["charges"] or ()) == 16
    assert "2 charges" in caplog.text


@pytest.mark.contract("1.5", "8.5")
async def test_nothing_that_is_said_or_sent_holds_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    meter = Recorder()
    app = guard(heron(credit_block()), meter)
    answers = [await call(app, "POST", "/v1/search"), await call(app, "GET", "/v1/crash")]
    await call(guard(heron(), Broken()), "GET", "/v1/documents")
    said = caplog.text + json.dumps(meter.events) + "".join(f"{answer.headers}{answer.text}" for answer in answers)
    assert SECRET not in said
    assert SECRET not in repr(vars(app)) + repr(vars(app._gate)) + repr(vars(app._gate.limiter))


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/v1/a", "a.list"),
        ("POST", "/v1/a", None),
        ("GET", "/v1/a/", None),
        ("GET", "/v1/a/special", "a.special"),
        ("GET", "/v1/a/x", "a.get"),
        ("GET", "/v1/a/x.y", "a.get"),
        ("GET", "/v1/a/x/y", None),
        ("GET", "/v1/files/x/y", "files.get"),
        ("GET", "/v1/files/", "files.get"),
        ("HEAD", "/v1/a", "a.list"),
        ("HEAD", "/v1/a/x", "a.get"),
        ("get", "/v1/a", None),
        ("GET", "/v1/a\n", None),
        ("GET", "/v1/a/x\n", None),
        ("GET", "/v1/files/../a", None),
        ("GET", "/v1xa", None),
    ],
)
def test_routes_find_operations(method: str, path: str, operation: str | None) -> None:
    find = by_routes(
        {
            "GET /v1/a": "a.list",
            "GET /v1/a/{id}": "a.get",
            "GET /v1/a/special": "a.special",
            "GET /v1/files/{rest:path}": "files.get",
        }
    )
    found = find({"method": method, "path": path})
    assert (found.name if found else None) == operation


@pytest.mark.parametrize(
    ("route", "operation"),
    [
        ("/v1/a", "a.list"),
        ("GET v1/a", "a.list"),
        ("GET /v1/{a", "a.list"),
        ("GET /v1/{a:int}", "a.list"),
        ("GET /v1/a}", "a.list"),
        ("HEAD /v1/a", "a.list"),
        ("GET /v1/a", "A.list"),
        ("GET /v1/a", "a.list\r\nX-Evil: 1"),
    ],
)
def test_a_wrong_route_or_operation_is_refused_by_name(route: str, operation: str) -> None:
    with pytest.raises(ConfigurationError):
        by_routes({route: operation})
