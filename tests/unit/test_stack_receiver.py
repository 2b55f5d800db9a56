"""The demonstration's receiver: believes what is signed, and keeps each alert once."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from sluicegate_schemas.deliveries import webhook_id_of
from stack.process import ChildProcess
from stack.receiver import BODY_BYTES_MAX, PATH, Received, create_app
from stack.subscriber import Subscriber
from tests.webhook_receiver import OLD_SECRET, SECRET, alert
from webhooks.bodies import standard_body


async def post(app: object, body: str, *, secret: str = SECRET, webhook_id: str = "") -> int:
    now_s = int(time.time())
    webhook_id = webhook_id or webhook_id_of(alert())
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": Webhook(secret).sign(webhook_id, datetime.fromtimestamp(now_s, UTC), body),
    }
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # an ASGI application
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
        return (await client.post(PATH, content=body, headers=headers)).status_code


async def test_an_alert_is_printed_once_however_often_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    app, cleared = create_app(SECRET), alert(state="cleared")
    assert await post(app, standard_body(alert())) == 204
    assert await post(app, standard_body(alert())) == 204
    assert await post(app, standard_body(cleared), webhook_id=webhook_id_of(cleared)) == 204
    lines = [Received.from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.webhook_id, line.state) for line in lines] == [
        (webhook_id_of(alert()), "fired"),
        (webhook_id_of(cleared), "cleared"),
    ]


async def test_what_is_not_signed_or_is_no_alert_is_not_believed(capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(SECRET)
    assert await post(app, standard_body(alert()), secret=OLD_SECRET) == 400
    assert await post(app, "{}") == 400
    assert await post(app, " " * (BODY_BYTES_MAX + 1)) == 413
    assert capsys.readouterr().out == ""


def test_a_subscriber_keeps_its_secret_for_its_owners_eyes_and_reads_each_alert_once(tmp_path: Path) -> None:
    def dispatching(endpoints: Path) -> ChildProcess:
        assert 'secrets = [{ file = "secret" }]' in endpoints.read_text("utf-8")
        return ChildProcess("the dispatcher", ["true"], log=tmp_path / "dispatcher.log")

    first, second = Subscriber(tmp_path, dispatching), Subscriber(tmp_path, dispatching)
    secret = tmp_path / "webhooks" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text("utf-8") not in (tmp_path / "webhooks" / "webhooks.toml").read_text("utf-8")
    assert first.received() == []
    line = Received("credits_80/1:fired", "fired", "warning", "It fired.").to_json()
    second.receiver.log.parent.mkdir()
    second.receiver.log.write_text(f"a word of the server\n{line}\n{line}\n", "utf-8")
    assert second.received() == [Received.from_json(line)]
