"""The example service as a real process behind a pipeline's gate, for tests that call it over HTTP."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from tests.api_process import ROOT, secret_of

KNOWN_LIMIT_S: Final = 60.0


class ExampleService:
    """``uvicorn --factory examples.service:create_app``; ``environment`` as of any process of a pipeline."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        command = ["-m", "uvicorn", "--factory", "examples.service:create_app", "--host", LOOPBACK, "--port", str(port)]
        self.process = ChildProcess(
            "service",
            [sys.executable, *command, "--log-level", "warning", "--no-access-log"],
            log=folder / "service.log",
            cwd=ROOT,
            environment={**environment, "SLUICEGATE_NODE": "node-service"},
            ready=lambda: self._status("/health") == 200,
        )

    def start(self, *api_key_ids: str) -> None:
        """Returns when the service knows these keys of the example accounts: each has then made one call."""
        self.process.start()
        deadline = time.monotonic() + KNOWN_LIMIT_S
        for api_key_id in api_key_ids:
            while (status := self._status("/v1/collections", api_key_id)) != 200:
                assert time.monotonic() < deadline, f"{api_key_id} is answered {status}"
                time.sleep(0.1)

    def _status(self, path: str, api_key_id: str | None = None) -> int:
        headers = {} if api_key_id is None else {"Authorization": f"Bearer {secret_of(api_key_id)}"}
        try:
            return httpx.get(self.url + path, headers=headers, timeout=2.0, trust_env=False).status_code
        except httpx.HTTPError:
            return 0
