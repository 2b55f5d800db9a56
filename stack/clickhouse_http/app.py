"""The HTTP face: Starlette in front, the engine in a bounded pool of threads behind."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stack.clickhouse_http.bodies import unpack
from stack.clickhouse_http.engine import Engine
from stack.clickhouse_http.failures import EngineError, too_large
from stack.clickhouse_http.forms import read_form
from stack.clickhouse_http.request import Statement, read_credentials, read_statement

BODY_BYTES_MAX = 256 * 1024 * 1024
STATEMENTS_RUNNING_MAX = 8
STATEMENTS_WAITING_MAX = 256


class ClickHouseHttp:
    """Answers requests from one engine, for one user; closes the engine when the server ends.

    At most ``STATEMENTS_RUNNING_MAX`` statements run at once and ``STATEMENTS_WAITING_MAX`` wait; further ones are
    refused with ClickHouse's TOO_MANY_SIMULTANEOUS_QUERIES (503), which its clients retry.
    """

    def __init__(self, engine: Engine, user: str, password: str) -> None:
        self._credentials = f"{user}:{password}".encode()
        self._engine = engine
        self._pool = ThreadPoolExecutor(STATEMENTS_RUNNING_MAX, thread_name_prefix="statement")
        self._accepted = 0

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._statement, methods=["GET", "POST"]),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._pool.shutdown()  # running statements end first
            self._engine.close()

    async def _ping(self, _request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _statement(self, request: Request) -> Response:
        if request.method == "GET" and not request.query_params:
            return PlainTextResponse("Ok.\n")
        query_id = request.query_params.get("query_id", "")[:256] or str(uuid.uuid4())
        try:
            self._authenticate(request)
            statement = await _read(request)
            return await self._run(statement, query_id)
        except EngineError as failure:
            return PlainTextResponse(
                failure.body.encode("utf-8", "replace"),
                status_code=failure.status,
                headers={"X-ClickHouse-Exception-Code": str(failure.code), "X-ClickHouse-Query-Id": _safe(query_id)},
            )

    def _authenticate(self, request: Request) -> None:
        user, password = read_credentials(request.query_params, request.headers)
        if not hmac.compare_digest(f"{user}:{password}".encode(), self._credentials):
            raise EngineError(
                516,
                "AUTHENTICATION_FAILED",
                f"{_safe(user)[:64]}: Authentication failed: password is incorrect, or there is no user with such name",
            )

    async def _run(self, statement: Statement, query_id: str) -> Response:
        if self._accepted >= STATEMENTS_RUNNING_MAX + STATEMENTS_WAITING_MAX:
            raise EngineError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many simultaneous queries")
        self._accepted += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, self._engine.run, statement)
        finally:
            self._accepted -= 1
        headers = {
            "X-ClickHouse-Summary": answer.summary,
            "X-ClickHouse-Query-Id": _safe(query_id),
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Server-Display-Name": "sluicegate",
        }
        # Statements without a result (DDL, INSERT) name no format: clients tell the two apart by that.
        if answer.data or statement.format_is_named:
            headers["X-ClickHouse-Format"] = statement.output_format
        return Response(answer.data, headers=headers, media_type="text/plain; charset=UTF-8")


async def _read(request: Request) -> Statement:
    fields = dict(request.query_params)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise too_large("The body", BODY_BYTES_MAX)
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        form = await asyncio.to_thread(read_form, content_type, bytes(body))
        if "query" in form and "query" in fields:  # split between the two, like between address and body
            form["query"] = f"{fields['query']}\n{form['query']}"
        return read_statement(fields | form, b"", headers=request.headers)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    unpacked = await asyncio.to_thread(unpack, bytes(body), encoding, BODY_BYTES_MAX) if encoding else bytes(body)
    return read_statement(fields, unpacked, headers=request.headers)


def _safe(text: str) -> str:
    """A header value out of a client's text."""
    return "".join(character for character in text if " " <= character <= "~")
