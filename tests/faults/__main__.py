"""``python -m tests.faults --rounds 100``: the rotation of faults over real processes (see ``tests.faults.rotation``).

One round is one kill -9, often beside another fault. The seed that is printed draws the same rounds again.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stack.errors import StackError
from stack.interrupts import hear_interrupts, only_end_now
from stack.launcher import Stack
from tests.faults.parts import Parts
from tests.faults.rotation import Rotation, RotationError
from tests.faults.rotation_plan import plan

DATABASE = "rotation"


def main(
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="kill -9s")] = 8,
    seed: Annotated[int | None, typer.Option(help="Draws the rounds; default: any")] = None,
    every: Annotated[int, typer.Option(min=1, help="Rounds from one comparison to the next")] = 10,
) -> None:
    """Kill, pause and stop real processes under load; fails where anything is lost, doubled or does not recover."""
    hear_interrupts()
    console = Console(stderr=True)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="sluicegate-faults-"))
    console.print(f"{rounds} rounds, seed {seed}; logs and data in {folder}", highlight=False, soft_wrap=True)
    began_s, failure = time.monotonic(), ""
    stack = Stack(folder)
    try:
        stack.start()
        rotation = asyncio.run(_rotate(stack, folder, rounds, seed, every, console))
    except (RotationError, StackError, AssertionError) as error:
        failure = f"Failed with --rounds {rounds} --seed {seed}: {error}\nLogs and data were kept in {folder}"
    finally:
        only_end_now()
        stack.stop()
    if failure:
        sys.exit(failure)
    shutil.rmtree(folder, ignore_errors=True)
    losses, totals = rotation.losses, rotation.verifier.totals
    console.print(
        f"{rounds} kill -9s, 0 differences in {totals.events_logged:,} events; seed {seed}, "
        f"{time.monotonic() - began_s:.0f} s. Workers and sink gave up {rotation.restarts} times, and began anew. "
        f"kill -9 took, within what is promised: {losses.durable_events} events of durable publishers (the oldest "
        f"{losses.durable_age_ms_max} ms old), and {losses.node_events} or more of API nodes without a spool",
        highlight=False,
        soft_wrap=True,
    )


async def _rotate(stack: Stack, folder: Path, rounds: int, seed: int, every: int, console: Console) -> Rotation:
    parts = Parts(stack.kafka, stack.clickhouse, DATABASE, folder / "parts")
    rotation = Rotation(parts, console, checkpoint_every=every)
    try:
        await rotation.run(plan(seed, rounds))
    finally:
        parts.close()
    return rotation


if __name__ == "__main__":
    typer.run(main)
