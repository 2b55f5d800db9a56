"""The broker away: API nodes answer on; usage waits on disk or, up to a stated number, in memory; nothing differs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from tests.faults.api_nodes import ANSWER_LIMIT_S, CALLS_A_SECOND, Answered, Callers, Node, publish_caller
from tests.faults.findings import Report, Say
from tests.faults.scene import until
from tests.pipeline import Pipeline

BEFORE_S: Final = 5.0
BUFFERED_SHARE: Final = 0.4
"""How much of the outage's calls the small memory of one node holds."""
RECONNECT_LIMIT_S: Final = 120.0


async def broker_away(pipeline: Pipeline, folder: Path, for_s: float, say: Say) -> Report:
    """Kills the broker of ``pipeline`` (not started yet) for ``for_s`` seconds under calls to three nodes.

    "disk" spools; "memory" has the default buffer; "small" has one that the outage overflows. A fourth, "late", starts
    while the broker is away.
    """
    report = Report()
    await pipeline.start(workers=("a",))
    await publish_caller(pipeline)
    small_events = max(10, int(CALLS_A_SECOND * for_s * BUFFERED_SHARE))
    disk = Node(pipeline, "disk", folder, spool=folder / "spool")
    memory = Node(pipeline, "memory", folder)
    small = Node(pipeline, "small", folder, buffer_events=small_events)
    late = Node(pipeline, "late", folder, spool=folder / "spool-late")
    nodes = [disk, memory, small]
    callers = {node.name: Callers(node) for node in nodes}
    try:
        for node in nodes:
            node.process.spawn()
        for node in nodes:
            await until(f"{node.name} knows its callers", node.knows_the_callers)
        say(f"three nodes are ready; the broker goes away after {BEFORE_S:g} s, for {for_s:g} s")
        async with callers["disk"], callers["memory"], callers["small"]:
            await asyncio.sleep(BEFORE_S)
            before = {name: one.take() for name, one in callers.items()}
            calls_before = callers["small"].total.total()
            pipeline.kafka.kill()
            late.process.spawn()
            await _pass(for_s, say)
            late_status = await asyncio.to_thread(late.status)
            away = {name: one.take() for name, one in callers.items()}
            await asyncio.to_thread(pipeline.kafka.start)
            back_at = time.monotonic()
            say("the broker is back")
            await until("the late node lets the callers pass", late.knows_the_callers, RECONNECT_LIMIT_S)
            await until("all nodes publish again", lambda: all(map(_publishes, nodes)), RECONNECT_LIMIT_S)
            calls_away = callers["small"].total.total() - calls_before
            say(f"all nodes publish again after {time.monotonic() - back_at:.1f} s")
        for node in [*nodes, late]:
            await asyncio.to_thread(node.process.stop)
    finally:
        for node in [*nodes, late]:
            node.process.kill()
    metered = {node.name: node.first_calls + callers[node.name].total[200] for node in nodes} | {
        "late": late.first_calls
    }
    published = {node.name: node.note(pipeline) for node in [*nodes, late]}
    say("comparing all totals")
    evidence = await pipeline.check()
    counted = evidence.log.totals.events_counted
    _judge_answers(report, before, away, late_status)
    lost = {name: metered[name] - published[name] for name in metered}
    report.judge(lost["disk"] == 0, f"The node with a spool lost {lost['disk']} of {metered['disk']} events.")
    report.judge(
        lost["memory"] == 0,
        f"The node with 100000 events of memory lost {lost['memory']} of {metered['memory']}.",
    )
    may_lose = max(0, calls_away - small_events)
    report.judge(
        0 < lost["small"] <= may_lose,
        f"The node with {small_events} events of memory lost {lost['small']}; it may lose what was called until it "
        f"published again, less what its memory holds: {calls_away} - {small_events} = {may_lose}.",
    )
    total = sum(published.values())
    report.judge(counted == total, f"Ledger, rollups and events agree: {counted} of {total} events counted once.")
    report.figures = {
        "away_s": for_s,
        "calls_a_second": CALLS_A_SECOND,
        "answers_before": {name: one._asdict() for name, one in before.items()},
        "answers_away": {name: one._asdict() for name, one in away.items()},
        "late_node_status": late_status,
        "metered": metered,
        "published": published,
        "lost": lost,
        "small_buffer_events": small_events,
        "small_may_lose": may_lose,
        "events_counted": counted,
    }
    return report


async def _pass(for_s: float, say: Say) -> None:
    began = time.monotonic()
    while (left_s := began + for_s - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, 10.0))
        say(f"  away for {time.monotonic() - began:.0f} s")


def _publishes(node: Node) -> bool:
    """Whether what is published now is sent at once: its log, written at sealing, is of the last second."""
    lines = node.published()
    return bool(lines) and time.time() - lines[-1].event.ts_ms / 1000 < 1.0


def _judge_answers(report: Report, before: dict[str, Answered], away: dict[str, Answered], late_status: Any) -> None:
    for name, answered in away.items():
        report.judge(
            set(answered.by_status) == {200} and (answered.worst_ms or 0) < ANSWER_LIMIT_S * 1000,
            f"Node {name} answered {answered.by_status} while the broker was away: p50 {answered.p50_ms} ms, p99 "
            f"{answered.p99_ms} ms, worst {answered.worst_ms} ms; before p50 {before[name].p50_ms} ms, p99 "
            f"{before[name].p99_ms} ms.",
        )
    report.judge(
        late_status in (503, None),
        f"A node that started without the broker answered {late_status or 'not at all'} until it knew keys and limits.",
    )
