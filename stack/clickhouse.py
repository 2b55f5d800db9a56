"""The ClickHouse engine on one machine: its process, its address, its ordinary client."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from stack.clickhouse_http.password import FILE_NAME, USER, read_or_make_password
from stack.errors import ChildDiedError, StackError
from stack.ports import LOOPBACK, free_port, require_free
from stack.process import ChildProcess

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
PING_LIMIT_S = 1.0
PORT_TRIES = 3
CHECKOUT = Path(__file__).resolve().parent.parent


class ClickHouse:
    """One engine, usable from tests and from the launcher; blocking, like ``ChildProcess``.

    :param data: its folder (tables, password); a second start with the same folder goes on.
    :param port: the loopback port; None chooses a free one at the first start, and this object keeps it.
    """

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        self.data = data.absolute()
        self.log = self.data / "clickhouse.log"
        self.host = LOOPBACK
        self.username = USER
        self._port = port
        self._child: ChildProcess | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise StackError("ClickHouse has no port before its first start")
        return self._port

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

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

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

    def start(self) -> None:
        """Start and return when statements are answered; also after ``stop`` or ``kill``, on the same port and data.

        :raises PortInUseError: the port is taken.
        :raises StackError: it does not start; the log's last lines are in it.
        """
        if self.running:
            raise StackError(f"ClickHouse runs already (process {self.pid})")
        if self._port is not None:
            require_free(self._port, user="ClickHouse", option="--clickhouse-port")
        for tries_left in reversed(range(PORT_TRIES)):
            port = self._port or free_port()
            try:
                self._start_once(port)
            except ChildDiedError as error:
                if self._port is None and tries_left and "in use" in error.log_tail:
                    continue  # somebody took the free port between the choice and the start
                raise
            self._port = port
            return

    def _start_once(self, port: int) -> None:
        self._child = ChildProcess(
            "ClickHouse",
            [sys.executable, "-m", "stack.clickhouse_http", "--data", str(self.data), "--port", str(port)],
            log=self.log,
            cwd=CHECKOUT,
            environment={"TZ": "UTC"},
            ready=lambda: answers_ping(port),
            ready_limit_s=START_LIMIT_S,
            stop_limit_s=STOP_LIMIT_S,
        )
        self._child.start()

    def stop(self) -> None:
        """SIGTERM: running statements end, the engine closes. Does nothing if it does not run."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """``kill -9``; ``start`` goes on with the same port and data, and every acknowledged row is there."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self.check()
        assert self._child is not None
        self._child.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.check()
        assert self._child is not None
        self._child.resume()

    def check(self) -> None:
        """Raise ``ChildDiedError`` if it does not run."""
        if self._child is None:
            raise ChildDiedError("ClickHouse was never started")
        self._child.check()


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
