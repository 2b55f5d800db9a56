"""Draws the ratios of the figures to their peers: ``python -m tests.bench.peers.draw ROWS.json PICTURE.svg``."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "sluicegate"
from matplotlib import pyplot  # noqa: E402 - the backend is chosen first


def main(source: str, target: str) -> None:
    """One bar for each figure and peer: how many times better."""
    bars = [
        (f"{row['id']}  ({row['value']:,} {row['unit']})\nbeside {peer}", ratio)
        for row in json.loads(Path(source).read_text("utf-8"))
        for peer, ratio in row["ratios"].items()
    ]
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(bars) + 1.2))
    places = range(len(bars), 0, -1)
    axes.barh(places, [ratio for _, ratio in bars], color=["#2b6cb0" if r >= 1 else "#a0aec0" for _, r in bars])
    axes.set_yticks(places, [name for name, _ in bars], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    for place, (_, ratio) in zip(places, bars, strict=True):
        axes.annotate(f" {ratio:g}×", (max(ratio, 1), place), va="center", fontsize=7)
    axes.set_xlabel("times better than the peer in the same run (logarithmic; below 1: the peer does less work)")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
