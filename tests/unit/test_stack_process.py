"""Child processes: started, watched, ended, never orphaned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.errors import ChildDiedError, StackError
from stack.folder import CHECKOUT
from stack.process import ChildProcess

pytestmark = pytest.mark.processes
Make = Callable[..., ChildProcess]


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 15.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A child that runs a piece of Python; it is killed at the end."""
    children: list[ChildProcess] = []

    def _make(code: str, **options: object) -> ChildProcess:
        command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
        child = ChildProcess("the child", command, log=tmp_path / "child.log", **options)  # type: ignore[arg-type]  # any option
        children.append(child)
        return child

    yield _make
    for child in children:
        child.kill()


def test_start_returns_when_the_child_is_ready(make: Make, tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    child = make(f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(60)", ready=mark.exists)
    child.start()
    assert mark.exists()
    assert child.running
    assert child.pid is not None
    child.stop()
    assert not child.running
    assert child.pid is None
    assert child.exit_code == -signal.SIGTERM


def test_a_child_that_dies_says_so_with_its_last_words(make: Make) -> None:
    child = make("print('the reason'); raise SystemExit(7)", ready=lambda: False)
    with pytest.raises(ChildDiedError, match=r"exit code 7[\s\S]*the reason"):
        child.start()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("java.io.IOException: No space left on device", "the disk is full.*Free some space"),
        ("BindException: Address already in use", "in use by another program"),
    ],
)
def test_a_known_cause_is_told_in_one_sentence(make: Make, words: str, sentence: str) -> None:
    child = make(f"print({words!r}); raise SystemExit(1)", ready=lambda: False)
    with pytest.raises(ChildDiedError, match=sentence) as caught:
        child.start()
    assert "\n" not in str(caught.value)


def test_a_child_that_never_gets_ready_is_ended(make: Make) -> None:
    child = make("import time; time.sleep(60)", ready=lambda: False, ready_limit_s=0.3)
    with pytest.raises(StackError, match=r"did not become ready within 0\.3 s"):
        child.start()
    assert not child.running


def test_an_interrupt_while_it_starts_leaves_nothing(make: Make) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    child = make("import time; time.sleep(60)", ready=interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.start()
    assert not child.running


def test_a_child_that_ignores_sigterm_is_killed(make: Make, tmp_path: Path) -> None:
    mark = tmp_path / "deaf"
    code = f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(mark)!r}).touch()
        time.sleep(60)
    """
    child = make(code, ready=mark.exists, stop_limit_s=0.2)
    child.start()
    child.stop()
    assert child.exit_code == -signal.SIGKILL


def test_stop_reaches_a_paused_child_and_what_it_started(make: Make, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    code = f"""
        import pathlib, subprocess, sys, time
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(note)!r}).write_text(str(other.pid) + "\\n")
        time.sleep(60)
    """
    child = make(code, ready=lambda: note.exists() and note.read_text().endswith("\n"))
    child.start()
    grandchild = int(note.read_text())
    child.pause()
    child.stop()
    assert child.exit_code == -signal.SIGTERM
    wait_for(lambda: not is_alive(grandchild), "the grandchild ends")


def test_a_paused_child_does_nothing_until_it_is_resumed(make: Make, tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = f"""
        import pathlib, time
        for n in range(10**9):
            pathlib.Path({str(count)!r}).write_text(str(n)); time.sleep(0.005)
    """
    child = make(code, ready=lambda: count.exists())
    child.start()
    child.pause()
    assert child.pid is not None
    state = Path(f"/proc/{child.pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the child is stopped")
    before = count.read_text()
    child.resume()
    wait_for(lambda: count.read_text() not in ("", before), "the child goes on")


def test_it_can_start_again_after_a_kill(make: Make) -> None:
    child = make("import time; time.sleep(60)")
    child.start()
    first = child.pid
    child.kill()
    with pytest.raises(ChildDiedError, match="by signal SIGKILL"):
        child.check()
    child.start()
    assert child.pid not in (None, first)
    with pytest.raises(StackError, match="runs already"):
        child.start()


def test_an_interrupt_while_it_is_forked_leaves_nothing_running(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    child = make("import time; time.sleep(60)")
    forked: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def interrupted_popen(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.2)  # the main thread has long heard the interrupt when the child begins
        forked.append(real(*words, **options))
        return forked[0]

    monkeypatch.setattr("stack.process.subprocess.Popen", interrupted_popen)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            child.start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert forked
    assert forked[0].poll() is not None
    assert child.pid is None


def test_a_child_outlives_the_thread_that_started_it(make: Make) -> None:
    child = make("import time; time.sleep(60)")
    starter = threading.Thread(target=child.start)
    starter.start()
    starter.join()
    assert child.pid is not None
    # The kernel would have sent the signal when the thread ended; a later child proves that time has passed.
    later = make("pass")
    later.spawn()
    wait_for(lambda: not later.running, "the later child ends")
    assert child.running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_kill_9_of_the_parent_ends_the_child(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from stack.process import ChildProcess
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        child = ChildProcess("child", sleep, log=Path({str(tmp_path / "log")!r}))
        child.start()
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(child), "the child dies with its parent")


def test_a_long_log_is_put_aside_at_the_next_start(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("stack.process.LOG_BYTES_MAX", 10)
    child = make("print('x' * 100)")
    child.spawn()
    wait_for(lambda: not child.running, "the first run ends")
    child.spawn()
    wait_for(lambda: not child.running, "the second run ends")
    assert (tmp_path / "child.log.1").stat().st_size == 101
    assert (tmp_path / "child.log").stat().st_size == 101
