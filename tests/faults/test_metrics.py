"""Scraped while usage flows: what worker and sink say of themselves against what was sent."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from clickhouse.metrics import FAMILIES as SINK
from sluicegate import Publisher
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from stack.ports import free_port
from streams.metrics import Family
from streams.worker_metrics import FAMILIES as WORKER
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]
EVENTS = 1_200
REFUSED = 9
LIMIT_S = 60

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
async def pipeline(kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    whole = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        yield whole
    finally:
        whole.close()


async def scrape(address: str, declared: tuple[Family, ...]) -> Series:
    """All series, of which each must have been declared, with just its labels; {} while nothing answers."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.get(f"{address}/metrics", headers={"Accept": "application/openmetrics-text"})
    except httpx.HTTPError:
        return {}
    assert answer.status_code == 200
    labels = {family.name.removesuffix("_total"): set(family.labels) for family in declared}
    series: Series = {}
    for family in text_string_to_metric_families(answer.text):
        if family.name.startswith("process_"):
            continue
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels[family.name], family.name
            series[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return series


def total(series: Series, name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    return sum(value for (one, its), value in series.items() if one == name and labels.items() <= dict(its).items())


async def test_counters_say_what_was_sent_and_never_fall(pipeline: Pipeline) -> None:
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("worker-a", "sink")}
    for name, listen in addresses.items():
        pipeline.environment_of[name] = {"SLUICEGATE_HEALTH_LISTEN": listen}
    worker_at, sink_at = (f"http://{listen}" for listen in addresses.values())
    await pipeline.start()
    async with pipeline.publisher() as publisher:
        await send_and_compare(pipeline, publisher, worker_at, sink_at)


async def send_and_compare(pipeline: Pipeline, publisher: Publisher, worker_at: str, sink_at: str) -> None:
    sending = asyncio.create_task(pipeline.send(publisher, EVENTS, seed=5, per_second=300))
    now_ms = time.time_ns() // 1_000_000
    for _ in range(REFUSED):
        publisher.publish(
            org_id="org_nobody",
            api_key_id="key_nobody",
            operation="search.knn",
            started_at_ms=now_ms - 30,
            ts_ms=now_ms,
            duration_ms=30,
            status=200,
            quantities={},
        )
    before: Series = {}
    worker: Series = {}
    sink: Series = {}
    async with asyncio.timeout(LIMIT_S):
        while not (
            sending.done()
            and total(worker, "sluicegate_events_total", outcome="counted") >= EVENTS
            and total(worker, "sluicegate_events_total", outcome="rejected") >= REFUSED
            and total(worker, "sluicegate_published_total", topic="rejects") >= REFUSED
            and total(worker, "sluicegate_lag_records") == 0
            and total(sink, "sluicegate_sink_delay_records") == 0
        ):
            await asyncio.sleep(0.2)
            worker, sink = await scrape(worker_at, WORKER), await scrape(sink_at, SINK)
            now = {**worker, **sink}
            falls = [
                name
                for name in before
                if name[0].endswith(("_total", "_bucket", "_count")) and now[name] < before[name]
            ]
            assert falls == []
            before = now
    await sending
    assert total(worker, "sluicegate_events_total", outcome="counted") == EVENTS
    assert total(worker, "sluicegate_events_total", outcome="duplicate") == 0
    assert total(worker, "sluicegate_rejects_total") == REFUSED
    assert total(worker, "sluicegate_published_total", topic="rejects") == REFUSED
    assert total(worker, "sluicegate_partitions_ready") == total(worker, "sluicegate_partitions_assigned") == 8
    assert total(worker, "sluicegate_recoveries_total") == 8
    assert total(worker, "sluicegate_flush_seconds_count") >= total(worker, "sluicegate_flushes_total") > 0
    assert total(worker, "sluicegate_state_rows", table="organizations") > 0
    assert total(worker, "sluicegate_partitions_given_up_total") == 0
    assert total(sink, "sluicegate_sink_rows_total", table="usage_minute") > 0
    assert total(sink, "sluicegate_sink_clickhouse_away_seconds") == 0
    async with httpx.AsyncClient(trust_env=False) as client:
        for address in (worker_at, sink_at):
            assert (await client.get(f"{address}/livez")).status_code == 200
            ready = await client.get(f"{address}/readyz")
            assert (ready.status_code, ready.json()["waits_for"]) == (200, "")
