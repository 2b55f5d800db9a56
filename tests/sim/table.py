"""A failed history as people read it: what was violated, what is left of its plan, the last steps as a table."""

from collections.abc import Iterable
from io import StringIO
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from .plan import Plan
from .play import Step

STEPS_SHOWN: Final = 60
_WIDTH: Final = 150
_WORDS_MAX: Final = 2_000


def command(seed: int, plant: str = "") -> str:
    """What to type to play ``seed`` again."""
    return f"python -m tests.sim --seeds 1 --first {seed}" + (f" --plant {plant!r}" if plant else "")


def plan_table(plan: Plan) -> Table:
    """Traffic and faults of a plan in the order of their time."""
    title = (
        f"The plan: {plan.partitions} partitions, {plan.workers} workers, {plan.gateways} gateways, "
        f"{plan.duration_ms / 1000:g} s from {plan.start_ms} ms (UTC epoch)"
    )
    table = Table("at", "what happens", "to or by", "for", title=title, title_justify="left")
    rows = [(fault.at_ms, Text(fault.kind, "red"), str(fault.target), f"{fault.for_ms} ms") for fault in plan.faults]
    rows += [(send.at_ms, Text(send.kind), str(send.by), "") for send in plan.traffic]
    for at_ms, *cells in sorted(rows, key=lambda row: row[0]):
        table.add_row(_seconds(at_ms), *cells)
    return table


def steps_table(steps: Iterable[Step], shown: int = STEPS_SHOWN) -> Table:
    """The last steps of a history."""
    last = list(steps)[-shown:]
    table = Table("at", "who", "does", "", title=f"The last {len(last)} steps", title_justify="left")
    for step in last:
        table.add_row(_seconds(step.at_ms), Text(str(step.who)), Text(str(step.what)), Text(str(step.detail)[:200]))
    return table


def _seconds(at_ms: float) -> str:
    return f"{at_ms / 1000:8.3f}"


def report(seed: int, faults: Iterable[str], plan: Plan, steps: Iterable[Step], plant: str = "") -> str:
    """The whole report of a failed seed; ``plan`` and ``steps`` are those of the shrunk history."""
    parts: list[RenderableType] = [Text(f"Seed {seed} fails. Again: {command(seed, plant)}", "bold red"), ""]
    parts += [Text(f"• {fault[:_WORDS_MAX]}") for fault in faults]
    parts += ["", plan_table(plan), "", steps_table(steps)]
    out = StringIO()
    console = Console(file=out, width=_WIDTH)
    for part in parts:
        console.print(part)
    return out.getvalue()
