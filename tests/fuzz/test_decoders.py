"""Any bytes become a value within its bounds, or the decoder's own error; what broke once never breaks again."""

import tracemalloc
from pathlib import Path
from random import Random
from time import process_time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .all_targets import TARGETS
from .costly import COSTLY, Costly
from .mutation import mutate
from .target import Target, check, corpus, corpus_files

FEW: dict[str, int] = dict.fromkeys(
    ["machine_envelope", "machine_json", "machine_command", "follower", "toml_catalogue", "toml_accounts", "catalogue"],
    40,
)
"""Examples of the slower targets; the others have ``MANY``."""
MANY = 120
BY_NAME = {target.name: target for target in TARGETS}
FILES = [(target, path) for target in TARGETS for path in corpus_files(target.name)]


@pytest.mark.parametrize(("target", "path"), FILES, ids=[f"{target.name}-{path.name}" for target, path in FILES])
def test_the_corpus_keeps_its_promises(target: Target, path: Path) -> None:
    check(target, path.read_bytes())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_begins_with_what_is_decoded(target: Target) -> None:
    assert any(check(target, value) for value in corpus(target.name))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_any_bytes_are_decoded_or_refused(target: Target) -> None:
    seeds = corpus(target.name)

    @settings(max_examples=FEW.get(target.name, MANY), suppress_health_check=list(HealthCheck), database=None)
    @given(st.integers(0, len(seeds) - 1), st.randoms(use_true_random=False))
    def holds(at: int, random: Random) -> None:
        check(target, mutate(seeds[at], target.kind, random, seeds))

    holds()


@pytest.mark.parametrize("costly", COSTLY, ids=lambda costly: costly.name)
def test_the_largest_records_cost_a_bounded_time_and_memory(costly: Costly) -> None:
    value = costly.make()
    target = BY_NAME[costly.target]
    started = process_time()
    check(target, value)
    seconds = process_time() - started
    tracemalloc.start()
    try:
        check(target, value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds <= costly.seconds_max, f"{seconds:.2f} s"
    assert peak / 1e6 <= costly.megabytes_max, f"{peak / 1e6:.0f} MB"
