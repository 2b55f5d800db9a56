"""The ClickHouse engine on one machine: its process, its address, its ordinary client."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from stack.clickhouse_http.password import FILE_NAME, USER, read_or_make_password
from stack.ports import LOOPBACK
from stack.process import ChildProcess
from stack.server import Server

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
PING_LIMIT_S = 1.0
CHECKOUT = Path(__file__).resolve().parent.parent


class ClickHouse(Server):
    """One engine; see ``Server``. Its folder holds tables and password."""

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        super().__init__("ClickHouse", data, port, option="--clickhouse-port")
        self.log = self.data / "clickhouse.log"
        self.host = LOOPBACK
        self.username = USER

    @property
    def password_file(self) -> Path:
        """Where the password is kept (mode 0600)."""
        return self.data / FILE_NAME

    @property
    def password(self) -> str:
        """Made at the first start, kept in the data folder."""
        return read_or_make_password(self.data)

    @property
    def url(self) -> str:
        """The HTTP address, without credentials."""
        return f"http://{self.host}:{self.port}"

    def client(self, database: str | None = None, **options: Any) -> Client:
        """A new ``clickhouse_connect`` client (close it); ``options`` go to ``clickhouse_connect.get_client``."""
        return clickhouse_connect.get_client(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            database=database or "default",
            **options,
        )

    def _child_on(self, port: int) -> ChildProcess:
        return ChildProcess(
            "ClickHouse",
            [sys.executable, "-m", "stack.clickhouse_http", "--data", str(self.data), "--port", str(port)],
            log=self.log,
            cwd=CHECKOUT,
            environment={"TZ": "UTC"},
            ready=lambda: answers_ping(port),
            ready_limit_s=START_LIMIT_S,
            stop_limit_s=STOP_LIMIT_S,
        )


def answers_ping(port: int) -> bool:
    """Whether the engine behind the loopback port answers ``/ping``, which it does only when it runs statements."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PING_LIMIT_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().read() == b"Ok.\n"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
