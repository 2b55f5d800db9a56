"""The application, built from its parts."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from .answers import encode
from .dashboard import mount_dashboard
from .limits import Bounds
from .live import Hub
from .metered import Metered
from .news import News
from .parts import Parts
from .problems import PROBLEM_RESPONSES, Problem, install
from .projections import Projections
from .routes import alerts, decisions, limits, live, operator, organization, projection, series, sla, usage

CUSTOMERS = (organization, usage, series, projection, limits, decisions, alerts, sla, live)
ROUTERS = (*(room.router for room in CUSTOMERS), *operator.ROUTERS)
DESCRIPTION = """What a customer of a metered API sees of its own usage, limits and alerts, and what its operators do.

Customers sign in with an API key and see their own organization only. Amounts are credits, exact to six places."""


def create_app(parts: Parts) -> FastAPI:
    """The application. Whoever starts it keeps the parts running, and tells ``app.state.news`` of decisions."""
    app = FastAPI(
        title="Sluicegate",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
        redirect_slashes=False,
    )
    app.state.parts = parts
    app.state.projections = Projections(parts)
    app.state.hub = Hub()
    app.state.news = News(parts, app.state.hub)
    install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route("/health", _health, include_in_schema=False)
    mount_dashboard(app)
    app.add_middleware(Metered, parts=parts)
    app.add_middleware(Bounds)
    _describe(app)
    return app


async def _health(request: Request) -> Response:
    ready = request.app.state.parts.ready
    return Response(encode({"ready": ready}), 200 if ready else 503, media_type="application/json")


def _describe(app: FastAPI) -> None:
    """Names the form of problems, which no route returns itself, in the OpenAPI document."""
    made = app.openapi

    def openapi() -> dict[str, object]:
        document = made()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = document.setdefault("components", {}).setdefault("schemas", {})
        parts |= schema.pop("$defs", {}) | {"Problem": schema}
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own manual does it
