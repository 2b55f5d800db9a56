"""The question that is asked most is answered without the framework, and its answer is the framework's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api_world import MONTH, World
from tests.gating import SECRET, credit_block, key_record

USAGE = "/v1/organizations/usage"


def used(world: World) -> None:
    world.balance(used_micro=45_230_100_000, breakdown_micro={"search": 45_000_000_000, "storage": 230_100_000})


def full(world: World) -> None:
    world.balances.full_month = MONTH


def not_ready(world: World) -> None:
    world.balances_from.ready = False


def revoked(world: World) -> None:
    world.learn(key_record(revoked=True))


def blocked(world: World) -> None:
    used(world)
    world.learn(credit_block())


@pytest.mark.parametrize("arrange", [used, full, not_ready, revoked, blocked, lambda _: None])
def test_the_direct_answer_is_the_routes(arrange: Callable[[World], None], monkeypatch: pytest.MonkeyPatch) -> None:
    world, other = World(), World()
    arrange(world)
    arrange(other)
    routed = other.get(f"{USAGE}?month={MONTH}")  # a query is the framework's to read
    monkeypatch.setattr(world.app, "router", None)
    direct = world.get(USAGE)
    assert (direct.status_code, direct.content) == (routed.status_code, routed.content)
    assert dict(direct.headers) == dict(routed.headers)
    assert [event["status"] for event in world.meter.events] == [event["status"] for event in other.meter.events]


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
def test_another_method_is_the_frameworks(method: str) -> None:
    world = World()
    assert world.request(method, USAGE, SECRET).status_code == 405


def test_a_stranger_is_not_answered_directly_either() -> None:
    assert [World().get(USAGE, secret).status_code for secret in (None, "sk_live_nobody_has_this_1")] == [401, 401]
