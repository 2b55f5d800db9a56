"""A part is away for a while, and comes back: nobody waits for it, nothing is lost, memory stays bounded.

The short forms; ``python -m tests.faults.outages`` runs the same for as long as one likes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.faults.outage_broker import broker_away
from tests.faults.outage_clickhouse import clickhouse_away
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]


@pytest.fixture
async def without_clickhouse(
    kafka: Kafka, engine: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> AsyncIterator[Pipeline]:
    """A pipeline whose ClickHouse may go away."""
    whole = Pipeline(kafka, engine, fresh_prefix, tmp_path)
    try:
        yield whole
    finally:
        whole.close()


@pytest.mark.contract("8.4")
async def test_decisions_and_totals_are_the_same_though_clickhouse_was_away(without_clickhouse: Pipeline) -> None:
    report = await clickhouse_away(without_clickhouse, 12, print)
    assert report.failures == []
    print("\n".join(report.sentences))


@pytest.fixture
async def without_broker(
    broker: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> AsyncIterator[Pipeline]:
    """A pipeline whose broker may go away."""
    whole = Pipeline(broker, clickhouse, fresh_prefix, tmp_path)
    try:
        yield whole
    finally:
        whole.close()


async def test_nodes_answer_on_and_lose_no_more_than_stated_though_the_broker_was_away(
    without_broker: Pipeline, tmp_path: Path
) -> None:
    report = await broker_away(without_broker, tmp_path, 12, print)
    assert report.failures == []
    print("\n".join(report.sentences))
