"""The forecast's alert on a real Kafka and the real ClickHouse engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from clickhouse.audit.books import Books, LedgerRow
from clickhouse.audit.forecast import Forecaster
from clickhouse.audit.log import AlertSender
from clickhouse.connection import ClickHouse
from clickhouse.migrate import migrate
from clickhouse.roll import roll
from sluicegate.operator.publish import publish
from sluicegate_schemas import topics
from sluicegate_schemas.alerts import ALERT, UsageAlert
from stack.clickhouse import ClickHouse as Engine
from stack.kafka import Kafka
from stack.topic_log import read_topic
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.domain_world import default_catalogue

pytestmark = [pytest.mark.broker, pytest.mark.engine]

NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
NOW = NOW if NOW.day < 25 else NOW.replace(day=20)
"""With some days to go until the reset."""
USAGE = (
    "org_id",
    "minute",
    "api_key_id",
    "operation",
    "source",
    "chunk",
    "category",
    "credits_micro",
    "events",
    "version",
)


async def test_an_account_and_its_members_that_run_out_are_told_once_over_restarts(
    kafka: Kafka, clickhouse: Engine, fresh_prefix: str
) -> None:
    settings = Settings(bootstrap_servers=kafka.bootstrap, topic_prefix=f"{fresh_prefix}.", partitions=1)
    address = ClickHouse(clickhouse.url, clickhouse.username, clickhouse.password, fresh_prefix)
    await ensure_topics(settings)
    migrate(address)
    await publish(
        settings.brokers, topic_prefix=settings.topic_prefix, catalogue=default_catalogue(), commands=[], now=NOW,
        by="tests", lead=timedelta(0),
    )  # fmt: skip
    hours = [NOW.replace(minute=0) - timedelta(hours=number) for number in range(1, 40)]
    rows = [
        (org, int(at.timestamp()), "key_a", operation, "state/0", 1, "search", micro, 1, 1)
        for at in hours
        for org, operation, micro in (
            ("org_root", "search.web", 1_000_000),
            ("org_member", "inference.llm", 9_000_000),
            ("org_calm", "search.knn", 1),
        )
    ]
    client = address.connect()
    client.insert("usage_minute", rows, column_names=USAGE)
    roll(client)
    books = Books(["state/0"], int(NOW.timestamp()), open_max=10, evicted_max=10, sums_max=10)
    source, month = books.sources["state/0"], f"{NOW:%Y-%m}"
    for account, total, used in (
        ("org_root", 500_000_000, 390_000_000),
        ("org_calm", 10**12, 39),
        ("org_free", None, 0),
    ):
        row = LedgerRow(account, None, total, used, [], 0, {})
        source.accounts[account, month] = row
        source.ledgers[account, month] = row
    source.payers["org_member"] = "org_root"

    async def step() -> list[UsageAlert]:
        sender = AlertSender(settings.brokers, settings.topic(topics.ALERTS.name))
        try:
            forecaster = Forecaster(settings, address, sender, lambda: books)
            await forecaster.step(NOW)
            await forecaster.step(NOW)
        finally:
            await sender.close()
        alerts = []
        async for record in read_topic(kafka.bootstrap, settings.topic(topics.ALERTS.name)):
            alert = ALERT.validate_json(record.value or b"")
            assert isinstance(alert, UsageAlert)
            assert record.key == alert.alert_id.encode()
            alerts.append(alert)
        return alerts

    (alert,) = await step()
    assert (alert.state, alert.alert_id) == ("fired", f"runs_out/credits_run_out/org_root/{month}/1")
    assert alert.costliest == ("inference.llm", "search.web")
    assert await step() == [alert], "a new process knows what was told"
    source.accounts["org_root", month] = LedgerRow("org_root", None, 10**12, 390_000_000, [], 0, {})
    states = [(one.state, one.alert_id) for one in await step()]
    assert sorted(states) == [("cleared", alert.alert_id), ("fired", alert.alert_id)]
    assert "expected to use" in json.dumps([one.sentence for one in await step()])
    client.command(f"DROP DATABASE `{fresh_prefix}`")
    client.close()
