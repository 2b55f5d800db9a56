"""Whether a worker or a sink does its work, as its container asks: ``python -m streams.health [--live]``.

The process writes ``health.json`` into its data folder once a second, on the event loop that does the work: where the
loop is stuck, the file grows old. A process that waits (for its broker, for partitions) lives, but is not ready. The
same over HTTP: ``streams.endpoint``. All states: docs/health.md.
"""

import argparse
import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Annotated, Final, Literal, Self

import msgspec

from sluicegate_schemas.bounds import EPOCH_MS_MAX

log = logging.getLogger(__name__)

FILE_NAME: Final = "health.json"
INTERVAL_S: Final = 1.0
MAX_AGE_S_DEFAULT: Final = 15.0


class PartitionHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one partition stands. The lag is None where it is not known yet."""

    partition: str
    """``topic/number``."""
    state: Literal["ready", "recovers", "behind", "waits", "halts", "stuck"]
    lag_events: int | None = None
    lag_s: float | None = None
    for_s: float = 0.0
    """How long it has not gone on; with a state from "waits" on."""
    on: str = ""
    """What it waits for or is stuck on, in words."""


class Health(msgspec.Struct, frozen=True):
    """What a process says of itself."""

    written_at_ms: Annotated[int, msgspec.Meta(ge=0, lt=EPOCH_MS_MAX)]
    ready: bool
    partitions: list[str]
    """Those that it works on, as ``topic/number``."""
    waits_for: str = ""
    """What it is not ready for, in words; empty where it is ready."""
    states: list[PartitionHealth] = []
    """Each partition that the group gave it."""
    stuck: str = ""
    """What it is stuck on, in words: it is about to end."""
    listens: str = ""
    """``host:port`` of its endpoint, if it has one."""

    @classmethod
    def now(
        cls, partitions: Sequence[str], waits_for: str = "", *, states: Sequence[PartitionHealth] = (), stuck: str = ""
    ) -> Self:
        """As of now; ready where nothing is waited for."""
        return cls(int(time() * 1000), not waits_for, list(partitions), waits_for, list(states), stuck)


def write(folder: Path, health: Health) -> None:
    """Replaces the file in one step. Raises OSError."""
    draft = folder / f"{FILE_NAME}.new"
    draft.write_bytes(msgspec.json.encode(health))
    draft.replace(folder / FILE_NAME)


async def write_forever(folder: Path, health: Callable[[], Health]) -> None:
    """Writes until cancelled. A folder that cannot be written to stops no work: it is logged, once a failure."""
    failed = False
    while True:
        try:
            write(folder, health())
            failed = False
        except OSError as error:
            if not failed:
                log.warning("%s cannot be written (%s): who watches this process will call it dead", FILE_NAME, error)
            failed = True
        await asyncio.sleep(INTERVAL_S)


def complaint(folder: Path, max_age_s: float = MAX_AGE_S_DEFAULT, *, live: bool = False) -> str | None:
    """What is wrong with the process that writes into ``folder``, in one sentence; None where it is well.

    With ``live`` only what a new start would mend: a process that waits or is behind is well.
    """
    path = folder / FILE_NAME
    try:
        health = msgspec.json.decode(path.read_bytes(), type=Health)
    except FileNotFoundError:
        return f"{path} is not there: the process has not begun, or has another SLUICEGATE_DATA_DIR."
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"{path} cannot be read: {error}."
    age_s = time() - health.written_at_ms / 1000
    if abs(age_s) > max_age_s:
        return f"{path} was written {age_s:.0f} s ago, more than {max_age_s:g} s: the process is stuck or has ended."
    return (
        None
        if health.ready or (live and not health.stuck)
        else f"The process lives, but is not ready: it waits for {health.waits_for}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Ends with status 0 where the process is well, else with 1 and a sentence."""
    parser = argparse.ArgumentParser(prog="python -m streams.health", description="Asks whether a process works.")
    parser.add_argument("--max-age", type=float, default=MAX_AGE_S_DEFAULT, help="seconds; default %(default)g")
    parser.add_argument("--live", action="store_true", help="whether it lives; else, whether it is ready")
    asked = parser.parse_args(arguments)
    folder = os.environ.get("SLUICEGATE_DATA_DIR")
    raise SystemExit(
        complaint(Path(folder), asked.max_age, live=asked.live) if folder else "SLUICEGATE_DATA_DIR is not set."
    )


if __name__ == "__main__":
    main()
