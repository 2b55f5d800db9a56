"""Histories of disasters, one a seed; ``planted`` measures how soon bugs planted on purpose are found.

``--seeds 300`` plays that many from a first seed that is drawn anew and printed, or given by ``--first``. A failure
prints its seed and the command that plays it again, shrinks, and shows the last steps as a table; the exit code is 1.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .failure import explain
from .planted import PLANTS, measure
from .seeds import Outcome, outcomes, quiet
from .shrink import PLAYS_MAX

_LINE_EVERY_S = 10.0


def draw_first() -> int:
    """A first seed that nobody chose."""
    return random.SystemRandom().randrange(2**31)


class _Lines:
    """Progress where no terminal shows a bar: a line every few seconds."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._done, self._said_at = 0, time.monotonic()

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            self._console.print(f"{self._done}/{self._total}")


def run(console: Console, first: int, count: int, jobs: int, *, plant: str, shrinks: bool) -> int:
    """Plays ``count`` seeds from ``first`` on; returns the exit code."""
    console.print(f"{count} histories from seed {first}" + (f", with the bug {plant!r} planted" if plant else ""))
    seen: Counter[str] = Counter()
    started_at, cpu_s = time.monotonic(), 0.0
    failed: Outcome | None = None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    lines = _Lines(console, count)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("histories", total=count)
        with closing(outcomes(first, count, jobs, plant)) as results:
            for one in results:
                seen.update(one.seen)
                cpu_s += one.cpu_s
                progress.advance(task)
                if not console.is_terminal:
                    lines.advance()
                if one.faults:
                    failed = one
                    break
    took_s = time.monotonic() - started_at
    if failed is not None:
        console.print(f"seed {failed.seed} fails: {failed.faults[0]}", markup=False, highlight=False)
        if shrinks:
            console.print(f"shrinking it, with up to {PLAYS_MAX} plays …")
        console.print(explain(failed.seed, plant, shrinks=shrinks), markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(", ".join(f"{what} {times}" for what, times in sorted(seen.items())))
    console.print(
        f"{count} histories from seed {first}: no violation; {took_s:.1f} s, {count / took_s:.1f} a second, "
        f"{cpu_s / count * 1000:.0f} ms of CPU each"
    )
    return 0


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=300, help="how many histories (%(default)s)")
    parser.add_argument("--first", type=int, default=None, help="the first seed (drawn anew)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--plant", choices=PLANTS, default="", metavar="BUG", help="play with this bug in the code")
    parser.add_argument("--no-shrink", action="store_true", help="show a failure as it came")
    commands = parser.add_subparsers(dest="command")
    planted = commands.add_parser("planted", help="measure how soon each planted bug is found; write the table")
    planted.add_argument("--limit", type=int, default=500, help="seeds a bug (%(default)s)")
    planted.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    planted.add_argument("--only", action="append", choices=PLANTS, metavar="BUG", help="these alone, writing nothing")
    options = parser.parse_args(arguments)
    console = Console()
    quiet()
    if options.command == "planted":
        return measure.run(console, options.limit, options.jobs, options.only)
    first = draw_first() if options.first is None else options.first
    return run(console, first, options.seeds, options.jobs, plant=options.plant, shrinks=not options.no_shrink)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
