"""How the API answers, as figures: how long it took by route, and whom it refused (docs/metrics.md).

Every label is of a fixed list: the routes' own templates, "none" for what no route named or reached, the class of the
status; never an address that somebody asked for.
"""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.engine.figures import Times

from .guarded import OPERATORS

REFUSED: Final = (401, 403, 429)
"""What answers a credential that is none or may not do that, and a limit."""
NO_ROUTE: Final = "none"


class Served:
    """The figures of one process."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self.times: dict[tuple[str, str], Times] = {}
        """From a request to the begin of its answer, by route template and class of the status."""
        self.refused: Counter[tuple[str, int]] = Counter()
        """By audience (operator, customer) and status."""
        self._templates = frozenset(map(_template_of, routes))

    def took(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered."""
        place = self._template(scope), f"{status // 100}xx"
        times = self.times.get(place)
        if times is None:
            times = self.times[place] = Times()
        times.observe(seconds)
        if status in REFUSED:
            self.refused["operator" if scope["path"].startswith(OPERATORS) else "customer", status] += 1

    def _template(self, scope: Scope) -> str:
        """What is refused before it is routed has its route where that takes no parameter."""
        path = _template_of(scope["route"]) if "route" in scope else scope["path"]
        return path if path in self._templates else NO_ROUTE


def _template_of(route: BaseRoute) -> str:
    return str(getattr(route, "path_format", NO_ROUTE))


class Watched:
    """Wraps an ASGI application: the outermost layer, so that it sees every answer."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self._app = app
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._served.took(scope, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_watched)
