"""A plan that fails is made small, and stays a plan that fails."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from .plan import Fault, Plan, Send, draw_plan
from .shrink import Shrinker, kind_of, shrink


def _plan(faults: int, sends: int) -> Plan:
    return Plan(
        seed=1,
        partitions=1,
        workers=1,
        gateways=1,
        duration_ms=1_000,
        start_ms=0,
        traffic=tuple(Send(number, "envelope", 0, number) for number in range(sends)),
        faults=tuple(Fault(number, "rebalance", 0, 0) for number in range(faults)),
    )


def _needs(faults: set[int], sends: set[int]) -> Callable[[Plan], bool]:
    def fails(plan: Plan) -> bool:
        return faults <= {one.at_ms for one in plan.faults} and sends <= {one.at_ms for one in plan.traffic}

    return fails


@given(faults=st.sets(st.integers(0, 11), max_size=4), sends=st.sets(st.integers(0, 99), max_size=4))
def test_just_what_a_failure_needs_is_left_in_its_order(faults: set[int], sends: set[int]) -> None:
    small = shrink(_plan(12, 100), _needs(faults, sends), plays_max=10_000)
    assert [one.at_ms for one in small.faults] == sorted(faults)
    assert [one.at_ms for one in small.traffic] == sorted(sends)


@given(plays_max=st.integers(0, 40))
def test_a_search_stops_with_its_plays_and_gives_the_smallest_failing_plan_so_far(plays_max: int) -> None:
    fails = _needs({3, 7}, {5, 50, 95})
    shrinker = Shrinker(fails, plays_max)
    small = shrinker.shrink(_plan(12, 100))
    assert shrinker.plays <= plays_max
    assert fails(small)


def test_a_plan_whose_elements_all_matter_stays_whole() -> None:
    plan = draw_plan(4)
    assert shrink(plan, lambda smaller: smaller == plan) == plan


def test_a_violation_is_of_the_same_kind_with_other_names_and_numbers() -> None:
    assert kind_of("partition 3: the usage offset went back from 239 to 229") == kind_of("partition 12: the usage …")
    assert kind_of("ledgers differ: o1") != kind_of("rollups differ: o1")
