"""The continuous audit as a process beside a real pipeline: silent while usage flows, loud about one changed row."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from prometheus_client.parser import text_string_to_metric_families

from sluicegate import Publisher
from sluicegate_schemas import topics
from sluicegate_schemas.alerts import ALERT, AuditDrift
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from stack.ports import free_port
from stack.process import ChildProcess
from stack.topic_log import read_topic
from tests.pipeline import ROOT, Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]
LIMIT_S = 60.0
OPERATION = "documents.create"
_ROW = (
    "SELECT * EXCEPT ingested_at FROM usage_minute FINAL "
    "WHERE operation = 'documents.create' AND api_key_id = 'key_wren_1'"
)

DELETE_ROW = """
DELETE FROM usage_minute WHERE org_id = {org_id:String} AND minute = {minute:DateTime('UTC')} AND chunk = {chunk:UInt64}
    AND source = {source:String} AND operation = {operation:String}
"""

Metrics = dict[str, float]
"""``name`` or ``name{label value}`` → value."""


class Audit:
    """An audit process of a pipeline, and what it shows."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._environment = pipeline.environment() | {"SLUICEGATE_DATA_DIR": str(folder / "audit")}
        self._port = free_port()
        self.process = ChildProcess(
            "audit",
            [sys.executable, "-m", "clickhouse.audit"],
            log=folder / "audit.log",
            cwd=ROOT,
            environment={
                **self._environment,
                "SLUICEGATE_AUDIT_INTERVAL_S": "0.5",
                "SLUICEGATE_AUDIT_SHARE_PERCENT": "50",
                "SLUICEGATE_HEALTH_LISTEN": f"127.0.0.1:{self._port}",
            },
        )

    def metrics(self) -> Metrics:
        """What it shows now; empty while it does not listen."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, OSError):
            return {}
        return {
            sample.name.removeprefix("sluicegate_audit_") + "".join(f"{{{value}}}" for value in sample.labels.values()):
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }  # fmt: skip

    async def until(self, what: str, holds: Callable[[Metrics], bool], *, silent: bool = False) -> Metrics:
        """The first metrics that ``holds`` is true of; with ``silent``, none before may show drift."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            shown = await asyncio.to_thread(self.metrics)
            if silent:
                assert drift(shown) == {}, self.process.log_tail(40)
            if shown and holds(shown):
                return shown
            assert self.process.running, self.process.log_tail(40)
            assert time.monotonic() < deadline, (
                f"{what}: not within {LIMIT_S:g} s: {shown}\n{self.process.log_tail(40)}"
            )
            await asyncio.sleep(0.2)

    async def walks(self, count: int, *, silent: bool = False) -> Metrics:
        """After ``count`` more comparisons of everything."""
        before = (await asyncio.to_thread(self.metrics)).get("walks_total", 0)
        return await self.until(f"{count} walks", lambda shown: shown["walks_total"] >= before + count, silent=silent)

    async def alerts(self) -> list[AuditDrift]:
        """All of drift that is on the topic."""
        found = read_topic(self._pipeline.kafka.bootstrap, self._pipeline.prefix + topics.ALERTS.name)
        alerts = [ALERT.validate_json(record.value or b"") async for record in found]
        return sorted((one for one in alerts if isinstance(one, AuditDrift)), key=lambda record: record.at)

    async def command(self, option: str) -> tuple[int, str]:
        """(exit status, output) of ``python -m clickhouse.audit <option>``."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clickhouse.audit", option),
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", **self._environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        return process.returncode or 0, output.decode()


def drift(shown: Metrics) -> Metrics:
    """What of the metrics is drift."""
    names = ("drift_credits_micro", "drift_events", "buckets_differing")
    return {name: value for name, value in shown.items() if name.startswith(names) and value}


@pytest.fixture
async def pipeline(kafka: Kafka, engine: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    whole = Pipeline(kafka, engine, fresh_prefix, tmp_path)
    try:
        yield whole
    finally:
        whole.close()


def publish_one_of_the_past(publisher: Publisher) -> None:
    """An event of ten minutes ago, whose cell nothing else will change."""
    now_ms = time.time_ns() // 1_000_000 - 600_000
    publisher.publish(
        org_id="org_wren", api_key_id="key_wren_1", operation=OPERATION, started_at_ms=now_ms - 30, ts_ms=now_ms,
        duration_ms=30, status=200, quantities={"documents": 3},
    )  # fmt: skip


async def row_of_the_past(client: Client) -> dict[str, object]:
    deadline = time.monotonic() + LIMIT_S
    while not (
        rows := list((await asyncio.to_thread(client.query, f"{_ROW} ORDER BY minute LIMIT 1")).named_results())
    ):
        assert time.monotonic() < deadline, "the event of the past did not come"
        await asyncio.sleep(0.2)
    [minute] = [row["minute"].replace(tzinfo=UTC) for row in rows]  # the driver leaves the zone out
    return {**rows[0], "minute": minute}


@pytest.mark.contract("8.3")
async def test_drift_is_silent_under_traffic_and_names_the_bucket_that_was_damaged(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    await pipeline.start()
    publisher = pipeline.publisher()
    await publisher.start()
    publish_one_of_the_past(publisher)
    traffic = asyncio.create_task(pipeline.send(publisher, 100_000, seed=5, per_second=60.0))
    audit = Audit(pipeline, tmp_path)
    client = await asyncio.to_thread(pipeline.address.connect)
    try:
        row = await row_of_the_past(client)
        audit.process.start()

        shown = await audit.walks(2, silent=True)
        assert shown["buckets_compared"] > 10
        assert shown["age_seconds"] < LIMIT_S

        # One row gets a higher version, one event and one micro-credit more.
        damaged = {**row, "version": int(str(row["version"])) + 1, "events": int(str(row["events"])) + 1}
        damaged["credits_micro"] = int(str(row["credits_micro"])) + 1
        await asyncio.to_thread(client.insert, "usage_minute", [list(damaged.values())], list(damaged))
        await audit.until("drift", lambda shown: shown["alerts_open"] == 1)
        assert drift(audit.metrics()) == {
            "drift_credits_micro{cells_minute}": 1.0,
            "drift_events{cells_minute}": 1.0,
            "buckets_differing{cells_minute}": 1.0,
        }
        [fired] = await audit.alerts()
        assert (fired.state, fired.pair, fired.organization_id) == ("fired", "cells_minute", "org_wren")
        assert (fired.credits_micro, fired.events, fired.buckets_differing) == (1, 1, 1)
        [bucket] = fired.buckets
        assert (bucket.start, bucket.seconds) == (row["minute"], 60)
        assert (bucket.api_key_id, bucket.operation, bucket.chunk) == ("key_wren_1", OPERATION, row["chunk"])
        assert bucket.events_found == bucket.events_expected + 1 == int(str(row["events"])) + 1
        assert "operation documents.create" in fired.sentence
        assert "--repair" in fired.advice
        # Killed and started again, it fires nothing twice, and goes on saying what is so.
        audit.process.kill()
        audit.process.start()
        await audit.walks(1)
        assert drift(audit.metrics())["drift_events{cells_minute}"] == 1.0
        assert await audit.alerts() == [fired]

        code, output = await audit.command("--once")
        assert code == 1, output
        assert "1 differ" in output
        code, output = await audit.command("--repair")
        assert code == 0, output
        assert "mended: in the minute" in output
        await audit.until("end of the drift", lambda shown: shown["alerts_open"] == 0 and not drift(shown))
        fired_again, cleared = await audit.alerts()
        assert fired_again == fired
        assert (cleared.state, cleared.alert_id, cleared.fired_at) == ("cleared", fired.alert_id, fired.at)
        assert await row_of_the_past(client) == row

        # Without ClickHouse it compares nothing and says so; that is no drift.
        await asyncio.to_thread(pipeline.clickhouse.kill)
        await audit.until("word of the outage", lambda shown: shown["blocked{clickhouse}"] == 1, silent=True)
        await asyncio.to_thread(pipeline.clickhouse.start)
        await audit.until("word of its end", lambda shown: shown["blocked{clickhouse}"] == 0, silent=True)
        await audit.walks(1, silent=True)
        assert await audit.alerts() == [fired, cleared]
        assert not traffic.done()
        audit.process.stop()
        assert audit.process.exit_code == 0, audit.process.log_tail()

        # A row that is gone is written anew too.
        await asyncio.to_thread(client.command, DELETE_ROW, parameters=row)
        code, output = await audit.command("--repair")
        assert code == 0, output
        assert "the row is missing" in output
        assert await row_of_the_past(client) == row
    finally:
        audit.process.kill()
        traffic.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await traffic
        await publisher.close(10)
        client.close()
