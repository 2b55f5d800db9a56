"""What the gate answers, byte for byte (requirements, sections 3 and 9)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.gate import Answer, Gate, GateSettings
from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, MICRO_PER_CREDIT, to_epoch_ms
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.http import ErrorBody
from sluicegate_schemas.limits import RateLimits
from tests.gating import (
    NOW_MS,
    SECRET,
    Known,
    catalogue_record,
    credit_block,
    decision_record,
    heron,
    key_record,
    organization_record,
)

PRO_MINUTE = {
    "X-RateLimit-Limit": "600",
    "X-RateLimit-Remaining": "599",
    "X-RateLimit-Reset": str(NOW_MS // 1000 + 1),
    "X-RateLimit-Window": "60",
    "RateLimit-Policy": '"requests_per_second";q=200;w=2, "requests_per_minute";q=600;w=60',
    "RateLimit": '"requests_per_second";r=199;t=1, "requests_per_minute";r=599;t=1',
}
PRO_SEARCH = PRO_MINUTE | {
    "X-RateLimit-Limit": "300",
    "X-RateLimit-Remaining": "299",
    "RateLimit-Policy": PRO_MINUTE["RateLimit-Policy"] + ', "search_per_minute";q=300;w=60',
    "RateLimit": PRO_MINUTE["RateLimit"] + ', "search_per_minute";r=299;t=1',
}
JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
TEST_SECRET = "sk_test_demo_key_heron_test"


def ask(known: Known, operation: str = "collections.list", *, now_ms: int = NOW_MS, **more: object) -> Answer:
    return Gate(known).check(SECRET, operation, now_ms=now_ms, **more)  # type: ignore[arg-type]  # check's arguments


@pytest.mark.contract("3.22")
def test_an_allowed_request_carries_the_minute_bucket_and_both_policies() -> None:
    answer = ask(heron())
    assert (answer.allowed, answer.status, answer.body) == (True, 200, None)
    assert dict(answer.headers) == PRO_MINUTE
    assert answer.key is not None
    assert answer.key.api_key_id == "key_heron_1"


@pytest.mark.contract("3.23")
def test_the_429_of_the_own_minute_bucket_is_the_contracts() -> None:
    rates = RateLimits(requests_per_second=1_000, burst=1_000, requests_per_minute=4)
    gate = Gate(heron(organization_record(rates=rates, rank=(2, 0))))
    assert [gate.check(SECRET, "collections.list", now_ms=NOW_MS).status for _ in range(4)] == [200] * 4
    answer = gate.check(SECRET, "collections.list", now_ms=NOW_MS + 1)
    assert (answer.allowed, answer.status) == (False, 429)
    assert answer.body == (
        b'{"success": false, "status": 429, "error": {"message": "Rate limit exceeded", '
        b'"type": "TooManyRequestsError", "details": {"limit": 4, "window": "1m", "retry_after": 15, '
        b'"scope": "key:key_heron_1", "limit_name": "requests_per_minute"}}}'
    )
    assert dict(answer.headers) == JSON | {
        "Retry-After": "15",
        "X-RateLimit-Limit": "4",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(NOW_MS // 1000 + 60),
        "X-RateLimit-Window": "60",
        "RateLimit-Policy": '"requests_per_second";q=1000;w=1, "requests_per_minute";q=4;w=60',
        "RateLimit": '"requests_per_second";r=997;t=1, "requests_per_minute";r=0;t=60',
    }


@pytest.mark.contract("9.20")
def test_the_429_of_the_second_bucket_tells_of_the_second() -> None:
    gate = Gate(heron())
    statuses = [gate.check(SECRET, "collections.list", now_ms=NOW_MS).status for _ in range(201)]
    assert statuses == [200] * 200 + [429]
    answer = gate.check(SECRET, "collections.list", now_ms=NOW_MS)
    details = json.loads(answer.body or b"")["error"]["details"]
    assert details == {
        "limit": 100,
        "window": "1s",
        "retry_after": 1,
        "scope": "key:key_heron_1",
        "limit_name": "requests_per_second",
    }
    headers = dict(answer.headers)
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Window"]) == ("100", "1")
    assert headers["X-RateLimit-Remaining"] == "0"


@pytest.mark.contract("3.3")
def test_a_refused_request_takes_no_token() -> None:
    gate = Gate(heron())
    for _ in range(200 + 300):
        gate.check(SECRET, "collections.list", now_ms=NOW_MS)
    answer = gate.check(SECRET, "collections.list", now_ms=NOW_MS + 10)
    assert answer.allowed
    assert dict(answer.headers)["X-RateLimit-Remaining"] == str(600 - 201)


def test_a_workers_rate_block_answers_429_with_its_decision_until_its_time() -> None:
    block = decision_record(until_ms=NOW_MS + 14_001, observed=740, decision_id="d-77")
    gate = Gate(heron(block))
    answer = gate.check(SECRET, "collections.list", now_ms=NOW_MS)
    assert answer.status == 429
    assert answer.body == (
        b'{"success": false, "status": 429, "error": {"message": "Rate limit exceeded", '
        b'"type": "TooManyRequestsError", "details": {"limit": 600, "window": "1m", "retry_after": 15, '
        b'"scope": "key:key_heron_1", "limit_name": "requests_per_minute", "decision_id": "d-77"}}}'
    )
    headers = dict(answer.headers)
    assert headers["X-RateLimit-Remaining"] == "0"
    assert headers["X-RateLimit-Reset"] == str(NOW_MS // 1000 + 74)
    assert headers["RateLimit"] == '"requests_per_second";r=200;t=0, "requests_per_minute";r=0;t=74'
    assert answer.decision_id == "d-77"
    assert gate.check(SECRET, "collections.list", now_ms=NOW_MS + 14_000).status == 429
    cleared = gate.check(SECRET, "collections.list", now_ms=NOW_MS + 14_001)
    assert cleared.allowed
    assert dict(cleared.headers)["X-RateLimit-Remaining"] == "599"


@pytest.mark.contract("9.22")
def test_the_longest_of_the_limits_that_fired_is_told() -> None:
    minute = decision_record(until_ms=NOW_MS + 20_000, decision_id="d-minute")
    second = decision_record(until_ms=NOW_MS + 500, limit_name="requests_per_second", limit=200, decision_id="d-second")
    answer = ask(heron(second, minute))
    assert dict(answer.headers)["Retry-After"] == "20"
    assert answer.decision_id == "d-minute"


def test_a_block_without_an_end_is_tried_again_after_its_window() -> None:
    assert dict(ask(heron(decision_record(until_ms=None))).headers)["Retry-After"] == "60"


@pytest.mark.parametrize(
    ("kind", "name", "operation"),
    [("organization", "org_heron", None), ("operation", "org_heron", "collections.list")],
)
def test_a_rate_block_on_the_organization_or_its_operation_is_obeyed(
    kind: str, name: str, operation: str | None
) -> None:
    block = decision_record(kind=kind, name=name, operation=operation, until_ms=NOW_MS + 1)  # type: ignore[arg-type]  # a kind
    assert ask(heron(block)).status == 429
    assert ask(heron(block), "collections.get").status == (200 if operation else 429)


def test_a_lifted_block_lets_through_at_once() -> None:
    block = decision_record(until_ms=NOW_MS + 60_000)
    assert ask(heron(block, decision_record(verdict="allow", rank=(1, 2)))).allowed
    assert not ask(heron(decision_record(verdict="allow", rank=(1, 0)), block)).allowed


@pytest.mark.contract("3.25", "9.18")
def test_the_403_of_used_up_credits_is_the_contracts_and_takes_its_token() -> None:
    answer = ask(heron(credit_block()), "search.knn")
    assert (answer.allowed, answer.status) == (False, 403)
    assert answer.body == (
        b'{"success": false, "status": 403, "error": {"message": "Credit quota exceeded", '
        b'"type": "QuotaExceededError", "details": {"resource": "credits", "current": 500.1, "limit": 500, '
        b'"tier": "pro", "reset_date": "2026-04-01T00:00:00Z", "scope": "account:org_heron", '
        b'"limit_name": "credits", "decision_id": "d-credits"}}}'
    )
    assert dict(answer.headers) == JSON | PRO_SEARCH


@pytest.mark.contract("3.9")
def test_a_credit_block_leaves_open_what_costs_nothing() -> None:
    known = heron(credit_block(), key_record(TEST_SECRET, name="key_heron_test", mode="test"))
    gate = Gate(known)
    assert gate.check(SECRET, "collections.list", now_ms=NOW_MS).allowed
    assert gate.check(SECRET, "not.on.card", now_ms=NOW_MS).allowed
    assert gate.check(SECRET, "search.knn", cached=True, now_ms=NOW_MS).allowed
    charges = [WireCharge("search.knn", cached=True)]
    assert gate.check(SECRET, "retriever.execute", charges=charges, now_ms=NOW_MS).allowed
    charges += [WireCharge("search.knn")]
    assert gate.check(SECRET, "retriever.execute", charges=charges, now_ms=NOW_MS).status == 403
    assert gate.check(TEST_SECRET, "search.knn", now_ms=NOW_MS).allowed
    assert gate.check(SECRET, "retriever.execute", now_ms=NOW_MS).allowed
    assert gate.check(SECRET, "retriever.execute", charges=("search.knn",), now_ms=NOW_MS).status == 403


@pytest.mark.contract("3.9")
def test_a_credit_block_ends_with_its_month() -> None:
    april_ms = to_epoch_ms(datetime(2026, 4, 1, tzinfo=UTC))
    assert ask(heron(credit_block()), "search.knn", now_ms=april_ms - 1).status == 403
    assert ask(heron(credit_block()), "search.knn", now_ms=april_ms).allowed


@pytest.mark.parametrize(("month", "reset"), [(3, "2026-04-01T00:00:00Z"), (12, "2027-01-01T00:00:00Z")])
def test_a_credit_block_without_an_end_names_the_next_month(month: int, reset: str) -> None:
    now_ms = to_epoch_ms(datetime(2026, month, 31, 23, 59, 59, tzinfo=UTC))
    answer = ask(heron(credit_block(until_ms=None)), "search.knn", now_ms=now_ms)
    assert json.loads(answer.body or b"")["error"]["details"]["reset_date"] == reset


@pytest.mark.parametrize(
    ("secret", "message", "challenge"),
    [
        (None, "Missing API key", "Bearer"),
        ("", "Missing API key", "Bearer"),
        ("sk_live_demo_nobody", "Invalid API key", 'Bearer error="invalid_token"'),
        ("key_heron_1", "Invalid API key", 'Bearer error="invalid_token"'),
        (SECRET + "\n", "Invalid API key", 'Bearer error="invalid_token"'),
        ("sk_live_" + "x" * 10_000, "Invalid API key", 'Bearer error="invalid_token"'),
        ("sk_live_\udcff\x00€€€€€€€€", "Invalid API key", 'Bearer error="invalid_token"'),
    ],
)
def test_a_caller_without_a_good_key_gets_401(secret: str | None, message: str, challenge: str) -> None:
    answer = Gate(heron()).check(secret, "collections.list", now_ms=NOW_MS)
    assert (answer.allowed, answer.status, answer.key) == (False, 401, None)
    assert answer.body == (
        b'{"success": false, "status": 401, "error": {"message": "%s", "type": "AuthenticationError", '
        b'"details": {"field": "Authorization"}}}' % message.encode()
    )
    assert dict(answer.headers) == JSON | {"WWW-Authenticate": challenge}


@pytest.mark.contract("1.4")
def test_a_revoked_key_and_one_that_never_was_get_the_same_answer() -> None:
    revoked = ask(heron(key_record(revoked=True, rank=(1, 2))))
    never = Gate(heron()).check("sk_live_demo_nobody", "collections.list", now_ms=NOW_MS)
    assert revoked.body == never.body
    assert revoked.headers == never.headers


def test_a_cold_gate_refuses_with_503_until_it_knows_what_stands() -> None:
    known = heron()
    known.ready = False
    gate = Gate(known)
    answer = gate.check(SECRET, "collections.list", now_ms=NOW_MS)
    assert (answer.allowed, answer.status) == (False, 503)
    assert answer.body == (
        b'{"success": false, "status": 503, "error": {"message": "The service is starting", '
        b'"type": "ServiceUnavailableError", "details": {}}}'
    )
    assert dict(answer.headers) == JSON | {"Retry-After": "1"}
    known.ready = True
    assert gate.check(SECRET, "collections.list", now_ms=NOW_MS).allowed


def test_a_cold_gate_may_be_told_to_admit() -> None:
    known = Known(ready=False)
    answer = Gate(known, GateSettings(when_not_ready="admit")).check(SECRET, "collections.list", now_ms=NOW_MS)
    assert (answer.allowed, answer.key) == (True, None)


def test_a_key_whose_limits_are_not_known_yet_gets_503() -> None:
    assert ask(Known().learn(catalogue_record(), key_record())).status == 503
    assert ask(Known().learn(organization_record(), key_record())).status == 503


@pytest.mark.contract("1.4")
def test_a_key_that_two_accounts_have_is_refused_until_one_of_them_ends_it() -> None:
    known = heron(key_record(organization="org_finch", name="key_finch_1"), organization_record("org_finch"))
    answer = ask(known)
    assert (answer.status, dict(answer.headers)["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert "more than one account" in json.loads(answer.body or b"")["error"]["message"]
    known.view.apply(*key_record(organization="org_finch", name="key_finch_1", revoked=True, rank=(2, 1)))
    answer = ask(known)
    assert answer.key is not None
    assert (answer.status, answer.key.organization_id) == (200, "org_heron")


def test_a_view_without_room_answers_503_for_a_key_it_may_have_lost() -> None:
    known = heron()
    known.view.complete = False
    assert Gate(known).check("sk_live_demo_nobody", "collections.list", now_ms=NOW_MS).status == 503
    assert Gate(known).check("none at all", "collections.list", now_ms=NOW_MS).status == 401
    assert ask(known).allowed


def test_a_view_without_room_does_not_tell_revoked_keys_from_those_it_may_have_lost() -> None:
    known = heron()
    known.view.complete = False
    lost = Gate(known).check("sk_live_demo_nobody", "collections.list", now_ms=NOW_MS)
    known.view.apply(*key_record(revoked=True, rank=(2, 1)))
    assert ask(known) == lost


def test_an_enterprise_without_limits_is_never_throttled_and_gets_no_figures() -> None:
    gate = Gate(heron(organization_record(tier="enterprise", rank=(2, 0))))
    answers = [gate.check(SECRET, "collections.list", now_ms=NOW_MS) for _ in range(1_000)]
    assert all(answer.allowed and not answer.headers for answer in answers)


@pytest.mark.contract("1.15")
def test_an_own_limit_replaces_the_plans() -> None:
    rates = RateLimits(requests_per_second=5, burst=5, requests_per_minute=7)
    answer = ask(heron(organization_record(rates=rates, rank=(2, 0))))
    assert dict(answer.headers)["X-RateLimit-Limit"] == "7"


def test_every_refusal_is_of_the_published_form() -> None:
    refusals = [
        ask(heron(decision_record(until_ms=NOW_MS + 1))),
        ask(heron(credit_block()), "search.knn"),
        Gate(heron()).check(None, "collections.list", now_ms=NOW_MS),
        ask(Known().learn(key_record())),
    ]
    assert [answer.status for answer in refusals] == [429, 403, 401, 503]
    for answer in refusals:
        assert ErrorBody.model_validate_json(answer.body or b"").status == answer.status


@pytest.mark.contract("9.15")
@given(st.integers(0, CREDITS_MICRO_MAX), st.integers(0, CREDITS_MICRO_MAX))
def test_credits_in_a_body_are_exact_to_the_micro_credit(used_micro: int, total_micro: int) -> None:
    body = ask(heron(credit_block(limit=total_micro, observed=used_micro)), "search.knn").body or b""
    details = json.loads(body, parse_float=str, parse_int=str)["error"]["details"]
    for text, micro in ((details["current"], used_micro), (details["limit"], total_micro)):
        assert Decimal(text) * MICRO_PER_CREDIT == micro
        assert ("." in text) == (micro % 1_000_000 != 0)
        assert not text.endswith(".")
        assert not ("." in text and text.endswith("0"))
