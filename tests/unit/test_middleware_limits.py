"""Each refusal as a caller gets it over HTTP, and what a request holds while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import sluicegate
from sluicegate import Gate, Middleware, Operation, RefusedError, by_routes
from sluicegate.gate import Description
from tests.gating import (
    NOW_MS,
    SECRET,
    Known,
    credit_block,
    decision_record,
    heron,
    organization,
    used_record,
)
from tests.metering import Recorder

OPERATIONS = {
    "GET /documents": "documents.list",
    "POST /documents": "documents.create",
    "POST /collections": "collections.create",
    "POST /search": "search.knn",
    "POST /llm": "inference.llm",
    "POST /batches/{id}": "batch.submit",
    "POST /clusters/{id}": "cluster.execute",
    "POST /retrievers": Operation("retriever.execute", charges=("search.web",)),
}


def describe(scope: Any) -> Description:
    """The subject from the path; the rest from the query, as a service would read it."""
    query = dict(part.split("=", 1) for part in scope["query_string"].decode().split("&") if part)
    described: Any = {name: int(value) for name, value in query.items() if name in ("results", "objects", "creates")}
    if scope["path"].count("/") == 2:
        described["subject"] = scope["path"].split("/")[2]
    if "label" in query:
        described["labels"] = {"pipeline": query["label"]}
    return described


class Service:
    """A service behind the middleware, whose requests wait until they are let go."""

    def __init__(self, known: Known, *, handler: Any = None, wrapped: bool = False) -> None:
        self.meter = Recorder()
        self.gate = Gate(known, clock=lambda: NOW_MS)
        self.go = asyncio.Event()
        self.go.set()

        async def handle(request: Request) -> Response:
            await self.go.wait()
            return JSONResponse({"success": True})

        routes = [Route(route.split()[1], handler or handle, methods=[route.split()[0]]) for route in OPERATIONS]
        self.app: Any = Starlette(routes=routes)
        options: Any = {
            "gate": self.gate, "meter": self.meter, "find_operation": by_routes(OPERATIONS), "describe": describe,
            "clock": lambda: NOW_MS,
        }  # fmt: skip
        if wrapped:
            self.app.add_middleware(Middleware, **options)
        else:
            self.app = Middleware(self.app, **options)

    async def call(self, method: str, path: str, *, raises: bool = False) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=raises)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, headers={"Authorization": f"Bearer {SECRET}"})


@pytest.mark.parametrize(
    ("records", "request_line", "status", "limit_name"),
    [
        ([decision_record(until_ms=NOW_MS + 2_000)], "POST /search", 429, "requests_per_minute"),
        ([decision_record(limit_name="search_per_minute", until_ms=NOW_MS + 2_000)], "POST /search", 429,
         "search_per_minute"),
        ([used_record("concurrency", 50, 50, verdict="block")], "GET /documents", 429, "concurrency"),
        ([decision_record(kind="operation", name="org_heron", operation="batch.submit", subject="b-1",
                          limit_name="operation_interval", until_ms=NOW_MS + 2_000)],
         "POST /batches/b-1", 429, "operation_interval"),
        ([decision_record(kind="operation", name="org_heron", operation="cluster.execute", subject="c-1",
                          limit_name="operation_concurrency")], "POST /clusters/c-1", 429, "operation_concurrency"),
        ([decision_record(kind="operation", name="org_heron", operation="search.web",
                          limit_name="operation_quantity", until_ms=NOW_MS + 2_000)],
         "POST /retrievers", 429, "operation_quantity"),
        ([credit_block()], "POST /search", 403, "credits"),
        ([decision_record(kind="label", name="org_heron", label="pipeline=p-1", limit_name="budget_month")],
         "POST /search?label=p-1", 403, "budget_month"),
        ([used_record("quota_collections", 50, 50, verdict="block")], "POST /collections", 403, "quota_collections"),
        ([used_record("quota_documents", 1_000_000, 999_990)], "POST /documents?creates=11", 403, "quota_documents"),
        ([], "POST /batches/b-1?objects=10001", 403, "objects_per_batch"),
        ([], "GET /documents?results=10001", 400, "operation_results"),
    ],
)  # fmt: skip
async def test_each_refusal_reaches_the_caller_and_never_the_application(
    records: list[Any], request_line: str, status: int, limit_name: str
) -> None:
    async def unreachable(_: Request) -> Response:
        raise AssertionError("the application ran")

    service = Service(heron(*records), handler=unreachable)
    response = await service.call(*request_line.split())
    error = response.json()["error"]
    assert (response.status_code, error["details"]["limit_name"]) == (status, limit_name)
    assert ("Retry-After" in response.headers) == (status == 429)
    assert response.headers["X-RateLimit-Limit"]
    assert [event["status"] for event in service.meter.events] == [status]
    assert len(service.gate.in_flight) == 0


async def test_a_request_that_runs_counts_until_its_response_is_sent() -> None:
    service = Service(heron(organization(concurrency=2)))
    service.go.clear()
    running = [asyncio.create_task(service.call("GET", "/documents")) for _ in range(2)]
    async with asyncio.timeout(10):
        while len(service.gate.in_flight) < 2:  # noqa: ASYNC110 (the requests run in tasks of their own)
            await asyncio.sleep(0)
    assert (await service.call("GET", "/documents")).status_code == 429
    service.go.set()
    assert [(await one).status_code for one in running] == [200, 200]
    assert (await service.call("GET", "/documents")).status_code == 200
    assert (len(service.gate.in_flight), service.gate.in_flight.serving) == (0, {})


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_handler_says_what_it_learned_and_the_refusal_is_the_response(wrapped: bool) -> None:
    async def create(_: Request) -> Response:
        await sluicegate.current().expect(creates=11, objects=11)
        raise AssertionError("the handler went on")

    service = Service(heron(used_record("quota_documents", 1_000_000, 999_990)), handler=create, wrapped=wrapped)
    response = await service.call("POST", "/documents")
    assert (response.status_code, response.json()["error"]["message"]) == (403, "Document quota exceeded")
    assert response.headers.get_list("Content-Length") == [str(len(response.content))]
    assert [event["status"] for event in service.meter.events] == [403]
    assert len(service.gate.in_flight) == 0


async def test_a_handler_that_learns_that_it_costs_less_lets_others_in() -> None:
    async def answer(request: Request) -> Response:
        await sluicegate.current().expect(quantities={"tokens": 900})
        reserved_micro.append(service.gate.soft.reserved_micro)
        sluicegate.current().quantities["tokens"] = 800
        return JSONResponse({})

    reserved_micro: list[int] = []
    service = Service(heron(used_record("credits", 10**9, 9 * 10**8, kind="account")), handler=answer)
    assert (await service.call("POST", "/llm")).status_code == 200
    assert (reserved_micro, service.gate.soft.reserved_micro) == ([10_000_000], 0)


async def test_a_handler_that_is_refused_may_do_less_and_answer_itself() -> None:
    async def create(_: Request) -> Response:
        with pytest.raises(RefusedError):
            await sluicegate.current().expect(creates=11)
        await sluicegate.current().expect(creates=5)
        sluicegate.current().quantities["documents"] = 5
        return JSONResponse({}, 201)

    service = Service(heron(used_record("quota_documents", 1_000_000, 999_990)), handler=create)
    assert (await service.call("POST", "/documents")).status_code == 201
    assert [(event["status"], event["quantities"]) for event in service.meter.events] == [(201, {"documents": 5})]


async def test_outside_a_metered_request_everything_may_be_expected() -> None:
    await sluicegate.current().expect(creates=10**9)


async def test_a_refusal_after_the_response_began_is_the_applications_error() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await sluicegate.current().expect(creates=11)

    service = Service(heron(used_record("quota_documents", 1_000_000, 999_990)))
    service.app._app = application
    with pytest.raises(RefusedError):
        await service.call("POST", "/documents", raises=True)
    assert [event["status"] for event in service.meter.events] == [200]
    assert len(service.gate.in_flight) == 0


ENDS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: LookupError("the application fails"),
    "cancelled": asyncio.CancelledError,
    "left": lambda: OSError("the client left"),
    "refused": lambda: RefusedError(403),
    "exit": lambda: KeyboardInterrupt("a signal"),
}


@given(
    st.lists(
        st.tuples(st.sampled_from([*ENDS, "well", "quantities"]), st.sampled_from(range(6)), st.booleans()), max_size=12
    )
)
@settings(max_examples=150)
def test_whatever_ends_a_request_nothing_of_it_is_held_afterwards(plan: list[tuple[str, int, bool]]) -> None:
    """``plan``: how each of the requests ends, which it is, and whether it had begun its response."""
    paths = ["/documents", "/llm", "/batches/b-1", "/clusters/c-1", "/retrievers", "/search"]

    async def play() -> None:
        known = heron(organization(), used_record("credits", 10**12, 0, kind="account"))
        service = Service(known)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            end, begun = scope["end"]
            await asyncio.sleep(0)
            if begun:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            if end == "quantities":
                sluicegate.current().quantities["tokens"] = "many"  # type: ignore[assignment]  # a handler's mistake
            elif end != "well":
                raise ENDS[end]()

        service.app._app = application

        async def send(_: Any) -> None:
            await asyncio.sleep(0)

        async def request(end: str, path: str, begun: bool) -> None:
            scope = {
                "type": "http", "method": "POST" if path != "/documents" else "GET", "path": path,
                "query_string": b"", "headers": [(b"authorization", f"Bearer {SECRET}".encode())],
                "end": (end, begun),
            }  # fmt: skip
            try:
                await service.app(scope, None, send)
            except KeyboardInterrupt:
                assert end == "exit"

        await asyncio.gather(*(request(end, paths[which], begun) for end, which, begun in plan), return_exceptions=True)
        assert len(service.gate.in_flight) == 0
        assert all(not one.running and not one.subjects for one in service.gate.in_flight.serving.values())
        assert service.gate.soft.reserved_micro == 0
        assert all(line.holds == 0 for line in service.gate.soft.lines.values())

    asyncio.run(play())
