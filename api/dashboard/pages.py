"""Serves the page's files, under a policy that lets the browser run and reach nothing else."""

from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC: Final = Path(__file__).parent / "static"
PATH: Final = "/dashboard"
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content Security Policy (Level 3): no inline script or style, no other host, no markup out of text."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # the files' ETags answer for them: a new version is seen at once
}


class DashboardPages(StaticFiles):
    """The files below ``static``, each with ``HEADERS``."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def mount_dashboard(app: Starlette) -> None:
    """Serves the dashboard under ``/dashboard/``, to which ``/`` leads."""
    for path in ("/", PATH):
        app.add_route(path, _to_dashboard, include_in_schema=False)
    app.mount(PATH, DashboardPages(), name="dashboard")


async def _to_dashboard(_: Request) -> Response:
    return RedirectResponse(f"{PATH}/", headers={"Cache-Control": "no-store"})
