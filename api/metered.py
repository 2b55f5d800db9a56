"""The API is a customer of its own product: its customers' requests pass the gate and are metered (as operations of the
category "metadata", which cost nothing and which no credit block closes).

The key is looked at first, so that whoever has none learns nothing of limits. Beneath the customers' path only what is
an operation, and the stream, gets to the framework, which may find a route for a path that names none here. What lies
elsewhere goes on as it is: routes say themselves whom they answer.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from sluicegate.middleware import Middleware
from sluicegate.operations import Routes, by_routes, open_paths_of, route_path

from .auth import customer_of
from .parts import Parts
from .problems import ProblemError, nothing_here, problem

OPERATIONS: Final[Routes] = {
    "GET /v1/organizations": "organizations.get",
    "GET /v1/organizations/usage": "usage.get",
    "GET /v1/organizations/usage/series": "usage.list",
    "GET /v1/organizations/usage/labels": "usage.get",
    "GET /v1/organizations/usage/api-keys/{key_id}": "usage.get",
    "GET /v1/organizations/projection": "usage.get",
    "GET /v1/organizations/plan-fit": "usage.get",
    "GET /v1/organizations/limits": "organizations.get",
    "GET /v1/organizations/alerts": "alerts.list",
    "GET /v1/organizations/decisions/{decision_id:path}": "decisions.get",
    "GET /v1/organizations/sla": "usage.get",
}
"""The stream is not among them: it lasts, and would take one of the organization's requests at a time for that long."""
STREAM: Final = "/v1/organizations/live"
_BENEATH: Final = "/v1/organizations"


class Metered:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts
        self._find = by_routes(OPERATIONS)
        self._is_open = open_paths_of([STREAM])
        self._gated: ASGIApp = app
        if parts.gate is not None and parts.meter is not None:
            self._gated = Middleware(
                app, gate=parts.gate, meter=parts.meter, find_operation=self._find, clock=parts.clock
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._find(scope) is None:
            unknown = scope["type"] == "http" and self._is_unknown(scope)
            await (nothing_here() if unknown else self._app)(scope, receive, send)
            return
        try:
            caller = customer_of(self._parts.knowledge, scope["headers"])
        except ProblemError as error:
            await problem(error.status, error.detail, error.headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._gated(scope, receive, send)

    def _is_unknown(self, scope: Scope) -> bool:
        """Whether a request that is no operation must not get to the framework; of a known path it says itself which
        methods there are."""
        path = route_path(scope)
        if path is None:
            return True
        as_get = {**scope, "method": "GET"}
        return path.startswith(_BENEATH) and not self._is_open(as_get) and self._find(as_get) is None
