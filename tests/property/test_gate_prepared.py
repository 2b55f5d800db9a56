"""What a gate prepares changes no answer: it agrees with one that looks at each request in full."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.follower import Limits, View, stamps
from sluicegate.gate import Answer, Gate, Hold, Shortfall, Spend
from sluicegate.gate.soft import SoftHold
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.limits import FailureMode, RateLimits
from tests.gating import (
    CATALOGUE,
    NOW,
    NOW_MS,
    SECRET,
    Known,
    TopicRecord,
    catalogue_record,
    credit_block,
    decision_record,
    heron,
    key_record,
)
from tests.gating import organization_record as organization

OPERATIONS = ("search.knn", "search.knn", "search.knn", "namespaces.create", "inference.llm", "nothing.known")
_TIGHT = RateLimits(requests_per_second=2, burst=3, requests_per_minute=20)
BEGINNING: dict[str, Any] = {
    "concurrency": 2,
    "credits_mode": "soft",
    "failure_modes": {
        "search": FailureMode(mode="closed"),
        "compute": FailureMode(mode="allowance", allowance_percent=1),
    },
}


class PaysAll:
    """A reserve of the service's own: with one, a gate prepares nothing."""

    def short(self, spend: Spend, now_ms: int) -> Shortfall | None:
        return None

    def hold(self, spend: Spend, now_ms: int) -> Hold:
        return SoftHold((), 0)

    def suspend(self, hold: Hold) -> None:
        pass

    def resume(self, hold: Hold) -> None:
        pass

    def settle(self, hold: Hold, cost_micro: int, now_ms: int) -> None:
        pass


def news(kind: str, number: int, now_ms: int) -> TopicRecord:
    """Something that a gate may hear at ``now_ms``, newer than all before."""
    rank, block = (2, number), number % 2 == 0
    match kind:
        case "credits":
            return credit_block(rank=rank, until_ms=now_ms + 5_000, decision_id=f"d-{number}")
        case "key":
            until_ms = now_ms + 1_500
            return decision_record(rank=rank, until_ms=until_ms, verdict="block" if block else "allow")
        case "used":
            return decision_record(
                kind="account", name="org_heron", limit_name="credits", limit=5_000_000,
                observed=4_700_000 + number % 3 * 100_000, verdict="allow", rank=rank, decision_id=f"d-{number}",
                until_ms=now_ms + 500 if block else None,
            )  # fmt: skip
        case "quota":
            return decision_record(
                kind="organization", name="org_heron", limit_name="quota_namespaces", limit=10, observed=9 + number % 3,
                verdict="allow", rank=rank,
            )  # fmt: skip
        case "serving":
            return decision_record(
                kind="organization", name="org_heron", limit_name="concurrency", limit=3, observed=number % 5,
                verdict="allow", rank=rank, decision_id=f"d-{number}",
            )  # fmt: skip
        case "plan":
            rates = _TIGHT if block else None
            return organization(**BEGINNING | {"rates": rates, "rank": rank, "concurrency": number % 3 + 1})
        case "hard":
            return organization(**BEGINNING | {"rank": rank, "credits_mode": "hard" if block else "soft"})
        case "catalogue":
            effective_at = from_epoch_ms(now_ms + number % 3 * 500)
            catalogue = CATALOGUE.model_copy(update={"version": 1_000 + number, "effective_at": effective_at})
            record = CatalogueRecord(catalogue=catalogue, published_at=effective_at, published_by="test")
            return "catalog", str(catalogue.version).encode(), record.model_dump_json().encode()
        case "category":
            return decision_record(
                kind="category", name="org_heron", category="search", limit_name="credits", rank=rank,
                verdict="block" if block else "allow", until_ms=now_ms + 1_500, decision_id=f"d-{number}",
            )  # fmt: skip
        case "operation":
            return decision_record(
                kind="operation", name="org_heron", operation="search.knn", limit_name="operation_quantity", rank=rank,
                verdict="block" if block else "allow", until_ms=now_ms + 1_500, decision_id=f"d-{number}",
            )  # fmt: skip
        case "claim":
            return key_record(organization="org_finch", name="key_finch_1", rank=rank, revoked=not block)
        case "forgotten":
            topic, key, _ = credit_block() if block else key_record()
            return topic, key, None
    return key_record(rank=rank, revoked=block)


KINDS = (
    "credits", "key", "used", "quota", "serving", "plan", "hard", "catalogue", "category", "operation", "claim",
    "forgotten", "revoke",
)  # fmt: skip
check = st.tuples(st.just("check"), st.sampled_from(OPERATIONS), st.booleans())
learn = st.tuples(st.just("learn"), st.sampled_from(KINDS), st.just(False))
passing = st.tuples(st.just("wait"), st.sampled_from(["0", "7", "400", "3000", "70000", "-50"]), st.just(False))
ending = st.tuples(st.just("end"), st.just(""), st.booleans())
quiet = st.tuples(st.just("silence"), st.just(""), st.booleans())
steps = st.lists(st.one_of(check, check, check, learn, passing, ending, quiet), max_size=60)


def shown(answer: Answer) -> tuple[Any, ...]:
    """All that a service sees of an answer, and what it holds back."""
    admission = answer.admission
    spend = None if admission is None or not answer.allowed else admission.spend
    return answer.status, answer.headers, answer.body, answer.decision_id, answer.key, spend


class Service:
    """A gate, and what runs behind it."""

    def __init__(self, known: Known, gate: Gate) -> None:
        self.known, self.gate, self.running = known, gate, list[Any]()

    def step(self, step: tuple[str, str, bool], number: int, now_ms: int) -> Any:
        what, argument, flag = step
        match what:
            case "check":
                answer = self.gate.check(SECRET, argument, now_ms=now_ms)
                if answer.allowed and flag:
                    self.running.append(self.gate.begin(answer, now_ms))
                return shown(answer)
            case "learn":
                self.known.learn(news(argument, number, now_ms))
            case "end" if self.running:
                running = self.running.pop()
                self.gate.end(running, 200 if flag else 500, running.admission.asked.all_charges(), now_ms)
            case "silence":
                self.known.contact_ms = now_ms - 60_000 if flag else now_ms
        return None


@given(steps)
def test_a_prepared_gate_answers_like_one_that_looks_at_each_request_in_full(given_steps: list[Any]) -> None:
    beginning = organization(**BEGINNING, rank=(2, 0))
    one, other = heron(beginning), heron(beginning)
    prepared, full = Service(one, Gate(one)), Service(other, Gate(other, reserves=[PaysAll()]))
    now_ms = NOW_MS
    for number, step in enumerate(given_steps):
        if step[0] == "wait":
            now_ms += int(step[1])
        assert prepared.step(step, number, now_ms) == full.step(step, number, now_ms), (number, step)


def test_a_request_of_which_nothing_is_special_is_prepared() -> None:
    gate = Gate(heron())
    for _ in range(3):
        assert gate.check(SECRET, "search.knn", now_ms=NOW_MS).allowed
    assert len(gate._prepared) == 1


def test_news_of_others_leaves_what_is_prepared_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    known = heron(organization("org_finch"))
    gate = Gate(known)
    gate.check(SECRET, "search.knn", now_ms=NOW_MS)
    monkeypatch.setattr(gate, "_decide", lambda *_: pytest.fail("it was looked at in full"))
    for others in (
        decision_record(name="key_finch_1"),
        key_record("sk_live_demo_key_finch_1", name="key_finch_1", organization="org_finch"),
        organization("org_finch", rank=(2, 1)),
        decision_record(kind="organization", name="org_finch", limit_name="concurrency"),
        decision_record(kind="account", name="org_finch", limit_name="credits", verdict="allow"),
    ):
        known.learn(others)
        assert gate.check(SECRET, "search.knn", now_ms=NOW_MS).allowed


@pytest.mark.parametrize("stamps_max", [1, 3, 1_000])
def test_a_member_of_a_pool_hears_of_its_payer_however_few_are_remembered(
    stamps_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "STAMPS_MAX", stamps_max)
    secret = "sk_live_demo_key_wren_1"
    member = organization("org_wren", account_id="org_heron", rank=(1, 1))
    known = heron(member, key_record(secret, name="key_wren_1", organization="org_wren", account="org_heron"))
    gate = Gate(known)
    for _ in range(2):
        assert gate.check(secret, "search.knn", now_ms=NOW_MS).allowed
        assert gate.check(SECRET, "search.knn", now_ms=NOW_MS).allowed
    known.learn(credit_block(rank=(2, 1), until_ms=NOW_MS + 5_000))
    assert gate.check(secret, "search.knn", now_ms=NOW_MS).status == 403
    known.learn(credit_block(rank=(2, 2), until_ms=NOW_MS, decision_id="d-2"))
    assert gate.check(secret, "search.knn", now_ms=NOW_MS).allowed
    known.learn(organization(rank=(3, 1), credits_mode="hard"))
    assert gate.check(secret, "search.knn", now_ms=NOW_MS).status == 503
    known.learn(organization(rank=(3, 2)))
    assert gate.check(secret, "search.knn", now_ms=NOW_MS).allowed
    names = {"name": "key_wren_1", "organization": "org_wren", "account": "org_heron"}
    known.learn(key_record(secret, **names, revoked=True, rank=(2, 1)))
    assert gate.check(secret, "search.knn", now_ms=NOW_MS).status == 401


def test_a_block_that_makes_an_allow_go_concerns_whom_that_was_of(monkeypatch: pytest.MonkeyPatch) -> None:
    used = news("used", 1, NOW_MS)
    known = Known(view=View(Limits(decisions_max=1))).learn(catalogue_record(), organization(), key_record(), used)
    gate = Gate(known)
    assert gate.check(SECRET, "search.knn", now_ms=NOW_MS).allowed
    looked_at: list[object] = []
    monkeypatch.setattr(gate, "_decide", lambda verdicts, *_: looked_at.append(verdicts))
    known.learn(decision_record(name="key_finch_1"))
    gate.check(SECRET, "search.knn", now_ms=NOW_MS)
    assert looked_at == [[]], "the allow is known no more"


def test_a_catalogue_that_takes_effect_ends_what_was_prepared() -> None:
    plan = CATALOGUE.plans["pro"].model_copy(update={"rates": _TIGHT})
    changed = {"version": 9, "effective_at": from_epoch_ms(NOW_MS + 1_000), "plans": CATALOGUE.plans | {"pro": plan}}
    record = CatalogueRecord(catalogue=CATALOGUE.model_copy(update=changed), published_at=NOW, published_by="test")
    gate = Gate(heron(("catalog", b"9", record.model_dump_json().encode())))
    policies = [
        dict(gate.check(SECRET, "search.knn", now_ms=NOW_MS + at_ms).headers)["RateLimit-Policy"]
        for at_ms in (0, 1, 999, 1_000, 1_001)
    ]
    assert policies[0] == policies[1] == policies[2]
    assert policies[3] == policies[4]
    assert policies[3].startswith('"requests_per_second";q=3;w=2, "requests_per_minute";q=20;w=60')


def test_what_runs_is_held_against_the_next_prepared_request() -> None:
    one, other = heron(news("used", 0, NOW_MS + 10_000)), heron(news("used", 0, NOW_MS + 10_000))
    statuses = []
    for service in (Service(one, Gate(one)), Service(other, Gate(other, reserves=[PaysAll()]))):
        answers = [service.step(("check", "search.knn", True), 0, NOW_MS) for _ in range(20)]
        statuses.append([status for status, *_ in answers])
    assert statuses[0] == statuses[1]
    assert 200 in statuses[0]
    assert 403 in statuses[0]
