"""What workers say of soft limits on money, as a gate understands it: it holds back by that, and nothing else."""

from __future__ import annotations

import pytest

from sluicegate.gate import Gate
from sluicegate_schemas.envelope import WireCharge
from streams.domain.period import DAY_MS
from tests.domain_world import NOW_MS, World, organization_put, small_world, usage
from tests.gating import SECRET, WIDE, Known, catalogue_record, key_record, organization_record
from tests.grants import CREDIT, budget_put, budget_remove

CALL = 10 * CREDIT


class Told:
    """A worker's partition and a gate that hears all its decisions at once."""

    def __init__(self, tier: str = "enterprise") -> None:
        self.world: World = small_world(tier)
        self.known = Known().learn(
            catalogue_record(),
            organization_record("org_a", tier="enterprise", rates=WIDE),
            key_record(SECRET, name="key_a", organization="org_a"),
        )
        self.gate = Gate(self.known)
        self.heard = 0

    def call(self, at_ms: int = NOW_MS, together: int = 1) -> int:
        """Calls of 10 credits each that run at the same time, and their usage; returns how many were admitted."""
        while self.heard < len(self.world.early):
            said = self.world.early[self.heard]
            self.heard += 1
            self.known.learn((said.topic, said.key, said.value))
        running = []
        for _ in range(together):
            answer = self.gate.check(SECRET, "inference.llm", quantities={"tokens": 1_000}, now_ms=at_ms)
            if answer.allowed:
                running.append(self.gate.begin(answer, at_ms))
        for one in running:
            self.gate.end(one, 200, [WireCharge("inference.llm", {"tokens": 1_000})], at_ms)
            self.world.send(usage("inference.llm", ts=at_ms, quantities={"tokens": 1_000}), at=at_ms)
        return len(running)


def test_a_day_that_begins_has_its_whole_budget() -> None:
    told = Told()
    told.world.obey(budget_put(20 * CALL))
    for day in range(3):
        for hour in range(3):
            assert told.call(NOW_MS + day * DAY_MS + hour * 60_000, together=5) == 5


def test_a_budget_that_only_warns_holds_nothing_back() -> None:
    told = Told()
    told.world.obey(budget_put(2 * CALL, blocks=False))
    assert told.call(together=6) == 6
    assert told.call(NOW_MS + 100, together=6) == 6


@pytest.mark.parametrize("was_used_up", [True, False])
def test_a_budget_that_is_no_more_holds_nothing_back(was_used_up: bool) -> None:
    told = Told()
    told.world.obey(budget_put(2 * CALL))
    assert told.call(together=6 if was_used_up else 1) == (2 if was_used_up else 1)
    told.world.obey(budget_remove())
    assert told.call(NOW_MS + 100, together=6) == 6


def test_credits_without_a_limit_hold_nothing_back() -> None:
    told = Told("free")
    assert told.call() == 1
    told.world.obey(organization_put(tier="enterprise"))
    assert told.call(NOW_MS + 100, together=6) == 6
