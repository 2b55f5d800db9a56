"""The share of the rotation that each test run has: eight kill -9s, and every other fault once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from rich.console import Console

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.faults.parts import Parts
from tests.faults.rotation import Rotation
from tests.faults.rotation_plan import COMPONENTS, EXTRAS, IN_ORDER, plan

ROUNDS = 8


@pytest.mark.contract("8.1")
@pytest.mark.broker
@pytest.mark.engine
@pytest.mark.processes
@pytest.mark.timeout(900)
async def test_eight_kills_under_load_lose_and_double_nothing(
    broker: Kafka, engine: ClickHouse, fresh_prefix: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"python -m tests.faults --rounds {ROUNDS} --seed {seed}")
    parts = Parts(broker, engine, fresh_prefix, tmp_path)
    rotation = Rotation(parts, Console(width=160))
    try:
        await rotation.run(plan(seed, ROUNDS))
    finally:
        parts.close()
    assert rotation.verifier.totals.events_counted > 0
    assert rotation.verifier.totals.events_duplicate > 0
    assert rotation.verifier.totals.events_rejected > 0


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_kills_every_component_and_holds_every_fault_in_turn(seed: int) -> None:
    rounds = plan(seed, 48)
    for first in range(0, 48, 6):
        assert {one.component for one in rounds[first : first + 6]} == set(COMPONENTS)
    for first in range(0, 48, 8):
        faults = [one.extra.fault if one.extra else None for one in rounds[first : first + 8]]
        assert sorted(faults, key=str) == sorted(EXTRAS, key=str)
        assert [fault for fault in faults if fault in IN_ORDER] == list(IN_ORDER)


def test_a_seed_repeats_its_plan_and_a_longer_one_begins_as_a_shorter() -> None:
    assert plan(7, 100)[:8] == plan(7, 8)
    assert plan(7, 8) != plan(8, 8)
