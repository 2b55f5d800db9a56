"""What an API node writes down about itself, line by line: what it published, and when a decision reached it.

One JSON object a line, appended and handed to the system at once, so that only a half-written last line can be lost
with the process. Nothing of the pipeline reads it: it is the check's own evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from sluicegate_schemas.envelope import WireEvent
from stack.errors import StackError

SUFFIX: Final = ".jsonl"


class Started(msgspec.Struct, frozen=True, tag="started", tag_field="kind"):
    """The node began to serve."""

    node: str
    at_ms: int


class Published(msgspec.Struct, frozen=True, tag="published", tag_field="kind"):
    """One event as the publisher put it into an envelope, with its place there."""

    producer_id: str
    producer_epoch: int
    sequence: int
    index: int
    event: WireEvent


class Applied(msgspec.Struct, frozen=True, tag="applied", tag_field="kind"):
    """A decision that the node's gate obeys from ``at_ms`` on. Times of the cause are null where no event caused it."""

    decision_id: str
    scope: str
    limit_name: str
    verdict: str
    at_ms: int
    cause_ts_ms: int | None
    cause_logged_at_ms: int | None


Line = Started | Published | Applied

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(Line).decode


class NodeLog:
    """Appends lines to one file. Not for several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)

    def write(self, line: Line) -> None:
        """Append ``line``."""
        self._file.write(_ENCODE(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_node_logs(folder: Path) -> Iterator[Line]:
    """The lines of every node's log in ``folder``, file by file. A half line at the end of a file is left out.

    :raises StackError: a whole line cannot be read; it is named.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield _DECODE(line)
                except msgspec.MsgspecError as error:
                    raise StackError(f"{path} line {number} is no line of a node's log: {error}") from error
