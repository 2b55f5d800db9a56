"""Figures as rows, as a table, and against the last committed ones."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from tests.bench.rows import ROWS

SLOWER_BY: Final = 1.25
"""A ratio that got worse by more than this is said; less is within the spread of a shared machine."""


def rows_of(rounds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The rows of ``bench/latest.json``: medians, the first peer's ratio, all peers' ratios, minimum and maximum.

    A ratio is how many times better than the peer: above 1 is better, whichever way the figure counts.
    """
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    rows = []
    for name, values in rounds.items():
        row = ROWS[name]
        ratios = {peer: _ratio(name, medians[name], medians[peer]) for peer in row.peers if peer in medians}
        first = next(iter(ratios), None)
        rows.append(
            {
                "id": name,
                "value": _rounded(medians[name]),
                "unit": row.unit,
                "peer": first,
                "ratio": None if first is None else ratios[first],
                "spread": [_rounded(min(values)), _rounded(max(values))],
                "ratios": ratios,
                "rounds": len(values),
            }
        )
    return rows


def _ratio(name: str, ours: float, theirs: float) -> float:
    better = ours / theirs if ROWS[name].better == "more" else theirs / ours
    return float(f"{better:.3g}")


def _rounded(value: float) -> float:
    return round(value) if value >= 1_000 else float(f"{value:.3g}")


def merged(before: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``before`` with what was measured now in its place, in the order of the table of rows."""
    by_id = {row["id"]: row for row in (*before, *rows) if "ratios" in row}
    return [by_id[name] for name in ROWS if name in by_id]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a row, so that a change of one shows as one."""
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join(f" {json.dumps(row)}" for row in rows)
    path.write_text(f"[\n{lines}\n]\n", "utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that ``path`` holds; none if there is no such file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return rows


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """For a terminal."""
    table = Table("figure", "median", "min to max", "times better than", title="figures, medians over the rounds")
    for row in rows:
        low, high = row["spread"]
        ratios = "\n".join(f"{ratio:g} × {peer}" for peer, ratio in row["ratios"].items())
        table.add_row(row["id"], f"{row['value']:,} {row['unit']}", f"{low:,} to {high:,}", ratios)
    return table


def worse(before: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each ratio that got worse than ``before`` by more than ``SLOWER_BY``."""
    last = {row["id"]: row["ratios"] for row in before if "ratios" in row}
    return [
        f"{row['id']} is {ratio:g} × {peer}, it was {was:g}"
        for row in rows
        for peer, ratio in row["ratios"].items()
        if (was := last.get(row["id"], {}).get(peer)) is not None and ratio * SLOWER_BY < was
    ]
