"""The application, built from its parts."""

from collections.abc import Awaitable, Callable
from functools import cache

from fastapi import FastAPI, Request
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from sluicegate_schemas.http import ErrorBody

from .answers import encode
from .comparisons import Comparisons
from .dashboard import mount_dashboard
from .direct import Direct
from .guarded import Guarded
from .headers import add_headers
from .limits import Bounds
from .links import add_links
from .live import Hub
from .metered import OPERATIONS, Metered
from .news import News
from .parts import Parts
from .problems import PROBLEM_RESPONSES, REFUSAL_RESPONSES, Problem, install
from .projections import Projections
from .routes import (
    alerts,
    decisions,
    labels,
    limits,
    live,
    operator,
    organization,
    plan_fit,
    projection,
    series,
    sla,
    usage,
)
from .served import Served, Watched

CUSTOMERS = (organization, usage, labels, series, projection, plan_fit, limits, decisions, alerts, sla, live)
DESCRIPTION = """What a customer of a metered API sees of its own usage, limits and alerts, and what its operators do.

Customers sign in with an API key and see their own organization only. Amounts are credits, exact to six places."""


class Application(FastAPI):
    """The framework within our own layers. They are outermost, and answer what the framework's would answer there:
    errors (``Bounds``) and the bounds of a body."""

    def build_middleware_stack(self) -> ASGIApp:
        parts: Parts = self.state.parts
        routed = AsyncExitStackMiddleware(self.router)
        framework = ExceptionMiddleware(routed, handlers=self.exception_handlers)
        bounded = Bounds(Guarded(Metered(Direct(framework, parts), parts), parts))
        return Watched(bounded, self.state.served)


def create_app(parts: Parts) -> FastAPI:
    """The application. Whoever starts it keeps the parts running, and tells ``app.state.news`` of decisions."""
    app = Application(
        title="Sluicegate",
        version="1",
        description=DESCRIPTION,
        openapi_url=None,  # a route of ours answers it
        docs_url=None,
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # docs/metrics.md has ours
    )
    app.state.parts = parts
    app.state.projections = Projections(parts)
    app.state.comparisons = Comparisons(parts)
    app.state.hub = Hub()
    app.state.operators_hub = Hub()
    app.state.news = News(parts, app.state.hub, app.state.operators_hub)
    install(app)
    for room in CUSTOMERS:
        app.include_router(room.router, responses=REFUSAL_RESPONSES)
    for router in operator.ROUTERS:
        app.include_router(router)
    app.add_api_route("/health", _health, include_in_schema=False)
    app.add_api_route("/openapi.json", _document_of(app), include_in_schema=False)
    mount_dashboard(app)
    routers = (*(room.router for room in CUSTOMERS), *operator.ROUTERS)
    app.state.served = Served(route for router in routers for route in router.routes)
    _describe(app)
    return app


async def _health(request: Request) -> Response:
    ready = request.app.state.parts.ready
    return Response(encode({"ready": ready}), 200 if ready else 503, media_type="application/json")


def _document_of(app: FastAPI) -> Callable[[], Awaitable[Response]]:
    """Answers with the OpenAPI document, which is large and made when it is first asked for."""
    made = cache(lambda: encode(app.openapi()))

    async def document() -> Response:
        return Response(made(), media_type="application/json")

    return document


def _describe(app: FastAPI) -> None:
    """Adds to the OpenAPI document what no route says: the forms of problems and refusals, and what follows what."""
    made = app.openapi

    def openapi() -> dict[str, object]:
        document = made()
        parts = document.setdefault("components", {}).setdefault("schemas", {})
        for form in (Problem, ErrorBody):
            schema = form.model_json_schema(ref_template="#/components/schemas/{model}")
            parts |= schema.pop("$defs", {}) | {form.__name__: schema}
        add_links(document)
        add_headers(document, OPERATIONS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own manual does it
