"""The API of a made-up world on a port of its own, for a browser."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from api.dashboard import mount_dashboard
from tests.dashboard_operator import OPERATOR_ANSWERS, Json
from tests.dashboard_world import World

KEY = "sk_test_dashboard"
OPERATOR = "op-credential"


def make_app(world: World) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def _authenticated(request: Request, call_next: Any) -> Response:
        if request.url.path.startswith("/v1/"):
            wanted = OPERATOR if request.url.path.startswith("/v1/operator/") else KEY
            assert request.headers["authorization"].removeprefix("Bearer ") not in str(request.url)
            if world.refused or request.headers["authorization"] != f"Bearer {wanted}":
                return JSONResponse({"title": "Unauthorized", "status": 401}, 401)
            if not request.url.path.endswith("/live"):
                await world.answer_slowly()
            is_history = request.url.path.endswith(("/series", "/projection", "/plan-fit"))
            if world.broken or (world.history_is_away and is_history):
                return JSONResponse({"title": "Away", "detail": "History is away at the moment"}, 503)
        answer: Response = await call_next(request)
        return answer

    @app.get("/v1/organizations")
    async def _about() -> Json:
        return world.about()

    @app.get("/v1/organizations/usage")
    async def _usage() -> Json:
        return world.usage()

    @app.get("/v1/organizations/usage/series")
    async def _series(request: Request) -> Json:
        asked = request.query_params
        start = datetime.fromisoformat(asked["from"])
        end = datetime.fromisoformat(asked["to"]) if "to" in asked else datetime.now(UTC)
        return world.series(start, end, asked["interval"], asked.get("group_by"))

    @app.get("/v1/organizations/projection")
    async def _projection() -> Json:
        return world.projection()

    @app.get("/v1/organizations/plan-fit")
    async def _plan_fit() -> Json:
        return world.plan_fit()

    @app.get("/v1/organizations/limits")
    async def _limits() -> Json:
        return world.limits()

    @app.get("/v1/organizations/alerts")
    async def _alerts() -> Json:
        return world.alert_page()

    @app.get("/v1/organizations/decisions/{decision_id:path}")
    async def _why(decision_id: str) -> Response:
        found = world.blocks.get(decision_id)
        return JSONResponse(world.why(found) if found else {"title": "Not Found"}, 200 if found else 404)

    @app.get("/v1/organizations/live")
    async def _live() -> StreamingResponse:
        return StreamingResponse(world.follow(), media_type="text/event-stream")

    @app.get("/v1/operator/live")
    async def _live_operators() -> StreamingResponse:
        return StreamingResponse(world.follow(), media_type="text/event-stream")

    for name, answer in OPERATOR_ANSWERS.items():
        app.add_api_route(f"/v1/operator/{name}", answer)
    mount_dashboard(app)
    return app


@contextlib.contextmanager
def serving(world: World) -> Iterator[str]:
    """The API of ``world`` on a free port; its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(world), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        world.cut()
        server.should_exit = True
        thread.join(10)
        listener.close()
