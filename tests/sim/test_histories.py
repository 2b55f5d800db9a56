"""Seeded histories of the real engine core: crashes, zombies, lost replies, rebalances, duplicates, in virtual time.

``make sim SEEDS=1000`` runs that many. The first seed is drawn anew each time and printed; one seed is one history, run
again with ``SLUICEGATE_SIM_FIRST=<seed> make sim SEEDS=1``.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from tests.property.engine_world import World

STEPS = 1_500
SEEDS = int(os.environ.get("SLUICEGATE_SIM_SEEDS", "40"))
FIRST = int(os.environ.get("SLUICEGATE_SIM_FIRST") or random.SystemRandom().randrange(2**31))


@pytest.mark.timeout(0)
def test_every_history_counts_each_event_once() -> None:
    seen: Counter[str] = Counter()
    print(f"{SEEDS} histories from seed {FIRST}")
    for seed in range(FIRST, FIRST + SEEDS):
        world = World(seed)
        world.run(STEPS)
        report = world.verdict(seed)
        assert report.faults == [], f"run it again: SLUICEGATE_SIM_FIRST={seed} make sim SEEDS=1"
        seen.update(report.seen)
    print(dict(seen))
    assert seen["cuts compared"] > SEEDS
