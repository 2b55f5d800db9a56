"""The HTTP face: Starlette in front, the engine in a bounded pool of threads behind."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stack.clickhouse_http.bodies import unpack
from stack.clickhouse_http.engine import Engine
from stack.clickhouse_http.failures import EngineError, bad_request, too_large
from stack.clickhouse_http.request import Statement, read_credentials, read_statement

BODY_BYTES_MAX = 256 * 1024 * 1024
FORM_FIELDS_MAX = 1_000
FORM_FIELD_BYTES_MAX = 16 * 1024 * 1024
STATEMENTS_RUNNING_MAX = 8
STATEMENTS_WAITING_MAX = 256


class ClickHouseHttp:
    """Answers requests from one engine, for one user.

    At most ``STATEMENTS_RUNNING_MAX`` statements run at once and ``STATEMENTS_WAITING_MAX`` wait; further ones are
    refused with ClickHouse's TOO_MANY_SIMULTANEOUS_QUERIES (503), which its clients retry.
    """

    def __init__(self, open_engine: Callable[[], Engine], user: str, password: str) -> None:
        self._open_engine = open_engine
        self._credentials = f"{user}:{password}".encode()
        self._engine: Engine | None = None
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
        loop = asyncio.get_running_loop()
        # The engine is opened before the port listens, so that an answer to /ping means that statements run.
        self._engine = await loop.run_in_executor(self._pool, self._open_engine)
        try:
            yield
        finally:
            await loop.run_in_executor(self._pool, self._engine.close)
            self._pool.shutdown()

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
        if self._engine is None or self._accepted >= STATEMENTS_RUNNING_MAX + STATEMENTS_WAITING_MAX:
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
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        form = await _form(request)
        for name, value in form.multi_items():
            if not isinstance(value, str):
                raise EngineError(48, "NOT_IMPLEMENTED", f"External data ({name[:64]!r}) is not supported here")
            # A query may be split between the address and the form, like between the address and the body.
            fields[name] = f"{fields[name]}\n{value}" if name == "query" and name in fields else value
        return read_statement(fields, b"", headers=request.headers)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise too_large("The body", BODY_BYTES_MAX)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    unpacked = await asyncio.to_thread(unpack, bytes(body), encoding, BODY_BYTES_MAX) if encoding else bytes(body)
    return read_statement(fields, unpacked, headers=request.headers)


async def _form(request: Request) -> FormData:
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=0,
        max_fields=FORM_FIELDS_MAX,
        max_part_size=FORM_FIELD_BYTES_MAX,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        if "files" in error.message:
            raise EngineError(48, "NOT_IMPLEMENTED", "External data is not supported here") from error
        raise bad_request(f"The form cannot be read: {error.message}") from error
    except HTTPException as error:
        raise bad_request(f"The form cannot be read: {error.detail}") from error


def _safe(text: str) -> str:
    """A header value out of a client's text."""
    return "".join(character for character in text if " " <= character <= "~")
