"""Spend limits under stress, hard and soft: ``python -m tests.faults.spending``.

A broker, a worker and four gateways of its own on this machine. Each scenario is played for an organization whose
credits are held hard, and for one of the same credits held soft. Prints, in micro-credits, what was spent beyond the
total and what was admitted and is missing from the ledger; ends with status 1 where a hard limit was overspent, or
anything admitted is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sluicegate_schemas.limits import LimitMode
from stack.kafka import Kafka
from stack.report import environment
from tests.faults.findings import Report, Say
from tests.faults.spending_scene import MICRO, NODES, STATED_S, Booked, Scene, commands_for

MODES: Final[tuple[LimitMode, ...]] = ("hard", "soft")
CALL: Final = 100 * MICRO
"""The worst case of a call of a language model: what 10,000 tokens cost."""
TOTALS: Final = {
    "burst": 4 * CALL,
    "oversized": CALL // 2,
    "streaming": 6 * CALL,
    "worker": 12 * CALL,
    "broker": 12 * CALL,
    "paused": 12 * CALL,
    "killed": CALL,
}
"""What the organization of each scenario has."""
AWAY_S: Final = 8.0
"""How long the broker, or a gateway, is stopped: longer than a lease lasts."""
KILL_SLACK_S: Final = 15.0
"""How much later than stated a dead gateway's part may be back on a busy machine."""


async def spend(kafka: Kafka, name: str, folder: Path, say: Say, *, is_short: bool = False) -> Report:
    """Plays all scenarios; the short form leaves out soft limits and disturbances but the death of a gateway."""
    scene, report = Scene(kafka, name, folder), Report()
    try:
        commands = [
            one
            for mode in MODES
            for scenario, total in TOTALS.items()
            for one in commands_for(f"org_{mode}-{scenario}", total, mode)
        ]
        say("starting a worker and four gateways")
        await scene.start(commands)
        for mode in MODES[:1] if is_short else MODES:
            for play in (burst, oversized, streaming):
                say(f"{mode}: {play.__name__}")
                await play(scene, mode, report)
            for name, disturb in (
                ()
                if is_short
                else (
                    ("worker", scene.kill_the_worker),
                    ("paused", lambda: scene.pause_a_gateway(AWAY_S)),
                    ("broker", lambda: scene.pause_the_broker(AWAY_S)),
                )
            ):
                say(f"{mode}: calls, and in the middle: {name}")
                await disturbed(scene, mode, report, name, disturb)
        say("hard: a gateway dies")
        await killed(scene, report)
    finally:
        scene.close()
    return report


async def burst(scene: Scene, mode: LimitMode, report: Report) -> None:
    """20 calls at once where the rest pays for 4."""
    organization = f"org_{mode}-burst"
    answers = await scene.calls(20, organization, 10_000)
    booked = await scene.booked(organization)
    _judge(report, "burst", mode, answers[200] * CALL, booked, dict(answers))
    if mode == "hard":
        report.judge(
            answers[200] == 4, f"burst, hard: {answers[200]} of 20 parallel calls were admitted, 4 are paid for."
        )


async def oversized(scene: Scene, mode: LimitMode, report: Report) -> None:
    """One call whose worst case is more than all there is, and a small one that is paid for."""
    organization = f"org_{mode}-oversized"
    large = await scene.call(0, organization, "/v1/inference/llm", {"input_tokens": 10_000, "output_tokens": 0})
    small = await scene.call(1, organization, "/v1/search/web", {})
    booked = await scene.booked(organization)
    admitted = CALL * (large == 200) + 10 * MICRO * (small == 200)
    _judge(report, "oversized", mode, admitted, booked, {"large": large, "small": small})
    if mode == "hard":
        report.judge((large, small) == (403, 200), f"oversized, hard: answered {large}, and {small} to a small call.")


async def streaming(scene: Scene, mode: LimitMode, report: Report) -> None:
    """Calls that end at a tenth of their worst case: 8 at once, until they are refused."""
    organization = f"org_{mode}-streaming"
    admitted, began, statuses = 0, time.monotonic(), set[int]()
    while time.monotonic() - began < 60 and admitted < 70:
        answers = await scene.calls(8, organization, 1_000)
        admitted += answers[200]
        statuses |= set(answers)
        if not answers[200] and (await scene.booked(organization)).used_micro > 5 * CALL:
            break
    booked = await scene.booked(organization)
    _judge(
        report, "streaming", mode, admitted * CALL // 10, booked, {"admitted": admitted, "statuses": sorted(statuses)}
    )
    report.judge(
        booked.used_micro >= 3 * CALL,
        f"streaming, {mode}: {admitted} calls of a tenth of their worst case used {booked.used_micro // MICRO} of "
        f"{booked.total_micro // MICRO} credits.",
    )


async def disturbed(
    scene: Scene, mode: LimitMode, report: Report, name: str, disturb: Callable[[], Awaitable[None]]
) -> None:
    """Calls that use all there is, while a part is killed or stopped."""
    organization = f"org_{mode}-{name}"
    answers = await scene.calls(8, organization, 1_000)
    disturbing, refused_at = asyncio.ensure_future(disturb()), None
    began = time.monotonic()
    while time.monotonic() - began < 75 and (refused_at is None or not disturbing.done()):
        more = await scene.calls(8, organization, 1_000)
        answers += more
        scene.restart_ended()
        refused_at = time.monotonic() if set(more) == {403} else None
    await disturbing
    booked = await scene.booked(organization)
    _judge(report, name, mode, answers[200] * CALL // 10, booked, answers)


async def killed(scene: Scene, report: Report) -> None:
    """A gateway dies with all that there is lent to it: another one gets it back after the stated time."""
    organization = "org_hard-killed"
    body = {"input_tokens": 1_000, "output_tokens": 0}
    first = await scene.call(0, organization, "/v1/inference/llm", body)
    held = await scene.booked(organization)
    await asyncio.to_thread(scene.nodes[0].kill)
    died_at, answers = time.monotonic(), Counter[int]()
    while not answers[200] and time.monotonic() - died_at < STATED_S + KILL_SLACK_S:
        answers[await scene.call(1, organization, "/v1/search/hybrid", {})] += 1
        await asyncio.sleep(0.25)
    took_s = time.monotonic() - died_at
    booked = await scene.booked(organization)
    admitted_micro = CALL // 10 * (first == 200) + answers[200] * MICRO // 5
    _judge(report, "killed", "hard", admitted_micro, booked, {"back_after_s": took_s, **answers})
    report.judge(
        held.lent_micro > 0 and answers[200] == 1,
        f"killed: {held.lent_micro // MICRO} credits that a killed gateway held were back after {took_s:.1f} s; stated "
        f"are {STATED_S:g} s from when they were lent.",
    )


def _judge(
    report: Report, scenario: str, mode: LimitMode, admitted_micro: int, booked: Booked, more: Mapping[Any, object]
) -> None:
    over_micro = max(0, booked.used_micro - booked.total_micro)
    missing_micro = admitted_micro - booked.used_micro
    figures = {"overspend_micro": over_micro, "missing_micro": missing_micro, **booked._asdict(), **more}
    report.figures[f"{scenario}, {mode}"] = {str(name): value for name, value in figures.items()}
    report.judge(
        missing_micro <= 0 and (mode == "soft" or over_micro == 0),
        f"{scenario}, {mode}: overspent by {over_micro} micro-credits of {booked.total_micro}, {max(0, missing_micro)} "
        f"of what was answered are missing from the ledger, which has {booked.used_micro}.",
    )


async def _everything_of_its_own(say: Say) -> Report:
    with tempfile.TemporaryDirectory(prefix="sluicegate-spending-") as name:
        kafka = Kafka(Path(name) / "kafka")
        try:
            kafka.start()
            return await spend(kafka, "spending", Path(name), say)
        finally:
            kafka.kill()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.spending", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--report", type=Path, default=Path("bench/work/spending.json"), help="where the figures go")
    options = parser.parse_args()
    report = asyncio.run(_everything_of_its_own(lambda line: print(line, flush=True)))
    findings = {"ok": not report.failures, "sentences": report.sentences, "failures": report.failures}
    options.report.parent.mkdir(parents=True, exist_ok=True)
    content = {**findings, "gateways": NODES, "figures": report.figures, "environment": environment()}
    options.report.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    print("\n".join(report.sentences))
    for failure in report.failures:
        print(f"NOT AS IT SHOULD BE: {failure}", file=sys.stderr)
    print(f"The figures are in {options.report}.")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
