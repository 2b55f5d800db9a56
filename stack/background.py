"""A stack that outlives the command which started it: ``up``, ``down``.

``up`` starts a keeper, a process of its own session that runs a ``Stack`` and owns its children and the folder's lock;
``down`` asks the keeper to end. Whoever ends the keeper, and however, ends the parts with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stack import cache
from stack.errors import StackError
from stack.folder import CHECKOUT, Folder, StackState
from stack.interrupts import only_end_now
from stack.ports import require_free

POLL_S = 0.1
START_LIMIT_S = 180.0
STOP_LIMIT_S = 60.0


def up(folder: Folder, *, kafka_port: int, clickhouse_port: int, say: Callable[[str], None]) -> StackState:
    """Start a keeper and return when both parts answer. An interrupt takes everything back.

    :raises StackError: the sentence that the keeper ended with, or one of its own.
    """
    folder.require_unowned()
    require_free(kafka_port, user="Kafka", option="--kafka-port")
    require_free(clickhouse_port, user="ClickHouse", option="--clickhouse-port")
    cache.kafka_jars()  # here, where its progress is seen
    say("Starting Kafka and ClickHouse")
    keeper = _start_keeper(folder, kafka_port, clickhouse_port)
    try:
        return _wait_until_running(folder, keeper)
    except BaseException:
        only_end_now()
        _end(keeper.pid, lambda: keeper.poll() is not None)
        raise


def _start_keeper(folder: Folder, kafka_port: int, clickhouse_port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stack", "up", "--foreground", "--data", str(folder.path)]
    command += ["--kafka-port", str(kafka_port), "--clickhouse-port", str(clickhouse_port)]
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with folder.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=CHECKOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StackError(
            f"The data folder {folder.path} cannot be written: {error.strerror or error}",
            kept="Nothing was started",
            next_step="Free some space, or choose another with --data",
        ) from error


def _wait_until_running(folder: Folder, keeper: subprocess.Popen[bytes]) -> StackState:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        ended = keeper.poll() is not None  # asked before the state is read: its last words come before its end
        state = folder.read_state()
        mine = state is not None and state.pid == keeper.pid
        if state is not None and mine and state.phase == "running":
            return state
        if ended:
            if state is not None and mine and state.message:
                raise KeeperError(state.message)
            raise KeeperError(_last_words(folder.log))
        time.sleep(POLL_S)
    raise StackError(
        f"The stack did not start within {START_LIMIT_S:g} s and was stopped",
        kept="All data was kept",
        next_step=f"Look into {folder.log}",
    )


class KeeperError(StackError):
    """What the keeper said when it ended: a whole sentence already."""

    def __str__(self) -> str:
        return self.happened


def _last_words(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace").strip()[-2000:] or "The stack ended without a word."
    except OSError as error:
        return f"The stack ended, and its log cannot be read: {error}"


def down(folder: Folder) -> bool:
    """End the keeper of the folder and with it both parts; False if none runs.

    :raises StackError: it is owned, but not by anything that says who it is.
    """
    if not folder.is_owned():
        return False
    state = folder.read_state()
    if state is None:
        raise StackError(
            f"Something owns {folder.path} and does not say what it is",
            kept="It was left alone",
            next_step="Look for a process that has stack.lock of that folder open",
        )
    _end(state.pid, lambda: not folder.is_owned())
    return True


def _end(pid: int, has_ended: Callable[[], bool]) -> None:
    """SIGTERM, then SIGKILL: the parts die with their keeper in any case."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if has_ended():
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_LIMIT_S
        while not has_ended() and time.monotonic() < deadline:
            time.sleep(POLL_S)
