"""What a gate does when it does not know: costs that only the end tells, and decisions that stop arriving."""

from __future__ import annotations

from typing import Any

import pytest

from sluicegate.gate import Gate, GateSettings
from sluicegate_schemas.accounts import KeyMode
from sluicegate_schemas.limits import FailureMode, RateLimits
from tests.gating import (
    NOW_MS,
    SECRET,
    Known,
    Serving,
    error,
    heron,
    key_record,
    organization,
    organization_record,
    used_record,
)

# ---- what stops arriving ----


@pytest.mark.contract("3.21")
@pytest.mark.parametrize(("mode", "admitted"), [(None, 60), ("open", 60), ("allowance", 30), ("closed", 0)])
def test_when_decisions_stop_arriving_the_plan_says_what_a_category_gets(mode: Any, admitted: int) -> None:
    percent = 50 if mode == "allowance" else None
    modes = {} if mode is None else {"compute": FailureMode(mode=mode, allowance_percent=percent)}
    rates = RateLimits(requests_per_second=1_000, burst=1_000, requests_per_minute=600)
    known = heron(organization_record(rates=rates, rank=(2, 0), failure_modes=modes))
    known.contact_ms = NOW_MS
    gate = Gate(known, GateSettings(stale_after_ms=5_000))
    later_ms = NOW_MS + 5_001
    assert gate.state(NOW_MS + 5_000).is_stale is False
    answers = [gate.check(SECRET, "inference.embedding", now_ms=later_ms) for _ in range(100)]
    assert sum(answer.allowed for answer in answers) == admitted
    assert {answer.status for answer in answers if not answer.allowed} == {503 if mode == "closed" else 429}
    if mode == "allowance":
        assert dict(answers[0].headers)["RateLimit-Policy"].endswith('"compute_per_minute";q=30;w=60')
    assert gate.check(SECRET, "collections.list", now_ms=later_ms).allowed
    known.contact_ms = later_ms
    assert gate.check(SECRET, "inference.embedding", now_ms=later_ms + 5_000).allowed
    state = gate.state(later_ms + 7)
    assert (state.is_stale, state.staleness_ms) == (False, 7)


@pytest.mark.contract("3.15")
def test_the_bound_is_the_offered_rate_over_the_measured_lag_and_what_runs() -> None:
    known = heron()
    gate = Gate(known, GateSettings(publish_ms_max=200))
    assert gate.bound(offered_per_s=100, now_ms=NOW_MS) is None
    for lag_ms in (40, 300, 90):
        known.lags.add(NOW_MS - lag_ms, NOW_MS)
    bound = gate.bound(offered_per_s=100, in_flight=7, now_ms=NOW_MS)
    assert bound == (57, 500)
    lag = gate.state(NOW_MS).lag
    assert (lag.decisions, lag.median_ms, lag.worst_ms) == (3, 90, 300)


# ---- reservation ----


@pytest.mark.contract("3.16", "3.17")
def test_a_burst_near_the_limit_admits_only_as_many_as_the_rest_pays_for() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 600_000_000, kind="account"))
    answers = [node.ask("inference.llm") for _ in range(20)]
    assert sum(answer.allowed for answer in answers) == 4, "400 credits are left, one may cost 100"
    details = error(answers[-1])["details"]
    assert (details["current"], details["limit"], details["reserved"]) == (600, 1_000, 400)


@pytest.mark.contract("3.16")
def test_a_request_that_cost_less_makes_room_and_one_that_failed_makes_all_of_it() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 600_000_000, kind="account"))
    for _ in range(4):
        assert node.ask("inference.llm").allowed
    assert not node.ask("inference.llm").allowed
    node.end(500, tokens=90_000)
    assert node.ask("inference.llm").allowed
    node.end(200, tokens=900)
    assert not node.ask("inference.llm").allowed, "10 of 100 credits are used"
    assert node.ask("inference.llm", quantities={"tokens": 8_500}).allowed


def test_a_worst_case_above_the_rest_passes_a_soft_limit_when_nothing_else_is_under_way() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 950_000_000, kind="account"))
    assert node.ask("inference.llm").allowed
    assert not node.ask("search.knn").allowed
    node.end(200, tokens=4_000)
    assert not node.ask("inference.llm", NOW_MS + 1_000).allowed
    assert node.ask("inference.llm", NOW_MS + 2_100).allowed, "by now the workers' word holds it"


def test_a_gate_that_used_up_the_rest_by_itself_waits_for_the_workers_word_but_not_for_ever() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 950_000_000, kind="account"))
    assert node.ask("inference.llm").allowed
    node.end(200, tokens=5_000)
    assert not node.ask("search.knn", NOW_MS + 29_000).allowed
    assert node.ask("search.knn", NOW_MS + 30_100).allowed, "its event may be lost"
    node.known.learn(used_record("credits", 1_000_000_000, 960_000_000, kind="account", rank=(2, 0), decision_id="d-2"))
    node.end(200, NOW_MS + 30_200)
    assert node.ask("search.knn", NOW_MS + 30_300).allowed


@pytest.mark.parametrize("mode", ["test", "live"])
def test_what_costs_nothing_is_not_held_back(mode: KeyMode) -> None:
    node = Serving(
        organization(), key_record(mode=mode, rank=(2, 0)), used_record("credits", 1_000, 999, kind="account")
    )
    for _ in range(5):
        assert node.ask("inference.llm" if mode == "test" else "collections.list").allowed
        assert node.ask("search.knn", cached=True).allowed
    assert (node.gate.soft.reserved_micro, len(node.gate.soft)) == (0, 0)


def test_a_handler_that_knows_more_changes_what_is_held_back() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 600_000_000, kind="account"))
    assert node.ask("inference.llm").allowed
    assert node.gate.soft.reserved_micro == 100_000_000
    assert node.gate.revise(node.running[0], NOW_MS, quantities={"tokens": 2_000}).allowed
    assert node.gate.soft.reserved_micro == 20_000_000
    node.end(200, tokens=1_500)
    assert node.gate.soft.reserved_micro == 0


def test_a_further_charge_is_held_back_beside_those_said_before() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 0, kind="account"))
    assert node.ask("retriever.execute", charges=["search.web"]).allowed
    assert node.gate.revise(node.running[0], NOW_MS, charges=["inference.llm"]).allowed
    assert node.gate.soft.reserved_micro == 110_000_000
    assert node.gate.revise(node.running[0], NOW_MS, results=10).allowed
    assert node.gate.soft.reserved_micro == 110_000_000


def test_a_charge_that_was_refused_is_not_held_back_with_the_next() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000_000, 950_000_000, kind="account"))
    assert node.ask("retriever.execute", charges=["search.web"]).allowed
    assert node.ask("search.web").allowed
    assert node.gate.revise(node.running[0], NOW_MS, charges=["inference.llm"]).status == 403
    assert node.gate.revise(node.running[0], NOW_MS, charges=["search.web"]).allowed
    assert node.gate.soft.reserved_micro == 30_000_000


def test_a_further_charge_leaves_what_was_taken_of_other_providers() -> None:
    node = Serving(organization())
    for _ in range(10):
        assert node.ask("retriever.execute", charges=["search.web"]).allowed
        assert node.gate.revise(node.running[-1], NOW_MS, charges=["inference.llm"]).allowed
    assert node.ask("retriever.execute", charges=["search.web"]).status == 429, "10 web searches a minute"


@pytest.mark.contract("1.20")
def test_flags_of_the_plan_are_readable_and_an_organizations_own_go_before_them() -> None:
    known: Known = heron(organization(features={"namespace": "dedicated"}))
    gate = Gate(known)
    key = gate.check(SECRET, "collections.list", now_ms=NOW_MS).key
    assert key is not None
    features = gate.features(key, NOW_MS)
    assert (features["namespace"], features["retrieval_dags"]) == ("dedicated", True)


def test_before_the_workers_say_anything_a_plans_credits_are_what_there_is() -> None:
    node = Serving(organization(tier="free"))
    answers = [node.ask("inference.llm") for _ in range(20)]
    assert sum(answer.allowed for answer in answers) == 5, "free has 1,000 credits; 5 run at a time"
    node = Serving(organization(credits_micro_per_month=40_000_000))
    answers = [node.ask("search.web") for _ in range(8)]
    assert sum(answer.allowed for answer in answers) == 4
    assert error(answers[-1])["details"]["reserved"] == 40


def test_what_this_process_added_since_the_workers_last_word_counts_until_their_next() -> None:
    node = Serving(organization(), used_record("credits", 1_000_000, 0, kind="account", decision_id="d-1"))
    for second in range(8):
        assert node.ask("search.knn", NOW_MS + second * 10_000).allowed
        node.end(now_ms=NOW_MS + second * 10_000)
    later_ms = NOW_MS + 100_000
    assert [node.ask("search.knn", later_ms).status for _ in range(4)] == [200, 200, 403, 403]
    word = used_record("credits", 1_000_000, 500_000, kind="account", decision_id="d-2", rank=(1, 2))
    node.known.learn(word)
    assert [node.ask("search.knn", later_ms).status for _ in range(4)] == [200, 200, 200, 403]


def test_without_a_word_of_the_workers_what_was_added_long_ago_is_not_reckoned() -> None:
    node = Serving(organization(credits_micro_per_month=1_000_000))
    for second in range(20):
        assert node.ask("search.knn", NOW_MS + second * 10_000).allowed, "there may be grants"
        node.end(now_ms=NOW_MS + second * 10_000)
