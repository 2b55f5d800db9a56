"""What Kafka and the ClickHouse engine share: a child process on one loopback port, with its data in one folder."""

from __future__ import annotations

from pathlib import Path

from stack.errors import ChildDiedError, StackError
from stack.ports import free_port, require_free
from stack.process import ChildProcess

PORT_TRIES = 3


class Server:
    """A server on one machine, usable from tests and from the launcher; blocking, like ``ChildProcess``.

    :param name: how messages call it.
    :param data: its folder; a second start with the same folder goes on.
    :param port: the loopback port; None chooses a free one at the first start, and this object keeps it.
    :param option: the command line option that chooses the port, for messages.
    """

    def __init__(self, name: str, data: Path, port: int | None, *, option: str) -> None:
        self.name = name
        self.data = data.absolute()
        self._port = port
        self._option = option
        self._child: ChildProcess | None = None

    @property
    def port(self) -> int:
        """The port. Raises StackError before the first start, where none was given."""
        if self._port is None:
            raise StackError(f"{self.name} has no port before its first start")
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended (a paused server runs)."""
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start and return when it answers; also after ``stop`` or ``kill``, on the same port and data.

        :raises PortInUseError: the port is taken.
        :raises StackError: it does not start; the log's last lines are in it.
        """
        if self.running:
            raise StackError(f"{self.name} runs already (process {self.pid})")
        if self._port is not None:
            require_free(self._port, user=self.name, option=self._option)
        self._start_on_a_port()

    def _start_on_a_port(self) -> None:
        for tries_left in reversed(range(PORT_TRIES)):
            port = self._port or free_port()
            try:
                self._child = self._child_on(port)
                self._child.start()
            except ChildDiedError as error:
                if self._port is None and tries_left and "in use" in error.log_tail:
                    continue  # somebody took the free port between the choice and the start
                raise
            self._port = port
            return

    def _child_on(self, port: int) -> ChildProcess:
        """The child that will serve on ``port``, not started."""
        raise NotImplementedError

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after a limit. Does nothing if it does not run."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """``kill -9``; ``start`` goes on with the same port and data, and what was acknowledged is there."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._checked().pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._checked().resume()

    def check(self) -> None:
        """Raise ``ChildDiedError`` if it does not run."""
        self._checked()

    def _checked(self) -> ChildProcess:
        if self._child is None:
            raise ChildDiedError(f"{self.name} was never started")
        self._child.check()
        return self._child
