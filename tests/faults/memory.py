"""How much memory processes take, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from stack.process import ChildProcess

INTERVAL_S: Final = 1.0
MEGABYTE: Final = 1_000_000


def resident_bytes(pid: int) -> int:
    """The resident set of a process (Linux: proc_pid_status(5)). Raises OSError where it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


class Memory:
    """Samples from entering to leaving."""

    def __init__(self, processes: Mapping[str, ChildProcess]) -> None:
        self.highest_bytes: dict[str, int] = dict.fromkeys(processes, 0)
        self.last_bytes: dict[str, int] = dict.fromkeys(processes, 0)
        self._processes = processes
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def restart(self) -> None:
        """The highest so far is forgotten."""
        self.highest_bytes = dict(self.last_bytes)

    async def _sample(self) -> None:
        while True:
            for name, process in self._processes.items():
                if (pid := process.pid) is not None:
                    self.last_bytes[name] = resident_bytes(pid)
                    self.highest_bytes[name] = max(self.highest_bytes[name], self.last_bytes[name])
            await asyncio.sleep(INTERVAL_S)
