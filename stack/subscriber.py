"""An alert subscriber of the pipeline: a receiver on loopback, and the dispatcher that delivers to it."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from sluicegate_schemas.alerts import ALERT
from sluicegate_schemas.deliveries import webhook_id_of
from sluicegate_schemas.topics import ALERTS
from stack.folder import CHECKOUT
from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from stack.receiver import PATH, SECRET_VARIABLE, Received
from stack.topic_log import read_topic

READY_LIMIT_S: Final = 60.0
ENDPOINTS: Final = """# Written at each start of the pipeline.
[[endpoints]]
name = "demonstration"
url = "{url}"
secrets = [{{ file = "secret" }}]
retry_delays_s = [1, 5, 30]
allow_http = true
allow_networks = ["{network}"]
"""


class Subscriber:
    """Both processes over the folder ``data``.

    :param dispatching: makes the dispatcher's process, given the file of its endpoints.
    """

    def __init__(self, data: Path, dispatching: Callable[[Path], ChildProcess]) -> None:
        folder = data / "webhooks"
        folder.mkdir(parents=True, exist_ok=True)
        port, secret = free_port(), _secret(folder / "secret")
        address = f"http://{LOOPBACK}:{port}"
        self.receiver = ChildProcess(
            "the receiver",
            [sys.executable, "-m", "stack.receiver", "--port", str(port)],
            log=data / "logs" / "receiver.log",
            cwd=CHECKOUT,
            environment={SECRET_VARIABLE: secret},
            ready=lambda: _answers(address),
            ready_limit_s=READY_LIMIT_S,
        )
        endpoints = folder / "webhooks.toml"
        endpoints.write_text(ENDPOINTS.format(url=address + PATH, network=f"{LOOPBACK}/32"), "utf-8")
        self.dispatcher = dispatching(endpoints)

    def received(self) -> list[Received]:
        """The alerts that arrived, the oldest first, each once."""
        try:
            lines = self.receiver.log.read_text("utf-8").splitlines()
        except OSError:
            return []
        alerts = (Received.from_json(line) for line in lines if line.startswith("{") and line.endswith("}"))
        return list({alert.webhook_id: alert for alert in alerts}.values())


async def alerts_logged(bootstrap: str, prefix: str) -> set[str]:
    """The webhook ids of all that the alerts topic holds.

    :raises StackError: it cannot be read.
    """
    records = read_topic(bootstrap, prefix + ALERTS.name)
    return {webhook_id_of(ALERT.validate_json(record.value)) async for record in records if record.value is not None}


def _secret(path: Path) -> str:
    """The signing secret in ``path``, which is made where there is none, for its owner's eyes alone."""
    if not path.exists():
        made = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made)
    return path.read_text("utf-8")


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=1.0, trust_env=False).status_code == 204
    except httpx.HTTPError:
        return False
