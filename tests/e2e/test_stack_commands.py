"""``python -m stack``: each ending is one clear sentence, and nothing is orphaned."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack import cache
from stack.errors import StackError
from stack.folder import CHECKOUT, Folder
from stack.jars import Jar
from stack.kafka import Kafka
from stack.ports import free_port

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.05)


def processes_of(data: Path) -> set[int]:
    """The processes that have the data folder in their command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if os.fsencode(data) in words:
                found.add(int(entry.name))
    return found


class Launcher:
    """Runs ``python -m stack`` on one data folder and fixed ports."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ports = ["--kafka-port", str(free_port()), "--clickhouse-port", str(free_port())]
        self.environment = dict(os.environ)
        self._started: list[subprocess.Popen[str]] = []

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._words(command), cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, timeout=200
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self._words("up"), *words], cwd=CHECKOUT, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        self._started.append(process)
        return process

    def _words(self, command: str) -> list[str]:
        words = [sys.executable, "-m", "stack", command, "--data", str(self.data)]
        return words + self.ports if command == "up" else words

    def clean_up(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()
        for pid in processes_of(self.data):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    cache.kafka_jars()  # filled before, so that the moments below are those of the start
    own = Launcher(tmp_path / "data")
    yield own
    own.clean_up()


def assert_one_sentence(text: str, *parts: str) -> None:
    assert "Traceback" not in text
    last = text.strip().splitlines()[-1]
    for part in parts:
        assert part in last


def test_up_status_down_and_up_again_go_on_with_the_same_data(launcher: Launcher) -> None:
    up = launcher.run("up")
    assert up.returncode == 0, up.stderr
    cluster = (launcher.data / "kafka" / "log" / "meta.properties").read_text()
    status = launcher.run("status")
    assert status.returncode == 0
    assert f"127.0.0.1:{launcher.ports[1]}" in status.stdout
    second = launcher.run("up")
    assert second.returncode == 1
    assert_one_sentence(second.stderr, "already runs on the data folder", "left alone", "python -m stack down")
    down = launcher.run("down")
    assert down.returncode == 0
    assert "the data is kept" in down.stdout
    wait_for(lambda: not processes_of(launcher.data), "nothing is left", 5)
    assert launcher.run("status").returncode == 3
    again = launcher.run("up")
    assert again.returncode == 0, again.stderr
    assert (launcher.data / "kafka" / "log" / "meta.properties").read_text() == cluster
    keeper = Folder(launcher.data).read_state()
    assert keeper is not None
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for(lambda: not processes_of(launcher.data), "kill -9 of the keeper ends everything")
    assert launcher.run("status").returncode == 3


@pytest.mark.parametrize("which", [1, 3])
def test_a_port_in_use_is_named(launcher: Launcher, which: int) -> None:
    with socket.create_server(("127.0.0.1", int(launcher.ports[which]))):
        up = launcher.run("up")
    assert up.returncode == 1
    assert_one_sentence(up.stderr, f"Port {launcher.ports[which]} is in use", launcher.ports[which - 1])
    assert not processes_of(launcher.data)


def test_an_empty_cache_without_a_network_says_what_to_do(launcher: Launcher, tmp_path: Path) -> None:
    launcher.environment |= {"SLUICEGATE_CACHE_DIR": str(tmp_path / "cache"), "NO_PROXY": "", "no_proxy": ""}
    nobody = f"http://127.0.0.1:{free_port()}"
    launcher.environment |= dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), nobody)
    up = launcher.run("up")
    assert up.returncode == 1
    assert_one_sentence(up.stderr, "not in the cache", "could not be fetched", "Connect to the network")
    assert not processes_of(launcher.data)


def test_a_cache_that_cannot_be_made_is_named(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    launcher.environment["SLUICEGATE_CACHE_DIR"] = str(tmp_path / "file" / "cache")
    up = launcher.run("up")
    assert up.returncode == 1
    assert_one_sentence(up.stderr, "cannot be filled: Not a directory", "SLUICEGATE_CACHE_DIR")


def test_a_folder_that_is_locked_is_left_alone(launcher: Launcher) -> None:
    folder = Folder(launcher.data)
    folder.acquire()
    try:
        up = launcher.run("up")
    finally:
        folder.release()
    assert up.returncode == 1
    assert_one_sentence(up.stderr, "Another stack already runs on the data folder", "--data")


def test_a_damaged_jar_of_the_right_size_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cache.kafka_jars()
    shutil.copytree(good, tmp_path / "cache" / good.name)
    damaged = tmp_path / "cache" / good.name / "kafka-clients-4.4.0.jar"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    fetched = []

    def fetch(jar: Jar, target: Path, _came: Callable[[int], None]) -> None:
        fetched.append(jar.artifact)
        shutil.copy(good / jar.file_name, target)

    monkeypatch.setattr(cache, "fetch_from_maven", fetch)
    kafka = Kafka(tmp_path / "kafka", cache_folder=tmp_path / "cache")
    try:
        kafka.start()
        assert kafka.running
    finally:
        kafka.kill()
    assert fetched == ["kafka-clients"]


@pytest.mark.parametrize("moment", ["Starting Kafka", "Starting ClickHouse", "Ctrl-C stops both"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_an_interrupt_at_any_moment_stops_all_and_says_so(
    launcher: Launcher, moment: str, number: signal.Signals
) -> None:
    process = launcher.start("--foreground")
    assert process.stderr is not None
    said: list[str] = []
    while moment not in "".join(said[-1:]):
        said.append(process.stderr.readline())
        assert said[-1], f"it ended before the moment came, and said: {''.join(said)}"
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert_one_sentence(words, "Interrupted", "stopped", "data was kept", "run the same command")
    assert not processes_of(launcher.data)
    assert not Folder(launcher.data).is_owned()


def test_ctrl_c_while_up_waits_takes_the_keeper_back(launcher: Launcher) -> None:
    process = launcher.start()
    wait_for(lambda: Folder(launcher.data).is_owned(), "the keeper owns the folder")
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert_one_sentence(words, "Interrupted")
    assert not processes_of(launcher.data)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_kill_9_of_the_launcher_leaves_no_orphan(launcher: Launcher) -> None:
    process = launcher.start("--foreground")
    assert process.stderr is not None
    assert any("Ctrl-C stops both" in line for line in process.stderr)
    assert len(processes_of(launcher.data)) == 3
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(launcher.data), "both parts die with the launcher", 10)


def test_a_part_that_dies_ends_the_stack_and_is_named(launcher: Launcher) -> None:
    assert launcher.run("up").returncode == 0
    state = Folder(launcher.data).read_state()
    assert state is not None
    assert state.kafka_pid is not None
    os.kill(state.kafka_pid, signal.SIGKILL)
    wait_for(lambda: not Folder(launcher.data).is_owned(), "the keeper lets go")
    wait_for(lambda: not processes_of(launcher.data), "nothing is left", 5)
    status = launcher.run("status")
    assert status.returncode == 3
    assert "Kafka ended unexpectedly (by signal SIGKILL)" in status.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root alone")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_nearly_full_is_refused_at_the_start(launcher: Launcher, small_disk: Path) -> None:
    launcher.data = small_disk / "data"
    up = launcher.run("up")
    assert up.returncode == 1
    assert_one_sentence(up.stderr, "is full", "Free some space", "all data was kept")


def test_a_disk_that_fills_while_kafka_runs_is_named(small_disk: Path) -> None:
    kafka = Kafka(small_disk / "kafka")
    kafka.log = small_disk.parent / "kafka.log"
    try:
        kafka.start()
        with (small_disk / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(65_536))
            except OSError:
                pass
        kafka.stop()
        with pytest.raises(StackError, match=r"the disk is full.*Free some space"):
            kafka.start()
    finally:
        kafka.kill()
