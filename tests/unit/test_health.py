"""Whether a process works, by the file that it writes: fresh and ready, or a sentence."""

import asyncio
import re
import time
from pathlib import Path

import pytest

from streams.health import FILE_NAME, Health, main, write, write_forever


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str | None:
    """None for status 0, else the sentence that goes with status 1."""
    monkeypatch.setenv("SLUICEGATE_DATA_DIR", str(folder))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code is None or isinstance(ended.value.code, str)  # Python's form of 0, and of a text with 1
    return ended.value.code


def test_a_fresh_and_ready_process_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, Health.now(["usage/0"]))
    assert answer(tmp_path, monkeypatch) is None
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("ago_s", [20, -20])
def test_a_file_of_another_time_is_not_taken_for_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago_s: int
) -> None:
    write(tmp_path, Health(int((time.time() - ago_s) * 1000), True, []))
    assert re.search("written -?[12][0-9] s ago.* stuck or has ended", answer(tmp_path, monkeypatch) or "")
    assert answer(tmp_path, monkeypatch, "--max-age", "60") is None


def test_a_missing_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is not there" in (answer(tmp_path, monkeypatch) or "")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"ready":true,"partitions":[]}', b"\xff"])
def test_a_damaged_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert "cannot be read" in (answer(tmp_path, monkeypatch) or "")


def test_a_process_that_waits_lives_and_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, Health.now([], "its broker"))
    assert answer(tmp_path, monkeypatch) == "The process lives, but is not ready: it waits for its broker."


def test_without_a_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICEGATE_DATA_DIR", raising=False)
    with pytest.raises(SystemExit, match="SLUICEGATE_DATA_DIR is not set"):
        main([])


async def test_a_folder_that_cannot_be_written_to_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.health.INTERVAL_S", 0.001)
    folder = tmp_path / "later"
    tried, written = asyncio.Event(), asyncio.Event()
    asked = 0

    def health() -> Health:
        nonlocal asked
        asked += 1
        if asked == 4:
            tried.set()
        if (folder / FILE_NAME).exists():
            written.set()
        return Health.now([])

    writing = asyncio.create_task(write_forever(folder, health))
    async with asyncio.timeout(10):
        await tried.wait()
        folder.mkdir()
        await written.wait()
    writing.cancel()
    assert len(caplog.messages) == 1
