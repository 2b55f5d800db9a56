"""How many seeds it takes to find each planted bug; writes docs/planted-bugs.md."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.sim.seeds import outcome, processes

from . import NOT_YET, PLANTS

FIRST: Final = 1
"""The first seed of the table, for all bugs."""
COMMAND: Final = "make planted"
DOCUMENT: Final = Path(__file__).parents[3] / "docs/planted-bugs.md"
_WORDS_MAX: Final = 220


@dataclass(frozen=True, slots=True)
class Search:
    """What the search for one bug came to: after how many seeds it was found (None: not at all), and by which words."""

    plant: str
    seeds: int | None
    violation: str


def search(plant: str, limit: int) -> Search:
    """Plays with ``plant`` in the code from ``FIRST`` on until a seed fails that does not fail without it."""
    for count in range(1, limit + 1):
        seed = FIRST + count - 1
        if (faults := outcome(seed, plant, stops=True).faults) and not outcome(seed).faults:
            return Search(plant, count, faults[0])
    return Search(plant, None, "")


def recorded() -> dict[str, int]:
    """The seed that found each bug, by the document."""
    return {name: FIRST + int(seeds) - 1 for name, seeds in _rows() if seeds.isdecimal()}


def listed() -> set[str]:
    """The bugs that the document lists."""
    return {name for name, _ in _rows()}


def _rows() -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| (\d+|not found in \d+) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE
    )
    return rows


def is_found(plant: str, seed: int, seeds_max: int) -> bool:
    """Whether a history with ``plant`` in the code fails: that of ``seed``, else one of the first ``seeds_max``."""
    return any(outcome(one, plant, stops=True).faults for one in (seed, *range(FIRST, FIRST + seeds_max)))


def searches(names: Iterable[str], limit: int, jobs: int) -> Iterable[Search]:
    """The searches for all of ``names``, as they end."""
    with processes(jobs) as executor:
        for done in as_completed([executor.submit(search, name, limit) for name in names]):
            yield done.result()


def run(console: Console, limit: int, jobs: int, only: Sequence[str] | None) -> int:
    """Measures and, unless it is for a few bugs ``only``, writes the document. The exit code is 1 where a bug was not
    found."""
    found: dict[str, Search] = {}
    for one in searches(only or PLANTS, limit, jobs):
        found[one.plant] = one
        result = "NOT FOUND" if one.seeds is None else f"after {one.seeds} seeds: {_words(one.violation)}"
        console.print(f"{len(found)}/{len(only or PLANTS)} {one.plant}: {result}", markup=False, highlight=False)
    missed = [name for name, one in found.items() if one.seeds is None]
    if only:
        return 1 if missed else 0
    DOCUMENT.write_text(document(found, limit), "utf-8")
    console.print(f"written: {DOCUMENT.name}; not found: {missed or 'none'}")
    return 1 if missed else 0


def _words(violation: str) -> str:
    line = " ".join(violation.split("\n")[0].split())
    return line if len(line) <= _WORDS_MAX else line[: _WORDS_MAX - 1] + "…"


def document(found: dict[str, Search], limit: int) -> str:
    """The document, as Markdown."""
    lines = [
        "# Bugs planted on purpose",
        "",
        "A simulator that finds nothing may be blind. So bugs are planted in the real code, one at a time, and it is",
        f"measured after how many seeds the simulator finds each. This page is written by `{COMMAND}`",
        f"(limit {limit} seeds a bug, first seed {FIRST}, no shrinking). The bugs are in `tests/sim/planted/`, each as",
        "the words that it replaces. To see one at work, shrunk and as a table of steps:",
        "",
        f'    python -m tests.sim --first {FIRST} --seeds {limit} --plant "output before flush"',
        "",
        "A seed counts only if it does not fail without the bug: each was played again without it.",
        "",
        "| bug | what it breaks | seeds needed | the violation |",
        "|---|---|---|---|",
    ]
    for name in PLANTS:
        one = found[name]
        seeds = f"not found in {limit}" if one.seeds is None else str(one.seeds)
        lines.append(f"| {name} | {PLANTS[name].breaks} | {seeds} | {_cell(_words(one.violation))} |")
    lines += [f"| {name} | | not yet plantable | {why} |" for name, why in NOT_YET.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return "" if not text else "`" + text.replace("|", "¦").replace("`", "'") + "`"
