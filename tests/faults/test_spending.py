"""Four gateways that share limits, on real processes, in short; ``python -m tests.faults.spending`` plays all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.kafka import Kafka
from tests.faults.findings import Report
from tests.faults.gateways import Gateways
from tests.faults.spending import GLIMPSE, briefly, commands

pytestmark = [pytest.mark.broker, pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.mark.contract("3.15", "3.17", "3.18", "3.19")
async def test_four_gateways_keep_limits_together_and_free_what_a_dead_one_held(
    kafka: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    scene, report = Gateways(kafka, fresh_prefix, tmp_path), Report()
    try:
        await scene.start(commands(GLIMPSE))
        await briefly(scene, report)
    finally:
        scene.close()
    print("\n".join(report.sentences))
    assert report.failures == []
