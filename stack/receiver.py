"""A receiver of webhooks, as an alert subscriber would run one: ``python -m stack.receiver --port PORT``.

It verifies each signature with the ``standardwebhooks`` library, keeps each ``webhook-id`` once, and prints one line of
JSON for each alert. The secret comes from the environment (``SECRET_VARIABLE``). Only loopback is served.
"""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from typing import Annotated, Final, NamedTuple

import typer
import uvicorn
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluicegate_schemas.deliveries import ALERT_BYTES_MAX, WebhookBody
from stack.ports import LOOPBACK

SECRET_VARIABLE: Final = "SLUICEGATE_RECEIVER_SECRET"  # noqa: S105 (a name)
PATH: Final = "/alerts"
BODY_BYTES_MAX: Final = 2 * ALERT_BYTES_MAX
SEEN_MAX: Final = 100_000
"""Ids that are kept; the oldest is forgotten."""


class Received(NamedTuple):
    """One alert that arrived for the first time, as a line of JSON."""

    webhook_id: str
    state: str
    severity: str
    sentence: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Received:
        """What ``to_json`` wrote."""
        return cls(**json.loads(text))


def create_app(secret: str) -> Starlette:
    """The receiver, printing to standard output."""
    webhook = Webhook(secret)
    seen: OrderedDict[str, None] = OrderedDict()

    async def receive(request: Request) -> Response:
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > BODY_BYTES_MAX:
                return PlainTextResponse("too large", 413)
        try:
            webhook.verify(content, dict(request.headers), json_parse=False)
            body = WebhookBody.model_validate_json(content)
        except (WebhookVerificationError, ValidationError) as error:
            return PlainTextResponse(type(error).__name__, 400)
        webhook_id = request.headers["webhook-id"]
        if webhook_id not in seen:
            seen[webhook_id] = None
            if len(seen) > SEEN_MAX:
                seen.popitem(last=False)
            alert = body.data
            severity = alert.severity if alert.kind == "usage" else "critical"
            print(Received(webhook_id, alert.state, severity, alert.sentence).to_json(), flush=True)
        return Response(status_code=204)

    async def health(_: Request) -> Response:
        return Response(status_code=204)

    return Starlette(routes=[Route(PATH, receive, methods=["POST"]), Route("/health", health)])


def main(port: Annotated[int, typer.Option(min=1, max=65535)]) -> None:
    """Receive until SIGTERM."""
    try:
        app = create_app(os.environ[SECRET_VARIABLE])
    except (KeyError, ValueError) as error:
        sys.exit(f"{SECRET_VARIABLE} must hold a webhook secret ({type(error).__name__}). Nothing was started.")
    uvicorn.run(app, host=LOOPBACK, port=port, log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    typer.run(main)
