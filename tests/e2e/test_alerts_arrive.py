"""The alerts of one organization come to a real receiver, signed, each once by id, whatever is killed on the way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluicegate import Publisher
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.pipeline import Pipeline
from tests.webhook_dispatcher import Dispatcher
from tests.webhook_receiver import Receiver

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]
RULES = {"credits_80", "credits_95", "credits_blocked"}
CREDITS = 500
"""What org_wren has a month (``examples/accounts.toml``)."""


@pytest.fixture
async def pipeline(kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    whole = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        await whole.start()
        yield whole
    finally:
        whole.close()


def spend(publisher: Publisher, amount: int) -> None:
    """So many credits of org_wren, by one request."""
    now_ms = time.time_ns() // 1_000_000
    publisher.publish(
        org_id="org_wren", api_key_id="key_wren_1", operation="documents.create", started_at_ms=now_ms - 30,
        ts_ms=now_ms, duration_ms=30, status=200, quantities={"documents": amount},
    )  # fmt: skip


def rules_at(receiver: Receiver) -> list[str]:
    """The rules of credits that fired there, one of each alert that was accepted."""
    alerts = [payload["data"] for payload in receiver.payloads.values()]
    return sorted(alert["rule"] for alert in alerts if alert["state"] == "fired" and alert["rule"] in RULES)


def kept(pipeline: Pipeline) -> list[str]:
    """The ids of org_wren's alerts that fired, as ClickHouse has them."""
    client = pipeline.address.connect()
    try:
        query = (
            "SELECT alert_id FROM alert FINAL WHERE state = 'fired' AND organization_id = 'org_wren' ORDER BY alert_id"
        )
        return [str(row[0]) for row in client.query(query).result_rows]
    finally:
        client.close()


@pytest.mark.contract("5.1", "5.14")
async def test_the_alerts_of_an_organization_come_once_each_though_all_between_is_killed(
    pipeline: Pipeline, kafka: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    publisher = pipeline.publisher()
    await publisher.start()
    with Receiver() as receiver:
        dispatcher = Dispatcher(kafka, fresh_prefix, tmp_path, {"pager": receiver})
        try:
            await dispatcher.start()
            spend(publisher, CREDITS * 80 // 100)
            await dispatcher.until("80 %", lambda: rules_at(receiver) == ["credits_80"])

            # The receiver goes away; then the worker, then the dispatcher, while the next alert is on its way.
            receiver.stop()
            spend(publisher, CREDITS * 15 // 100)
            pipeline.workers["a"].kill()
            pipeline.start_worker("a")
            taken = "the 95 % are taken in"
            await dispatcher.until(taken, lambda: dispatcher.metrics().get("pending{pager}", 0) > 0)
            dispatcher.process.kill()
            spend(publisher, CREDITS * 5 // 100)
            pipeline.workers["a"].kill()
            pipeline.start_worker("a")
            receiver.start()
            await dispatcher.start()
            await dispatcher.until("all three", lambda: set(rules_at(receiver)) == RULES)

            # What a worker says again when it takes over, and a new start of the dispatcher, send nothing again.
            pipeline.workers["a"].kill()
            pipeline.start_worker("a")
            dispatcher.process.kill()
            await dispatcher.start()
            await dispatcher.until("nothing pends", lambda: dispatcher.metrics().get("pending{pager}") == 0)
            assert rules_at(receiver) == sorted(RULES)
            assert receiver.rejected == []
            by_alert = {payload["data"]["alert_id"] for payload in receiver.payloads.values()}
            assert len(by_alert) == len([one for one in receiver.payloads if one.endswith(":fired")])
            sent = sorted(
                one["data"]["alert_id"] for one in receiver.payloads.values() if one["data"]["state"] == "fired"
            )
            await dispatcher.until("ClickHouse keeps the same, once each", lambda: kept(pipeline) == sent)
        finally:
            dispatcher.process.kill()
            await publisher.close(10)
