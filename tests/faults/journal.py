"""What a publishing process writes down beside its publisher, line by line, before it hands an event over.

Each line is handed to the system at once, so kill -9 loses a half-written last line at most. Times are milliseconds of
``time.monotonic``, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

import msgspec

from sluicegate_schemas.envelope import ENCODE, WireEvent

SERIAL: Final = "serial"
"""The label that names an event."""


class Handed(msgspec.Struct, frozen=True, tag="handed", tag_field="kind"):
    """The event is handed to the publisher next; ``crc`` is of its content."""

    serial: str
    at_ms: int
    crc: int


class Turned(msgspec.Struct, frozen=True, tag="turned", tag_field="kind"):
    """The publisher did not take it, and said so."""

    serial: str


class Stand(msgspec.Struct, frozen=True, tag="stand", tag_field="kind"):
    """Where the publisher's events are, as it says itself; ``closed`` after it was closed."""

    at_ms: int
    published: int
    waiting: int
    spooled: int
    lost: int
    closed: bool = False


Line = Handed | Turned | Stand

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(Line).decode


def now_ms() -> int:
    """The time of the journals."""
    return time.monotonic_ns() // 1_000_000


def crc_of(event: WireEvent) -> int:
    """A checksum of all that is in ``event``."""
    return crc32(ENCODE(event))


class Journal:
    """Appends lines to a new file."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb", buffering=0)

    def write(self, line: Line) -> None:
        """Append ``line``."""
        self._file.write(_ENCODE(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> Iterator[Line]:
    """Its lines; a half line at the end is left out. Raises msgspec's errors for what is no line."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield _DECODE(line)


def last_stand(path: Path) -> Stand | None:
    """The newest ``Stand``, looked for among the last lines; None where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200_000))
            lines = file.read().split(b"\n")[1:-1]
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        if b'"stand"' in line:
            stand = _DECODE(line)
            return stand if isinstance(stand, Stand) else None
    return None
