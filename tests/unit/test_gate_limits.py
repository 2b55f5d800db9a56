"""Each kind of limit at the gate: what it refuses, how it says so, what it lets through (requirements, section 3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluicegate.gate import Gate
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.limits import RateLimits
from tests.gating import (
    NOW_MS,
    SECRET,
    Serving,
    catalogue_record,
    credit_block,
    decision_record,
    error,
    heron,
    key_record,
    organization,
    used_record,
)

# ---- categories ----


@pytest.mark.contract("1.12", "3.2")
def test_a_category_has_its_share_of_the_keys_minute_and_the_other_categories_go_on() -> None:
    rates = RateLimits(requests_per_second=100, burst=100, requests_per_minute=20)
    gate = Gate(heron(organization(rates=rates)))
    statuses = [gate.check(SECRET, "search.knn", now_ms=NOW_MS).status for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    answer = gate.check(SECRET, "search.knn", now_ms=NOW_MS)
    assert error(answer)["details"] == {
        "limit": 10, "window": "1m", "retry_after": 6, "scope": "key:key_heron_1", "limit_name": "search_per_minute",
    }  # fmt: skip
    assert gate.check(SECRET, "collections.list", now_ms=NOW_MS).allowed


@pytest.mark.contract("9.20")
def test_headers_tell_of_the_tighter_bucket_by_share() -> None:
    rates = RateLimits(requests_per_second=100, burst=100, requests_per_minute=20)
    gate = Gate(heron(organization(rates=rates)))
    for _ in range(3):
        answer = gate.check(SECRET, "search.knn", now_ms=NOW_MS)
    assert dict(answer.headers)["X-RateLimit-Limit"] == "10"
    for _ in range(13):
        answer = gate.check(SECRET, "collections.list", now_ms=NOW_MS)
    assert dict(answer.headers)["X-RateLimit-Limit"] == "20"
    answer = gate.check(SECRET, "search.knn", now_ms=NOW_MS)
    headers = dict(answer.headers)
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("20", "3")


@pytest.mark.contract("9.18")
def test_a_request_that_its_category_refuses_takes_nothing_from_the_keys_own_buckets() -> None:
    rates = RateLimits(requests_per_second=100, burst=100, requests_per_minute=20)
    gate = Gate(heron(organization(rates=rates)))
    for _ in range(40):
        gate.check(SECRET, "search.knn", now_ms=NOW_MS)
    assert sum(gate.check(SECRET, "collections.list", now_ms=NOW_MS).allowed for _ in range(40)) == 10


def test_a_workers_block_of_a_category_is_obeyed_for_that_category_alone() -> None:
    block = decision_record(limit_name="data_per_minute", limit=480, observed=500, until_ms=NOW_MS + 3_000)
    gate = Gate(heron(block))
    answer = gate.check(SECRET, "documents.list", now_ms=NOW_MS)
    assert (answer.status, dict(answer.headers)["Retry-After"], answer.decision_id) == (429, "3", "d-1")
    assert gate.check(SECRET, "collections.list", now_ms=NOW_MS).allowed
    assert gate.check(SECRET, "not.on.card", now_ms=NOW_MS).allowed


@pytest.mark.contract("1.18")
@pytest.mark.parametrize("where", ["key", "organization"])
def test_an_exemption_takes_a_bucket_off(where: str) -> None:
    rates = RateLimits(requests_per_second=100, burst=100, requests_per_minute=20)
    off = ("search_per_minute",)
    records = [organization(rates=rates, exempt=off if where == "organization" else ())]
    records.append(key_record(exempt=off if where == "key" else (), rank=(2, 0)))
    block = decision_record(limit_name="search_per_minute", until_ms=NOW_MS + 60_000)
    gate = Gate(heron(*records, block))
    assert sum(gate.check(SECRET, "search.knn", now_ms=NOW_MS).allowed for _ in range(30)) == 20


# ---- concurrency ----


@pytest.mark.contract("3.4", "9.23")
def test_only_so_many_requests_of_an_organization_run_at_a_time() -> None:
    node = Serving(organization(concurrency=3))
    assert [node.ask("collections.list").status for _ in range(4)] == [200, 200, 200, 429]
    answer = node.ask("collections.list")
    assert error(answer) == {
        "message": "Concurrency limit exceeded",
        "type": "TooManyRequestsError",
        "details": {
            "limit": 3, "retry_after": 1, "scope": "organization:org_heron", "limit_name": "concurrency",
        },
    }  # fmt: skip
    headers = dict(answer.headers)
    assert (headers["Retry-After"], headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("1", "3", "0")
    assert '"concurrency";q=3;w=1;qu="concurrent-requests"' in headers["RateLimit-Policy"]
    node.end(500)
    assert node.ask("collections.list").allowed


@pytest.mark.contract("9.23")
def test_a_request_refused_for_concurrency_takes_no_token() -> None:
    rates = RateLimits(requests_per_second=100, burst=100, requests_per_minute=20)
    node = Serving(organization(rates=rates, concurrency=1))
    assert [node.ask("collections.list").status for _ in range(19)] == [200] + [429] * 18
    for _ in range(19):
        node.end()
        assert node.ask("collections.list").allowed


@pytest.mark.contract("3.4")
def test_what_other_nodes_serve_counts_by_the_workers_last_word() -> None:
    node = Serving(organization(concurrency=5), used_record("concurrency", 5, 4))
    assert [node.ask("collections.list").status for _ in range(2)] == [200, 429]
    node.known.learn(used_record("concurrency", 5, 1, rank=(1, 2), decision_id="d-2"))
    assert [node.ask("collections.list").status for _ in range(4)] == [200, 200, 200, 429]


def test_under_a_concurrency_block_a_node_goes_on_with_its_own_share() -> None:
    node = Serving(organization(concurrency=5))
    for _ in range(3):
        node.ask("collections.list")
    node.gate.in_flight.serving["org_heron"].say(NOW_MS - 5_000, 3)
    node.gate.in_flight.serving["org_heron"].say(NOW_MS - 4_000, 3)
    node.known.learn(used_record("concurrency", 5, 5, verdict="block"))
    assert node.ask("collections.list").status == 429
    node.end()
    assert node.ask("collections.list").allowed
    assert node.ask("collections.list").status == 429


# ---- limits of operations ----


@pytest.mark.contract("3.6")
def test_one_run_at_a_time_of_each_cluster() -> None:
    node = Serving(organization())
    assert node.ask("cluster.execute", subject="c-1").allowed
    answer = node.ask("cluster.execute", subject="c-1")
    assert (answer.status, error(answer)["details"]["limit_name"]) == (429, "operation_concurrency")
    assert error(answer)["details"]["scope"] == "operation:org_heron:cluster.execute:c-1"
    assert node.ask("cluster.execute", subject="c-2").allowed
    node.end()
    assert node.ask("cluster.execute", subject="c-1").allowed


def test_a_cluster_that_runs_elsewhere_is_closed_by_the_workers_block() -> None:
    block = decision_record(
        kind="operation", name="org_heron", operation="cluster.execute", subject="c-1",
        limit_name="operation_concurrency", limit=1, observed=1,
    )  # fmt: skip
    node = Serving(organization(), block)
    assert dict(node.ask("cluster.execute", subject="c-1").headers)["Retry-After"] == "1"
    assert node.ask("cluster.execute", subject="c-2").allowed


@pytest.mark.contract("3.5", "9.24")
def test_a_batch_is_submitted_once_in_sixty_seconds_from_its_admission() -> None:
    node = Serving(organization())
    assert node.ask("batch.submit", subject="b-1").allowed
    node.end(404)
    answer = node.ask("batch.submit", NOW_MS + 1_500, subject="b-1")
    assert answer.status == 429
    assert error(answer)["details"] == {
        "limit": 1, "window": "1m", "retry_after": 59, "scope": "operation:org_heron:batch.submit:b-1",
        "limit_name": "operation_interval",
    }  # fmt: skip
    assert node.ask("batch.submit", NOW_MS + 1_500, subject="b-2").allowed
    assert node.ask("batch.submit", NOW_MS + 60_000, subject="b-1").allowed


@pytest.mark.contract("9.24")
def test_a_batch_whose_submission_failed_here_may_be_submitted_again() -> None:
    node = Serving(organization())
    assert node.ask("batch.submit", subject="b-1").allowed
    node.end(503)
    assert node.ask("batch.submit", subject="b-1").allowed


@pytest.mark.contract("3.7", "9.3")
def test_ten_web_searches_a_minute_also_inside_other_requests_and_none_for_cache_hits() -> None:
    node = Serving(organization())
    charged = {"charges": ("search.web",)}
    assert [node.ask("retriever.execute", **charged).status for _ in range(6)] == [200] * 6
    assert [node.ask("search.web").status for _ in range(5)] == [200] * 4 + [429]
    answer = node.ask("retriever.execute", **charged)
    assert error(answer)["details"] == {
        "limit": 10, "window": "1m", "retry_after": 6, "scope": "operation:org_heron:search.web",
        "limit_name": "operation_quantity",
    }  # fmt: skip
    assert node.ask("search.web", cached=True).allowed
    assert node.ask("retriever.execute", charges=(WireCharge("search.web", None, None, True),)).allowed
    assert node.ask("search.web", NOW_MS + 6_000).allowed


def test_a_charge_that_was_not_made_is_given_back() -> None:
    node = Serving(organization())
    for _ in range(10):
        node.ask("retriever.execute", charges=("search.web",))
    assert not node.ask("search.web").allowed
    node.end()
    assert node.ask("search.web").allowed


@pytest.mark.contract("3.7")
def test_tokens_of_a_minute_are_known_when_requests_end_and_then_close_the_operation() -> None:
    node = Serving(organization())
    assert node.ask("inference.llm").allowed
    node.end(tokens=150_000)
    answer = node.ask("inference.llm")
    assert error(answer)["details"]["retry_after"] == 31
    assert node.ask("inference.llm", NOW_MS + 31_000).allowed


def test_tokens_that_are_said_beforehand_are_taken_beforehand() -> None:
    node = Serving(organization())
    assert node.ask("inference.llm", quantities={"tokens": 70_000}).allowed
    assert node.ask("inference.llm", quantities={"tokens": 40_000}).status == 429
    node.end(tokens=1_000)
    assert node.ask("inference.llm", quantities={"tokens": 40_000}).allowed


@pytest.mark.contract("3.8", "9.27")
def test_a_list_of_more_than_its_most_results_is_a_bad_request() -> None:
    answer = Gate(heron()).check(SECRET, "documents.list", results=10_001, now_ms=NOW_MS)
    assert answer.status == 400
    assert error(answer) == {
        "message": "Too many results requested",
        "type": "BadRequestError",
        "details": {"limit": 10_000, "requested": 10_001, "limit_name": "operation_results"},
    }
    assert dict(answer.headers)["X-RateLimit-Remaining"] == "479", "it takes a token"
    assert Gate(heron()).check(SECRET, "documents.list", results=10_000, now_ms=NOW_MS).allowed


# ---- amounts ----


@pytest.mark.contract("3.24")
def test_the_403_of_a_resource_quota_is_the_contracts() -> None:
    block = used_record("quota_collections", 5, 5, verdict="block", decision_id="d-9")
    answer = Gate(heron(organization(tier="free"), block)).check(SECRET, "collections.create", now_ms=NOW_MS)
    assert answer.body == (
        b'{"success": false, "status": 403, "error": {"message": "Collection quota exceeded", '
        b'"type": "QuotaExceededError", "details": {"resource": "collections", "current": 5, "limit": 5, '
        b'"requested": 1, "tier": "free", "scope": "organization:org_heron", "limit_name": "quota_collections", '
        b'"decision_id": "d-9"}}}'
    )


@pytest.mark.contract("3.10")
@pytest.mark.parametrize("operation", ["collections.list", "collections.get", "collections.delete", "buckets.create"])
def test_a_full_quota_closes_the_creation_of_its_resource_and_nothing_else(operation: str) -> None:
    gate = Gate(heron(used_record("quota_collections", 50, 50, verdict="block")))
    assert gate.check(SECRET, operation, now_ms=NOW_MS).allowed


@pytest.mark.contract("9.25")
def test_a_batch_that_would_pass_a_quota_is_refused_whole() -> None:
    gate = Gate(heron(organization(), used_record("quota_documents", 1_000_000, 999_000)))
    assert gate.check(SECRET, "documents.create", creates=1_000, now_ms=NOW_MS).allowed
    answer = gate.check(SECRET, "documents.create", creates=1_001, now_ms=NOW_MS)
    details = error(answer)["details"]
    assert (answer.status, details["current"], details["requested"]) == (403, 999_000, 1_001)


def test_a_batch_larger_than_the_whole_quota_needs_no_count_to_be_refused() -> None:
    gate = Gate(heron(organization(quotas={"documents": 10})))
    assert gate.check(SECRET, "documents.create", creates=10, now_ms=NOW_MS).allowed
    details = error(gate.check(SECRET, "documents.create", creates=11, now_ms=NOW_MS))["details"]
    assert "current" not in details


@pytest.mark.contract("1.11")
def test_a_batch_has_at_most_so_many_objects() -> None:
    gate = Gate(heron(organization(objects_per_batch=100)))
    assert gate.check(SECRET, "batch.submit", objects=100, now_ms=NOW_MS).allowed
    answer = gate.check(SECRET, "batch.submit", objects=101, now_ms=NOW_MS)
    assert (answer.status, error(answer)["message"]) == (403, "Batch object quota exceeded")


@pytest.mark.contract("1.21")
@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        ("organization", "org_heron", {}),
        ("key", "key_heron_1", {}),
        ("label", "org_heron", {"label": "pipeline=p-1"}),
    ],
)
def test_a_budget_that_is_used_up_closes_its_scope_for_what_costs(kind: Any, name: str, more: Any) -> None:
    until_ms = NOW_MS + 3_600_000
    block = decision_record(
        kind=kind, name=name, limit_name="budget_day", limit=5_000_000, observed=5_100_000, until_ms=until_ms, **more
    )
    gate = Gate(heron(block))
    answer = gate.check(SECRET, "search.knn", labels={"pipeline": "p-1"}, now_ms=NOW_MS)
    details = error(answer)["details"]
    assert (answer.status, error(answer)["message"]) == (403, "Daily budget exceeded")
    assert (details["resource"], details["current"], details["limit"]) == ("budget", 5.1, 5)
    assert details["reset_date"] == "2026-03-10T13:00:00Z"
    assert gate.check(SECRET, "collections.list", labels={"pipeline": "p-1"}, now_ms=NOW_MS).allowed
    others = gate.check(SECRET, "search.knn", labels={"pipeline": "p-2"}, now_ms=NOW_MS)
    assert others.allowed == (kind == "label")


@pytest.mark.contract("1.17")
def test_credits_reserved_for_a_category_close_the_other_categories() -> None:
    block = credit_block(kind="category", category="search", decision_id="d-category")
    gate = Gate(heron(block))
    assert gate.check(SECRET, "search.knn", now_ms=NOW_MS).decision_id == "d-category"
    assert gate.check(SECRET, "inference.embedding", now_ms=NOW_MS).allowed


# ---- several at once ----


@pytest.mark.contract("9.22")
def test_where_several_fire_the_one_that_clears_last_is_told_and_all_are_listed() -> None:
    month = credit_block()
    day = used_record("budget_day", 5_000_000, 5_000_000, verdict="block", until_ms=NOW_MS + 3_600_000)
    answer = Gate(heron(day, month)).check(SECRET, "search.knn", now_ms=NOW_MS)
    assert answer.decision_id == "d-credits"
    assert [one["limit_name"] for one in error(answer)["details"]["limits"]] == ["credits", "budget_day"]
    assert error(answer)["details"]["limits"][1] == {
        "limit_name": "budget_day", "scope": "organization:org_heron", "limit": 5, "current": 5,
        "clears_at": "2026-03-10T13:00:00Z", "decision_id": "d-budget_day",
    }  # fmt: skip


def test_what_is_throttled_is_answered_429_though_its_credits_are_used_up_too() -> None:
    block = decision_record(until_ms=NOW_MS + 5_000)
    answer = Gate(heron(credit_block(), block)).check(SECRET, "search.knn", now_ms=NOW_MS)
    assert (answer.status, dict(answer.headers)["Retry-After"]) == (429, "5")
    assert [one["limit_name"] for one in error(answer)["details"]["limits"]] == ["credits", "requests_per_minute"]


@pytest.mark.parametrize(("charged", "left"), [(False, 50), (True, 20)])
def test_a_plan_may_charge_a_refused_request_the_tokens_that_there_are(charged: bool, left: int) -> None:
    topic, name, value = catalogue_record()
    record = json.loads(value or b"")
    record["sequence"] = 1
    record["catalogue"]["plans"]["pro"]["throttled_takes_token"] = charged
    rates = RateLimits(requests_per_second=1_000, burst=1_000, requests_per_minute=100)
    gate = Gate(heron(organization(rates=rates), (topic, name, json.dumps(record).encode())))
    statuses = [gate.check(SECRET, "search.knn", now_ms=NOW_MS).status for _ in range(80)]
    assert statuses == [200] * 50 + [429] * 30
    assert sum(gate.check(SECRET, "collections.list", now_ms=NOW_MS).allowed for _ in range(100)) == left


def test_a_count_that_fell_below_what_workers_tell_of_refuses_no_batch() -> None:
    gate = Gate(heron(organization(), used_record("quota_documents", 1_000_000, 799_000)))
    assert gate.check(SECRET, "documents.create", creates=900_000, now_ms=NOW_MS).allowed
