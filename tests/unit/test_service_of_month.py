"""Availability and latency, counted by the workers in each organization's month."""

from __future__ import annotations

import pytest

from sluicegate_schemas.outputs import Balance, Service
from tests.domain_world import World, small_world, usage

SECOND_MS = 1_000


def served_of(world: World, organization: str = "org_a") -> Service | None:
    """The newest balance of the organization says so."""
    world.pass_time(world.log_time_ms + 5 * SECOND_MS)
    balances = [Balance.model_validate_json(one.value) for one in world.balances if one.topic == "balances"]
    return [one for one in balances if (one.kind, one.id) == ("organization", organization)][-1].served


def requests(world: World) -> None:
    """Ten that were served, in 0 to 900 ms, two of them 5xx; one that was wrong, and one that was throttled."""
    for number in range(10):
        status = 503 if number < 2 else 200
        world.send(
            usage(status=status, started=world.log_time_ms - 100 * number, ts=world.log_time_ms), at=world.log_time_ms
        )
    world.send(usage(status=404, ts=world.log_time_ms), usage(status=429, ts=world.log_time_ms), at=world.log_time_ms)


@pytest.mark.contract("1.19")
def test_throttled_requests_are_no_part_of_the_service_and_wrong_ones_are_no_failure_of_it() -> None:
    world = small_world("pro")
    requests(world)
    assert served_of(world) == Service(requests=11, failures=2, p50_ms=415, p99_ms=959)


@pytest.mark.contract("1.19")
def test_what_was_measured_outlives_its_worker() -> None:
    world = small_world("pro")
    requests(world)
    before = served_of(world)
    world.take_over()
    world.send(usage(ts=world.log_time_ms), at=world.log_time_ms)
    after = served_of(world)
    assert before is not None
    assert after is not None
    assert (after.requests, after.failures, after.p99_ms) == (12, 2, before.p99_ms)
