"""The cache of jars, filled from a place that the test controls."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stack.cache import ENVIRONMENT_VARIABLE, cache_folder, kafka_jars
from stack.errors import StackError
from stack.jars import Jar

CONTENTS = {f"part{n}": f"the bytes of jar {n}".encode() * 50 for n in range(12)}
JARS = tuple(
    Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest(), len(content))
    for name, content in CONTENTS.items()
)


class Repository:
    """Serves the contents; ``wrong`` says how many times a jar comes damaged first."""

    def __init__(self, wrong: dict[str, int] | None = None) -> None:
        self.wrong = dict(wrong or {})
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, jar: Jar, target: Path, came: Callable[[int], None]) -> None:
        with self._lock:
            self.served[jar.artifact] += 1
            damaged = self.wrong.get(jar.artifact, 0) > 0
            if damaged:
                self.wrong[jar.artifact] -= 1
        content = CONTENTS[jar.artifact]
        target.write_bytes(content[::-1] if damaged else content)
        came(len(content))


def no_network(jar: Jar, _target: Path, _came: Callable[[int], None]) -> None:
    raise StackError(f"{jar.file_name} could not be fetched")


def test_an_empty_cache_is_filled_and_a_full_one_needs_no_network(tmp_path: Path) -> None:
    folder = kafka_jars(tmp_path, jars=JARS, fetch=Repository())
    assert {path.name: path.read_bytes() for path in folder.glob("*.jar")} == {
        f"{name}-1.0.jar": content for name, content in CONTENTS.items()
    }
    assert kafka_jars(tmp_path, jars=JARS, fetch=no_network, verify=True) == folder
    assert not list(folder.glob(".fetching-*"))


def test_a_jar_that_comes_damaged_is_fetched_again_once(tmp_path: Path) -> None:
    repository = Repository(wrong={"part3": 1})
    kafka_jars(tmp_path, jars=JARS, fetch=repository)
    assert repository.served["part3"] == 2
    assert repository.served["part4"] == 1


def test_a_jar_that_comes_damaged_twice_is_never_used(tmp_path: Path) -> None:
    repository = Repository(wrong={"part3": 2})
    with pytest.raises(StackError, match=r"part3-1.0.jar came twice with a content that is not the pinned one"):
        kafka_jars(tmp_path, jars=JARS, fetch=repository)
    assert not list(tmp_path.rglob("part3*"))


def test_what_had_come_before_the_network_went_is_kept(tmp_path: Path) -> None:
    def breaks_off(jar: Jar, target: Path, came: Callable[[int], None]) -> None:
        (no_network if jar.artifact == "part11" else Repository())(jar, target, came)

    with pytest.raises(StackError, match="could not be fetched"):
        kafka_jars(tmp_path, jars=JARS, fetch=breaks_off)
    repository = Repository()
    kafka_jars(tmp_path, jars=JARS, fetch=repository)
    assert "part11" in repository.served
    assert sum(repository.served.values()) < len(JARS)


def test_a_truncated_jar_is_noticed_at_every_start_and_a_changed_one_when_verified(tmp_path: Path) -> None:
    folder = kafka_jars(tmp_path, jars=JARS, fetch=Repository())
    (folder / "part0-1.0.jar").write_bytes(CONTENTS["part0"][:-1])
    (folder / "part1-1.0.jar").write_bytes(CONTENTS["part1"][::-1])
    repository = Repository()
    kafka_jars(tmp_path, jars=JARS, fetch=repository)
    assert set(repository.served) == {"part0"}
    kafka_jars(tmp_path, jars=JARS, fetch=repository, verify=True)
    assert set(repository.served) == {"part0", "part1"}


def test_several_that_fill_the_cache_at_once_fetch_each_jar_once(tmp_path: Path) -> None:
    repository = Repository()
    with ThreadPoolExecutor(6) as pool:
        folders = list(pool.map(lambda _: kafka_jars(tmp_path, jars=JARS, fetch=repository), range(6)))
    assert len(set(folders)) == 1
    assert set(repository.served.values()) == {1}


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def full(_jar: Jar, _target: Path, _came: Callable[[int], None]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StackError, match=r"No space left on device.*Make room"):
        kafka_jars(tmp_path, jars=JARS, fetch=full)


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    assert cache_folder().name == "sluicegate"
