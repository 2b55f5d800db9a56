"""How long a worker's death keeps decisions waiting: ``python -m tests.faults.takeover --times 20``.

Two workers share the partitions. Keys whose account lives with the one that dies are called beyond their burst a few
times a second. It is killed with ``kill -9`` (or asked to stop, for comparison), and the clock runs until a follower,
as each gate has one, holds the first decision about an event that came after the death. Then the dead worker starts
again, the partitions are shared anew, and the next turn follows. Writes docs/takeover.md.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from sluicegate_schemas.partitioning import partition_of
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from stack.report import environment
from tests.faults.findings import Say
from tests.faults.probe import KEYS, Probe, probe_key, publish_probes
from tests.faults.scene import PARTITIONS, Traffic, WorkerLog, start_two, until
from tests.pipeline import ROOT, Pipeline

DOCUMENT: Final = ROOT / "docs/takeover.md"
BAR_CELLS: Final = 40
DECISION_LIMIT_S: Final = 90.0
_READY: Final = re.compile(r"READY .* after ([0-9.]+) s")


@dataclass(frozen=True, slots=True)
class Turn:
    """One death, in seconds from it: when the other worker was ready, and when its first decision was obeyed.

    ``recovery_s`` is the part of it in which that worker read and claimed the state.
    """

    ready_s: float
    decision_s: float
    recovery_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """Turns under one setting."""

    name: str
    session_s: float
    turns: list[Turn]

    def row(self) -> str:
        """A row of the table."""
        decisions = [turn.decision_s for turn in self.turns]
        ready, recovery = (median(getattr(turn, name) for turn in self.turns) for name in ("ready_s", "recovery_s"))
        return (
            f"| {self.name} | {self.session_s:g} s | {len(decisions)} | {median(decisions):.1f} s | "
            f"{max(decisions):.1f} s | {min(decisions):.1f} s | {ready:.1f} s | {recovery:.2f} s |"
        )


async def take_over(pipeline: Pipeline, times: int, ending: signal.Signals, say: Say) -> list[Turn]:
    """``times`` deaths in turn of the two workers of ``pipeline``, which is not started yet; all totals agree after."""
    await start_two(pipeline)
    await publish_probes(pipeline)
    calls = pipeline.publisher()
    turns: list[Turn] = []
    async with Traffic(pipeline, per_second=100.0) as traffic, calls, Probe(pipeline, calls) as probe:
        for number in range(times):
            dying, other = ("a", "b") if number % 2 == 0 else ("b", "a")
            turn = await _turn(pipeline, probe, dying, other, ending)
            turns.append(turn)
            say(f"  {number + 1} of {times}: decision after {turn.decision_s:.1f} s, ready after {turn.ready_s:.1f} s")
    evidence = await pipeline.check()
    assert evidence.log.totals.events_counted == traffic.sent + probe.sent
    return turns


async def _turn(pipeline: Pipeline, probe: Probe, dying: str, other: str, ending: signal.Signals) -> Turn:
    mine = _partitions(WorkerLog(pipeline, dying, whole=True))
    keys = {f"key_{name}" for name in map(probe_key, range(KEYS)) if partition_of(f"org_{name}", PARTITIONS) in mine}
    assert keys, "no probe lives with the worker that dies"
    epochs = probe.epochs(keys)
    log = WorkerLog(pipeline, other)
    died_at, died_ms = time.monotonic(), time.time_ns() // 1_000_000
    child = pipeline.workers[dying]
    if ending is signal.SIGKILL:
        child.kill()
    else:
        await asyncio.to_thread(child.stop)
    ready_at: float | None = None
    while (seen_at_ms := probe.first_obeyed_ms(epochs, died_ms)) is None:
        assert time.monotonic() - died_at < DECISION_LIMIT_S, "no decision after a worker's death"
        if ready_at is None and log.owned() == PARTITIONS:
            ready_at = time.monotonic()
        await asyncio.sleep(0.02)
    recovery = _READY.findall(log.text())
    turn = Turn(
        ready_s=(ready_at or time.monotonic()) - died_at,
        decision_s=(seen_at_ms - died_ms) / 1000,
        recovery_s=float(recovery[-1]) if recovery else 0.0,
    )
    back, log = WorkerLog(pipeline, dying), WorkerLog(pipeline, other)
    pipeline.start_worker(dying)
    await until("the partitions are shared anew", lambda: back.owned() == log.owned() == PARTITIONS // 2)
    return turn


def _partitions(log: WorkerLog) -> set[int]:
    """Those that the worker owns by its log."""
    lines = [line for line in log.text().splitlines() if " READY " in line]
    return {int(number) for number in lines[-1].split("partitions [")[1].split("]")[0].split(",")}


def document(series: Sequence[Series], command: str) -> str:
    """The page."""
    longest = max(turn.decision_s for one in series for turn in one.turns)
    lines = [
        "# How long a worker's death keeps decisions waiting",
        "",
        f"Written by `{command}`: two workers share 8 partitions under usage; one dies, and the",
        "clock runs until a gate obeys the first decision of the other about an event that came after the death. Usage",
        "waits in the log meanwhile, and gates answer from their own buckets and from the verdicts that stand.",
        "",
        "| ending | session | times | p50 | worst | best | other worker ready, p50 | of it recovery, p50 |",
        "|---|---|---|---|---|---|---|---|",
        *(one.row() for one in series),
        "",
        "Each death, to the first decision after it:",
        "",
        "```text",
    ]
    for one in series:
        lines.append(f"{one.name}, session {one.session_s:g} s")
        lines += [_bar(seconds, longest) for seconds in sorted(turn.decision_s for turn in one.turns)]
    lines += [
        "```",
        "",
        "After `kill -9` the session dominates: the group coordinator gives the partitions away once it has heard",
        "nothing for `SLUICEGATE_SESSION_S`, so the wait is the session less the age of the last heartbeat (at most",
        "1 s), then one rebalance and the recovery. A shorter session is bought with needless takeovers: a worker that",
        "cannot send a heartbeat for so long (a full processor, a slow network) loses its partitions. A worker that is",
        "asked to stop (SIGTERM: every rolling restart) flushes, leaves the group, and nobody waits for a session.",
        "",
        "Settings, as they are by default but for the session: heartbeat every min(1 s, session / 5), flush every",
        f"200 ms, fetch wait 50 ms, sticky assignment. Measured on {environment()['processors']} processors shared by",
        "broker, ClickHouse, workers and callers.",
        "",
    ]
    return "\n".join(lines)


def _bar(seconds: float, longest: float) -> str:
    return f"  {'█' * max(1, round(seconds / longest * BAR_CELLS)):<{BAR_CELLS}} {seconds:.1f} s"


async def measure(times: int, say: Say) -> list[Series]:
    """All series, one pipeline each, on one broker and one engine."""
    series = []
    with tempfile.TemporaryDirectory(prefix="sluicegate-takeover-") as name:
        folder = Path(name)
        kafka, engine = Kafka(folder / "kafka"), ClickHouse(folder / "clickhouse")
        try:
            kafka.start()
            engine.start()
            for title, session_s, ending, count in (
                ("kill -9", 10.0, signal.SIGKILL, times),
                ("kill -9", 6.0, signal.SIGKILL, times),
                ("SIGTERM", 10.0, signal.SIGTERM, max(1, times // 2)),
            ):
                say(f"{title}, session {session_s:g} s")
                label = f"takeover{len(series)}"
                (folder / label).mkdir()
                pipeline = Pipeline(kafka, engine, label, folder / label)
                for worker in ("worker-a", "worker-b"):
                    pipeline.environment_of[worker] = {"SLUICEGATE_SESSION_S": str(session_s)}
                try:
                    turns = await take_over(pipeline, count, ending, say)
                finally:
                    pipeline.close()
                series.append(Series(title, session_s, turns))
        finally:
            engine.kill()
            kafka.kill()
    return series


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.takeover", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="deaths for each setting; default %(default)s")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="the page to write; default docs/takeover.md")
    options = parser.parse_args()
    series = asyncio.run(measure(options.times, lambda line: print(line, flush=True)))
    page = document(series, f"python -m tests.faults.takeover --times {options.times}")
    options.document.write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
