"""Whatever happens between a partition's owners and the log, the state is what the source counts to."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.engine_world import World


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_history_of_crashes_zombies_and_lost_replies_counts_each_envelope_once(seed: int) -> None:
    world = World(seed)
    world.run(1_500)
    assert world.verdict(seed).faults == []


def test_the_histories_hold_what_they_are_meant_to_hold() -> None:
    seen: Counter[str] = Counter()
    for seed in range(12):
        world = World(seed)
        world.run(1_500)
        report = world.verdict(seed)
        assert report.faults == []
        seen.update(report.seen)
    assert all(seen[kind] > 20 for kind in ("void records", "claims", "duplicates", "rejects", "cuts compared")), seen
