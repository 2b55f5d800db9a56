"""The figures of four gateways that share limits as a page: ``docs/spending.md``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.faults.spending_books import KINDS
from tests.pipeline import ROOT

PAGE: Final = ROOT / "docs" / "spending.md"
SAYS: Final = {
    "burst": "20 calls at once where the rest pays for 4",
    "oversized": "one call whose worst case is more than all there is",
    "below": "calls that end at a tenth of their worst case, until they are refused",
    "exact": "calls that end at their worst case exactly, until they are refused",
    "crowd": "250 organizations run into their limits at once (the worst of them)",
    "worker-killed": "the worker is killed (-9) in the middle",
    "gateway-killed": "a gateway is killed (-9) in the middle, and started again",
    "gateway-paused": "a gateway is stopped for 8 s in the middle",
    "gateway-cut-off": "a gateway is cut off from Kafka for 12 s in the middle, then back",
    "broker-paused": "the broker is stopped for 8 s in the middle",
    "broker-killed": "the broker is killed (-9), and away for 30 s",
    "death": "a gateway dies with all that there is lent to it",
}
_HEAD: Final = """# Limits that several gateways share, under stress

Made by `python -m tests.faults.spending` (`make spending`): a broker, a worker and four gateways as processes on one
machine. The short form is `tests/faults/test_spending.py`.

## Spending

Beyond the limit, in micro-credits, and the most that is stated; hard limits are stated at 0. A soft limit may be passed
by what was left for the other gateways at the workers' last word, which is taken as all of it here, and by two worst
cases of each gateway ([ADR 19](adr/0019-what-a-gate-does-when-it-does-not-know.md)). What was admitted and is missing
from the ledger afterwards, in micro-credits, is in the last column. A budget is one of a month; the account of its
organization has no limit. The organizations have 50 to 1,200 credits, and a call costs at most 100.
"""


def page(figures: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """The page, of the figures that are there."""
    lines = [_HEAD]
    lines.append(f"| | {' | '.join(str(kind) for kind in KINDS)} | missing |")
    lines.append("|---" * (len(KINDS) + 2) + "|")
    for scenario, says in SAYS.items():
        found = [figures.get(f"{scenario}, {kind}") for kind in KINDS]
        if any(found):
            missing = sum(one["missing_micro"] for one in found if one)
            lines.append(f"| {says} | {' | '.join(_cell(one) for one in found)} | {missing:,} |")
    crowds = [one for kind in KINDS if (one := figures.get(f"crowd, {kind}"))]
    if crowds:
        used_up = ", ".join(str(one["used_up"]) for one in crowds)
        lines += ["", f"Of the {crowds[0]['organizations']} organizations {used_up} used up their limit in their time."]
    if (back := figures.get("cut off")) is not None:
        lines += [
            "",
            f"{back['serves_again_after_s']:.1f} s after its end the gateway that was cut off admitted again.",
        ]
    if (rate := figures.get("shared rate")) is not None:
        lines += ["", "## A key's rate", "", _rate(rate)]
    if (death := figures.get("death")) is not None:
        lines += ["", "## What a dead gateway held", "", _death(death)]
    lines += ["", f"Measured on {machine['processors']} shared cores, Python {machine['python']}.", ""]
    return "\n".join(lines)


def _cell(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "–"
    over = figures.get("overspend_micro_worst", figures.get("overspend_micro"))
    stated = figures.get("stated_micro_each", figures.get("stated_micro"))
    return f"{over:,}" if not stated else f"{over:,} of {stated:,}"


def _rate(figures: Mapping[str, Any]) -> str:
    lag = figures["lag_from_end_ms"]
    return " ".join(
        [
            f"{figures['gateways']} gateways were offered {figures['offered']:,} requests of one key in",
            f"{figures['seconds']:.1f} s, ten times its {figures['limit_per_minute']} a minute.",
            f"{figures['admitted']:,} were admitted; over any time at most {max(0.0, figures['beyond']):.1f} more than",
            f"capacity + rate × t, which is {figures['overshoot_percent']:.2f} % of the {figures['promised']:,.0f}",
            f"that are promised over the whole (goal: {figures['goal_percent']:g} %). The gates state at most",
            f"{figures['stated_bound']:,}, by a lag of {figures['stated_lag_ms']:,} ms, the worst of ten minutes.",
            f"From a request's end to its decision in force: p50 {lag['p50']} ms, p99 {lag['p99']} ms.",
        ]
    )


def _death(figures: Mapping[str, Any]) -> str:
    held, lent = figures["held"], figures["lent_micro"] // 1_000_000
    return " ".join(
        [
            f"{len(held)} gateways held {sum(held)} requests of one organization, which may have no more at a time.",
            f"One was killed (-9): its {held[-1]} places were free after {figures['free_after_s']:.1f} s (stated:",
            f"{figures['stated_free_s']:g} s from its last gauge, and the worker's next look), and as many more were",
            f"admitted: {figures['free_again']}. The {lent} credits that it held were lent again after",
            f"{figures['lent_again_after_s']:.1f} s (stated: {figures['stated_lent_again_s']:g} s from when they were",
            "lent).",
        ]
    )


def write(figures: Mapping[str, Any], machine: Mapping[str, Any], path: Path = PAGE) -> None:
    """Writes the page."""
    path.write_text(page(figures, machine), "utf-8")
