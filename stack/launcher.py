"""Kafka and the ClickHouse engine as one thing, owned by one process: started, watched, stopped together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from stack import cache
from stack.clickhouse import ClickHouse
from stack.errors import StackError
from stack.folder import Folder, Phase, StackState
from stack.kafka import Kafka
from stack.ports import require_free

WATCH_S = 0.2


class Stack:
    """Both parts over one data folder; a context manager that stops them however the block ends.

    ::

        with Stack(data_folder(), kafka_port=9092, clickhouse_port=8123) as stack:
            ...  # stack.kafka.bootstrap, stack.clickhouse.url, .username, .password
            stack.check()  # raises ChildDiedError when a part is gone

    The parts die with this process, even when it is killed by SIGKILL; a port of None means any free one.
    """

    def __init__(
        self,
        data: Path,
        *,
        kafka_port: int | None = None,
        clickhouse_port: int | None = None,
        cache_folder: Path | None = None,
    ) -> None:
        self.folder = Folder(data)
        self.kafka = Kafka(data / "kafka", port=kafka_port, cache_folder=cache_folder)
        self.clickhouse = ClickHouse(data / "clickhouse", port=clickhouse_port)
        self._ports = ((kafka_port, "Kafka", "--kafka-port"), (clickhouse_port, "ClickHouse", "--clickhouse-port"))
        self._cache_folder = cache_folder

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(str(error) if isinstance(error, StackError) else "")

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Own the folder, fetch what is missing, start both. If any of it fails, nothing is left running.

        :param say: told in a few words what is done next.
        :raises StackError: see ``Folder.acquire``, ``cache.kafka_jars``, ``Kafka.start``, ``ClickHouse.start``.
        """
        self.folder.acquire()
        try:
            self.folder.write_state(self._state("starting"))
            for port, user, option in self._ports:  # both before either: a refusal should come at once
                if port is not None:
                    require_free(port, user=user, option=option)
            cache.kafka_jars(self._cache_folder)
            say("Starting Kafka")
            self.kafka.start()
            say("Starting ClickHouse")
            self.clickhouse.start()
            self.folder.write_state(self._state("running"))
        except BaseException as error:  # Ctrl-C included
            self.stop(str(error) if isinstance(error, StackError) else "")
            raise

    def stop(self, failure: str = "") -> None:
        """Stop both and let go of the folder; does nothing twice. ``failure`` is kept for ``status`` to tell."""
        if not self.folder.held:
            return
        self.clickhouse.stop()
        self.kafka.stop()
        try:
            self.folder.write_state(self._state("failed" if failure else "stopped", failure))
        except OSError:
            pass  # a full disk must not keep the folder locked; the log and the exit code tell of the failure
        finally:
            self.folder.release()

    def check(self) -> None:
        """Raise ``ChildDiedError`` if a part does not run."""
        self.kafka.check()
        self.clickhouse.check()

    def watch(self) -> None:
        """Wait for ever; raises ``ChildDiedError`` as soon as a part is gone. Ends by an interrupt."""
        while True:
            self.check()
            time.sleep(WATCH_S)

    def _state(self, phase: Phase, message: str = "") -> StackState:
        kafka, clickhouse = self.kafka, self.clickhouse
        state = StackState(phase=phase, pid=os.getpid(), message=message)
        if phase != "running":
            return state
        return state.model_copy(
            update={
                "kafka_bootstrap": kafka.bootstrap,
                "kafka_pid": kafka.pid,
                "clickhouse_url": clickhouse.url,
                "clickhouse_pid": clickhouse.pid,
                "clickhouse_user": clickhouse.username,
                "clickhouse_password_file": str(clickhouse.password_file),
            }
        )
