"""``make bench``: our figures beside those of peers, measured in the same run.

The rounds go over all figures in turn, so that a slow minute of the machine touches all; medians are compared, as
ratios. Rows go to ``bench/latest.json`` and ``bench/latest.svg``; ``--check`` writes nothing, and ends with status 1
where a ratio got worse.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from rich.console import Console

from tests.bench import report
from tests.bench.rows import chosen
from tests.bench.session import PEERS_PYTHON, ROOT, Session

LATEST = ROOT / "bench/latest.json"


def main() -> int:
    """Measures, shows, and writes or compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="more or less load than usual")
    parser.add_argument("--only", default="", help="ids of figures, joined by commas; their peers come with them")
    parser.add_argument("--check", action="store_true", help="compare with the last written figures by ratio")
    options = parser.parse_args()
    console = Console()
    try:
        groups = chosen(options.only)
    except ValueError as error:
        console.print(f"error: {error}")
        return 2
    if not PEERS_PYTHON.exists():
        console.print(f"error: the peers are not installed ({PEERS_PYTHON.relative_to(ROOT)}): run `make bench`")
        return 2
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, Session(Path(folder), options.scale) as session:
        for number in range(1, options.rounds + 1):
            for group, rows in groups:
                measured = import_module(f"tests.bench.{group.module}").measure(session, rows)
                for name, figure in measured.items():
                    figures.setdefault(name, []).append(figure)
                    console.print(f"round {number} of {options.rounds}: {name} {figure:,.4g}")
    rows = report.rows_of(figures)
    console.print(report.table_of(rows))
    before = report.read(LATEST)
    if options.check:
        found = report.worse(before, rows)
        for sentence in found:
            console.print(f"worse: {sentence}")
        return 1 if found else 0
    report.write(LATEST, report.merged(before, rows))
    picture = LATEST.with_suffix(".svg")
    subprocess.run([PEERS_PYTHON, "-m", "tests.bench.peers.draw", LATEST, picture], cwd=ROOT, check=True)
    console.print(f"written to {LATEST.relative_to(ROOT)} and {picture.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
