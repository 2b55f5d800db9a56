"""After a worker's death the other one decides; the long form is ``python -m tests.faults.takeover --times 20``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.faults.takeover import Series, document, take_over
from tests.pipeline import SESSION_S, Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]

BESIDE_THE_SESSION_S: Final = 20.0
"""Rebalance and recovery, on a slow machine that does other things too."""


async def test_another_worker_decides_soon_after_a_worker_was_killed(
    kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> None:
    pipeline = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    try:
        turns = await take_over(pipeline, 1, signal.SIGKILL, print)
    finally:
        pipeline.close()
    assert SESSION_S / 2 < turns[0].decision_s < SESSION_S + BESIDE_THE_SESSION_S
    assert "kill -9, session 6 s" in document([Series("kill -9", SESSION_S, turns)], "a command")
