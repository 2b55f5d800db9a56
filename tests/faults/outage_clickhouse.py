"""ClickHouse away: what it does to decisions (nothing), to the sink's memory (bounded) and to the totals (nothing)."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from clickhouse.intake import BYTES_WAITING_MAX, ROWS_WAITING_MAX
from clickhouse.patience import PAUSE_S_MAX
from sluicegate.clock import epoch_ms
from sluicegate_schemas import topics
from stack.topic_log import end_offsets
from tests.faults.findings import Report, Say
from tests.faults.memory import MEGABYTE, Memory
from tests.faults.probe import Latency, Probe, publish_probes
from tests.faults.scene import Traffic
from tests.pipeline import Pipeline

PER_SECOND: Final = 100.0
WARM_UP_S: Final = 5.0
CATCH_UP_LIMIT_S: Final = 300.0
SAMPLES_FOR_P99: Final = 500
"""With fewer the 99th percentile is about the worst one, which a busy machine makes."""
ROW_BYTES: Final = 600
FAUST_BUFFERS_BYTES: Final = 2 * 16 * 1024 * 1024
SINK_GROWTH_BYTES_MAX: Final = 2 * (BYTES_WAITING_MAX + ROWS_WAITING_MAX * ROW_BYTES) + FAUST_BUFFERS_BYTES
"""Twice what may wait (once read, once on its way), and what Faust holds before it."""


async def clickhouse_away(pipeline: Pipeline, for_s: float, say: Say) -> Report:
    """Runs ``for_s`` seconds with ClickHouse and as long without it, under the same usage, and compares.

    ``pipeline`` is not started yet, and its ClickHouse belongs to it alone.
    """
    report = Report()
    await pipeline.start(workers=("a",))
    await publish_probes(pipeline)
    processes = {"worker": pipeline.workers["a"], "sink": pipeline.sink}
    pids = {name: process.pid for name, process in processes.items()}
    calls = pipeline.publisher()
    async with (
        Traffic(pipeline, per_second=PER_SECOND) as traffic,
        calls,
        Probe(pipeline, calls) as probe,
        Memory(processes) as memory,
    ):
        await asyncio.sleep(WARM_UP_S)
        say(f"ClickHouse is there; measuring for {for_s:g} s")
        before = await _stretch(probe, for_s, say)
        before_bytes = dict(memory.highest_bytes)
        say(f"killing ClickHouse for {for_s:g} s")
        pipeline.clickhouse.kill()
        memory.restart()
        away = await _stretch(probe, for_s, say)
        away_bytes = dict(memory.highest_bytes)
        behind = await end_offsets(pipeline.kafka.bootstrap, pipeline.prefix + topics.STATE.name)
        await asyncio.to_thread(pipeline.clickhouse.start)
        say("ClickHouse is back")
        back_at = time.monotonic()
        while not await pipeline.shown(behind):
            assert time.monotonic() < back_at + CATCH_UP_LIMIT_S, "the sink does not catch up"
            await asyncio.sleep(0.2)
        catch_up_s = time.monotonic() - back_at
        say(f"caught up after {catch_up_s:.1f} s")
        await asyncio.sleep(1)
    unharmed = {name: process.pid for name, process in processes.items()} == pids
    say("comparing all totals")
    evidence = await pipeline.check()
    sent = traffic.sent + probe.sent
    counted = evidence.log.totals.events_counted
    _judge_latency(report, before, away)
    grown = {name: away_bytes[name] - before_bytes[name] for name in away_bytes}
    report.judge(
        grown["sink"] <= SINK_GROWTH_BYTES_MAX,
        f"The sink took at most {away_bytes['sink'] / MEGABYTE:.0f} MB while ClickHouse was away, "
        f"{grown['sink'] / MEGABYTE:+.0f} MB beside before; its bound is {SINK_GROWTH_BYTES_MAX / MEGABYTE:+.0f} MB.",
    )
    report.judge(unharmed, "Worker and sink ran on through the outage.")
    report.judge(
        catch_up_s <= max(2 * PAUSE_S_MAX, for_s / 2), f"The sink had caught up {catch_up_s:.1f} s after the return."
    )
    report.judge(counted == sent, f"Ledger, rollups and events agree: {counted} of {sent} events counted once.")
    report.figures = {
        "away_s": for_s,
        "latency_before": before._asdict(),
        "latency_away": away._asdict(),
        "memory_highest_before_bytes": before_bytes,
        "memory_highest_away_bytes": away_bytes,
        "sink_growth_bytes_max": SINK_GROWTH_BYTES_MAX,
        "catch_up_s": round(catch_up_s, 2),
        "events_sent": sent,
        "events_counted": counted,
        "events_in_clickhouse": evidence.clickhouse.total("events"),
    }
    return report


async def _stretch(probe: Probe, for_s: float, say: Say) -> Latency:
    """The latency of the decisions of the next ``for_s`` seconds."""
    began, from_ms = time.monotonic(), epoch_ms()
    while (left_s := began + for_s - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, 60.0))
        so_far = probe.latency(from_ms, epoch_ms() - 2_000)
        say(f"  {time.monotonic() - began:.0f} s: {so_far.samples} decisions, p50 {so_far.p50_ms} ms")
    until_ms = epoch_ms()
    await asyncio.sleep(2)
    return probe.latency(from_ms, until_ms)


def _judge_latency(report: Report, before: Latency, away: Latency) -> None:
    sentence = (
        f"From event to gate: p50 {before.p50_ms} ms and p99 {before.p99_ms} ms with ClickHouse ({before.samples} "
        f"decisions), p50 {away.p50_ms} ms and p99 {away.p99_ms} ms without it ({away.samples})"
    )
    same = (
        before.p50_ms is not None
        and before.p99_ms is not None
        and away.p50_ms is not None
        and away.p99_ms is not None
        and away.p50_ms <= 1.5 * before.p50_ms + 30
        and away.p99_ms <= 2 * before.p99_ms + (250 if before.samples >= SAMPLES_FOR_P99 else 1_500)
    )
    report.judge(same, sentence + ".")
    missing = before.missing + away.missing
    report.judge(missing == 0, f"Every burst brought its decision ({missing} did not).")
