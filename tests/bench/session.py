"""What the measurements share: the parts that run, started when first asked for, and how much to measure."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka

ROOT: Final = Path(__file__).parents[2]
PEERS_PYTHON: Final = ROOT / ".venv-bench/bin/python"
PEER_LIMIT_S: Final = 180.0


class Session:
    """One run of the bench. ``scale`` makes all loads smaller or larger."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.scale = scale
        self.kept: dict[str, object] = {}
        """What a group made once for all rounds."""
        self.cleanup = ExitStack()
        self.folder = folder
        """Of the run, and gone after it."""
        self._kafka: Kafka | None = None
        self._clickhouse: ClickHouse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup.close()

    def count(self, events: int) -> int:
        """``events``, scaled."""
        return max(1_000, round(events * self.scale))

    @property
    def kafka(self) -> Kafka:
        """The embedded broker."""
        if self._kafka is None:
            self._kafka = Kafka(self.folder / "kafka")
            self._kafka.start()
            self.cleanup.callback(self._kafka.stop)
        return self._kafka

    @property
    def bootstrap(self) -> str:
        """Its address."""
        return self.kafka.bootstrap

    @property
    def clickhouse(self) -> ClickHouse:
        """The embedded engine."""
        if self._clickhouse is None:
            self._clickhouse = ClickHouse(self.folder / "clickhouse")
            self._clickhouse.start()
            self.cleanup.callback(self._clickhouse.stop)
        return self._clickhouse

    def peer(self, module: str, *arguments: str) -> str:
        """The last line that a peer prints, run by the interpreter that has the peers' packages. Raises
        CalledProcessError, TimeoutExpired."""
        command: Sequence[str] = (str(PEERS_PYTHON), "-m", f"tests.bench.peers.{module}", *arguments)
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'schemas'}"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=PEER_LIMIT_S
        )
        return done.stdout.splitlines()[-1]
