"""Test keys spend nothing and count for everything else (requirements, sections 1 and 9)."""

import pytest

from sluicegate.gate import Gate
from sluicegate_schemas.bounds import from_epoch_ms
from tests.domain_world import NOW_MS, default_catalogue, organization_put, small_world, usage
from tests.gating import NOW_MS as GATE_NOW_MS
from tests.gating import SECRET, credit_block, heron, key_record, organization
from tests.limits_world import newest

TEST_SECRET = "sk_test_demo_key_heron_1"
TEST_KEY = key_record(TEST_SECRET, name="key_heron_test", mode="test")


@pytest.mark.contract("9.17")
def test_a_test_key_passes_a_credit_block_and_its_own_buckets_hold_it() -> None:
    gate = Gate(heron(credit_block(), TEST_KEY))
    assert gate.check(SECRET, "search.knn", now_ms=GATE_NOW_MS).status == 403
    statuses = [gate.check(TEST_SECRET, "search.knn", now_ms=GATE_NOW_MS).status for _ in range(201)]
    assert statuses == [200] * 200 + [429]  # the burst of the plan


@pytest.mark.contract("9.17")
def test_a_test_keys_requests_in_flight_are_its_organizations() -> None:
    gate = Gate(heron(organization(concurrency=2), TEST_KEY))
    statuses = []
    for secret in (TEST_SECRET, SECRET, TEST_SECRET, SECRET):
        answer = gate.check(secret, "collections.list", now_ms=GATE_NOW_MS)
        statuses.append(answer.status)
        if answer.allowed:
            gate.begin(answer, GATE_NOW_MS)
    assert statuses == [200, 200, 429, 429]


def test_a_plan_may_let_test_keys_spend_and_another_plan_or_version_not() -> None:
    first = default_catalogue()
    spending = first.plans | {"pro": first.plans["pro"].model_copy(update={"test_keys_spend": True})}
    second = {"version": 2, "effective_at": from_epoch_ms(NOW_MS + 10_000)}
    world = small_world(
        "pro", catalogues=[first.model_copy(update={"plans": spending}), first.model_copy(update=second)]
    )

    def used_after_one_search(at: int) -> int:
        world.send(usage("search.knn", key="key_t", ts=at), at=at)
        return world.used("account", "org_a")

    cost_micro = used_after_one_search(NOW_MS)
    assert cost_micro > 0
    world.obey(organization_put(tier="team"))
    assert used_after_one_search(NOW_MS + 1) == cost_micro
    world.obey(organization_put(tier="pro", command_id="back"))
    assert used_after_one_search(NOW_MS + 2) == 2 * cost_micro
    assert used_after_one_search(NOW_MS + 10_000) == 2 * cost_micro


@pytest.mark.contract("9.17", "1.6")
def test_what_a_test_key_makes_counts_for_the_quota_and_costs_nothing() -> None:
    world = small_world("free")  # 5 collections
    event = usage("collections.create", key="key_t", status=201)
    event.resource_delta = {"collections": 5}
    world.send(event, usage("search.web", key="key_t"), at=NOW_MS)
    assert newest(world, "quota_collections").verdict == "block"
    assert world.used("account", "org_a") == 0
