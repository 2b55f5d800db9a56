"""The table of Kafka's jars: what each is called, its SHA-256 and its size."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("kafka-4.4.0-jars.tsv")
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned artifact: Maven coordinates, SHA-256 (hex) and size in bytes."""

    group: str
    artifact: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def has_right_size(self, path: Path) -> bool:
        """The cheap check of every start: the file is there and as long as it must be."""
        try:
            return path.stat().st_size == self.size_bytes
        except OSError:
            return False

    def has_right_content(self, path: Path) -> bool:
        """The full check: size and SHA-256."""
        if not self.has_right_size(path):
            return False
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
        return digest.hexdigest() == self.sha256


def read_table(path: Path = TABLE) -> tuple[Jar, ...]:
    """The jars of a table: lines of ``group:artifact:version``, SHA-256 and bytes, parted by tabs; ``#`` comments.

    :raises ValueError: a line is not of that form; it is named.
    """
    return tuple(
        _parse(line, number)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line and not line.startswith("#")
    )


_LINE = re.compile(r"([\w.-]+):([\w.-]+):([\w.-]+)\t([0-9a-f]{64})\t([0-9]{1,12})")


def _parse(line: str, number: int) -> Jar:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"line {number} of the jar table is not 'group:artifact:version, SHA-256, bytes': {line!r}")
    group, artifact, version, sha256, size = match.groups()
    return Jar(group, artifact, version, sha256, int(size))
