"""The usage API as a real process, for tests that ask it over HTTP."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess

ROOT = Path(__file__).parents[1]
START_LIMIT_S = 40.0
OPERATE_LIMIT_S = 120.0
OPERATOR = "operator-of-the-tests"
OPERATORS = f"""[[operators]]
name = "wim"
sha256 = "{hashlib.sha256(OPERATOR.encode()).hexdigest()}"
scopes = ["write"]
"""


def secret_of(api_key_id: str, mode: str = "live") -> str:
    """The secret of one of the example accounts' keys."""
    return f"sk_{mode}_demo_{api_key_id}"


class ApiProcess:
    """``environment`` as of any process of a pipeline."""

    def __init__(self, environment: Mapping[str, str], folder: Path, **more: str) -> None:
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        self.process = ChildProcess(
            "api",
            [sys.executable, "-m", "api"],
            log=folder / "api.log",
            cwd=ROOT,
            environment={
                **environment,
                "SLUICEGATE_API_LISTEN": f"{LOOPBACK}:{port}",
                "SLUICEGATE_DATA_DIR": str(folder / "api"),
                "SLUICEGATE_NODE": "api-test",
                **more,
            },
            ready=self._is_ready,
            ready_limit_s=START_LIMIT_S,
            stop_limit_s=20,
        )

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=1.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str, api_key_id: str | None = None, **options: Any) -> httpx.Response:
        """Asks with the secret of an example key; None: with none."""
        headers = dict(options.pop("headers", {}))
        if api_key_id is not None:
            headers["Authorization"] = f"Bearer {secret_of(api_key_id)}"
        return httpx.get(self.url + path, headers=headers, timeout=10.0, trust_env=False, **options)

    def operate(self, method: str, path: str, name: str = "", *, once: bool = False, **options: Any) -> httpx.Response:
        """Asks as the operator of ``OPERATORS``; a change has the Idempotency-Key ``name``, and is repeated, but for
        ``once``, until a worker has answered, as whoever makes one should."""
        headers = {"Authorization": f"Bearer {OPERATOR}"} | ({"Idempotency-Key": name} if name else {})
        headers |= options.pop("headers", {})
        url = f"{self.url}/v1/operator/{path}"
        deadline = time.monotonic() + OPERATE_LIMIT_S
        while True:
            response = httpx.request(method, url, headers=headers, timeout=60.0, trust_env=False, **options)
            if once or response.status_code not in (202, 503) or time.monotonic() > deadline:
                return response

    def until(
        self, path: str, api_key_id: str, holds: Callable[[Any], bool], limit_s: float = 30.0, **options: Any
    ) -> Any:
        """Asks until the answer's body is as wanted; returns it."""
        deadline = time.monotonic() + limit_s
        while True:
            response = self.get(path, api_key_id, **options)
            if response.status_code == 200 and holds(response.json()):
                return response.json()
            assert time.monotonic() < deadline, f"{path}: {response.status_code} {response.text[:2000]}"
            time.sleep(0.1)
