"""Hard limits on real processes: nothing is overspent; ``python -m tests.faults.spending`` prints the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.kafka import Kafka
from tests.faults.spending import spend

pytestmark = [pytest.mark.broker, pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.mark.contract("3.18")
async def test_a_hard_limit_is_never_overspent_over_four_gateways(
    broker: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    report = await spend(broker, fresh_prefix, tmp_path, print, is_short=True)
    print("\n".join(report.sentences))
    assert report.failures == []
