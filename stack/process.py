"""Supervision of one child process: started until it is ready, logged to a file, stopped without a trace.

How to use it, for Kafka, the ClickHouse engine, workers, sinks and API nodes alike::

    worker = ChildProcess(
        "worker-1",
        [sys.executable, "-m", "streams", "worker"],
        log=data / "logs" / "worker-1.log",
        environment={"SLUICEGATE_KAFKA": kafka.bootstrap},
        ready=lambda: answers(port),         # asked every 50 ms; None means ready as soon as it runs
    )
    worker.start()                           # returns when ready, or raises StackError / ChildDiedError
    worker.check()                           # raises ChildDiedError with the last log lines if it is gone
    worker.pause(); worker.resume()          # SIGSTOP, SIGCONT
    worker.kill()                            # SIGKILL, at once
    worker.stop()                            # SIGTERM, and SIGKILL when the limit has passed; never raises

- A child is the leader of its own session and process group: Ctrl-C in the terminal reaches the launcher alone, which
  then stops its children in order; ``stop`` and ``kill`` reach the child's own children too.
- A child dies with the process that started it, even if that one is killed with ``kill -9`` (see ``stack.leash``).
- ``start`` may follow ``stop`` or ``kill`` on the same object, any number of times. The log is appended to, and put
  aside to ``NAME.log.1`` at a start when it has passed ``LOG_BYTES_MAX``.
- All calls block; from asyncio code use ``asyncio.to_thread(worker.start)``. Any thread may call; one at a time.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import BinaryIO

from stack.errors import ChildDiedError, StackError

LOG_BYTES_MAX = 10_000_000
TAIL_BYTES = 65_536
POLL_S = 0.05
HOPELESS_S = 10.0  # from then on a starting child whose log names a known cause is given up
LEASH = Path(__file__).with_name("leash.py")

# What a log says of causes that a person can do something about: (words in the log, the sentence, the next step).
KNOWN_CAUSES = (
    (
        (
            "No space left on device",
            "Disk quota exceeded",
            "File too large",
            "NOT_ENOUGH_SPACE",
            "unsafe memory access",  # what Java makes of a mapped page that the disk has no room for
        ),
        "the disk is full",
        "Free some space and start again",
    ),
    (("Address already in use", "address already in use"), "its port is in use by another program", "Choose another"),
    (
        ("Cannot lock file", "Failed to acquire lock", "CANNOT_OPEN_FILE"),
        "its data folder is in use by another process",
        "Stop that process, or use another data folder",
    ),
)


class ChildProcess:
    """One child process (see the module's text for its life).

    :param name: how messages call it.
    :param command: the program and its arguments; no shell.
    :param log: the file that gets its standard output and error.
    :param environment: added to this process's environment.
    :param ready: answers whether the child does its work now; must return or fail within about a second.
    :param ready_limit_s: how long ``start`` waits for ``ready``.
    :param stop_limit_s: how long ``stop`` waits between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
        ready_limit_s: float = 60.0,
        stop_limit_s: float = 20.0,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._cwd = cwd
        self._environment = dict(environment or {})
        self._ready = ready
        self._ready_limit_s = ready_limit_s
        self._stop_limit_s = stop_limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._swept = True
        self._log_start_bytes = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended (a paused process runs)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the last run ended (negative: the signal), or None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it and return when it is ready. If that fails, nothing of it is left running.

        :raises ChildDiedError: it ended before it was ready.
        :raises StackError: it could not be started, or was not ready within the limit.
        """
        self.spawn()
        try:
            self.wait_until_ready()
        except BaseException:  # Ctrl-C included: nothing may stay behind
            self.kill()
            raise

    def run_to_end(self, limit_s: float) -> None:
        """Start it and return when it has ended well. If that fails, nothing of it is left running.

        :raises ChildDiedError: its exit code is not 0.
        :raises StackError: it could not be started, or had not ended within the limit.
        """
        self.spawn()
        assert self._process is not None
        try:
            if self._process.wait(limit_s):
                self.check()
        except subprocess.TimeoutExpired as error:
            raise StackError(f"{self.name} did not end within {limit_s:g} s", next_step="Start again") from error
        finally:  # Ctrl-C included: nothing may stay behind
            self.kill()

    def spawn(self) -> None:
        """Start it without waiting; ``wait_until_ready`` may follow, so that several children start side by side."""
        if self.running:
            raise StackError(f"{self.name} runs already (process {self.pid})")
        command = leashed(self.command)
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_suffix(self.log.suffix + ".1"))
            with self.log.open("ab") as output:
                self._log_start_bytes = output.tell()
                _spawner.run(lambda: self._fork(command, output))
        except OSError as error:
            raise StackError(f"{self.name} could not be started: {error}", kept="Nothing was changed") from error
        except BaseException:  # Ctrl-C while the spawner forks: nothing may stay behind
            self.kill()
            raise

    def _fork(self, command: list[str], output: BinaryIO) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._cwd,
            env={**os.environ, **self._environment},
            start_new_session=True,
        )
        self._swept = False

    def wait_until_ready(self) -> None:
        """Wait until ``ready`` says yes; the same errors as ``start``."""
        started = time.monotonic()
        while True:
            self.check()
            if self._ready is None or self._ready():
                return
            waited_s = time.monotonic() - started
            if waited_s > min(self._ready_limit_s, HOPELESS_S):
                self._give_up_if_hopeless(waited_s)
            time.sleep(POLL_S)

    def _give_up_if_hopeless(self, waited_s: float) -> None:
        """The limit has passed, or the log names a cause that waiting does not cure."""
        why, next_step = _known_cause(self.log_tail(lines=TAIL_BYTES))
        if why:
            raise StackError(f"{self.name} cannot start: {why}", kept="Its data was kept", next_step=next_step)
        if waited_s > self._ready_limit_s:
            raise StackError(
                f"{self.name} did not become ready within {self._ready_limit_s:g} s",
                kept="Its data was kept",
                next_step=f"Its log is {self.log}; the last lines:\n{self.log_tail()}",
            )

    def check(self) -> None:
        """Raise ``ChildDiedError`` with the last log lines if it does not run."""
        if self.running:
            return
        tail = self.log_tail()
        why, next_step = _known_cause(self.log_tail(lines=TAIL_BYTES))
        ended = f"{self.name} ended unexpectedly ({_ending(self.exit_code)})"
        if why:
            raise ChildDiedError(f"{ended}: {why}", kept="Its data was kept", next_step=next_step, log_tail=tail)
        raise ChildDiedError(
            ended,
            kept="Its data was kept",
            next_step=f"Its log is {self.log}; the last lines:\n{tail or '(the log is empty)'}",
            log_tail=tail,
        )

    def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL when it has not ended within the limit. Does nothing if it does not run."""
        if self._process is not None and self.running:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a paused process cannot hear SIGTERM
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_limit_s)
        self.kill()

    def kill(self) -> None:
        """End it and what it started at once, by SIGKILL. Does nothing if it does not run."""
        if self._process is None or self._swept:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._swept = True  # from here on its number may belong to somebody else

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        self.check()
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self.check()
        self._signal(signal.SIGCONT)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that this run wrote, at most ``TAIL_BYTES`` of them; empty if there are none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start_bytes, self.log.stat().st_size - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def leashed(command: Sequence[str]) -> list[str]:
    """The command in a form that dies with this process (and with the thread that starts it)."""
    return [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command]


def _known_cause(log_tail: str) -> tuple[str, str]:
    for words, why, next_step in KNOWN_CAUSES:
        if any(word in log_tail for word in words):
            return why, next_step
    return "", ""


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "it was never started"
    if exit_code < 0:
        return f"by signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


class _Spawner:
    """Starts every child from one thread that lives as long as the process.

    The kernel's parent-death signal fires when the *thread* that forked the child ends; a child that was started from
    a short-lived thread would die with that thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, fork: Callable[[], None]) -> None:
        """Have ``fork`` called; when this returns or raises, interrupts included, it has ended or never will begin."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="stack-spawner", daemon=True)
                self._thread.start()
        answer: Future[None] = Future()
        self._orders.put((fork, answer))
        try:
            answer.result()
        except BaseException:
            if not answer.cancel():
                wait([answer])
            raise

    def _serve(self) -> None:
        while True:
            fork, answer = self._orders.get()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(fork())
            except BaseException as error:
                answer.set_exception(error)


_spawner = _Spawner()
