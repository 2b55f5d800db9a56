"""The check is exact: one micro-credit, one event or one envelope too many fails it and is named."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sluicegate_schemas.outputs import Balance, Position, Sequence
from stack.evidence import ClickHouseEvidence, ClickHouseUsage, Evidence, LogEvidence, NodeEvidence
from stack.expected import Totals
from stack.state_rows import WorkerTotals
from stack.verify import Answers, check_all, failure_sentence

MONTH = "2026-02"


def balance(kind: str, name: str, used_micro: int) -> Balance:
    return Balance.model_validate(
        {
            "kind": kind,
            "id": name,
            "account_id": "org_a",
            "organization_id": "org_a",
            "month": MONTH,
            "total_micro": 10**9,
            "used_micro": used_micro,
            "breakdown_micro": {"search": used_micro},
            "requests": 3,
            "as_of": datetime(2026, 2, 10, tzinfo=UTC),
            "source": Position(topic="usage", partition=0, offset=1),
            "sequence": Sequence(epoch=1, counter=1),
        }
    )


def evidence() -> Evidence:
    totals = Totals(
        events_logged=4,
        events_counted=3,
        events_duplicate=1,
        events_forwarded=1,
        forwards_repeated=1,
        requests=3,
        throttled=1,
        credits_micro=200_000,
        by_account=Counter({("org_a", MONTH): 200_000}),
        by_organization=Counter({("org_a", MONTH): 200_000}),
        by_key=Counter({("key_a", MONTH): 200_000}),
        by_breakdown=Counter({("org_a", MONTH, "search"): 200_000}),
        requests_by_organization=Counter({("org_a", MONTH): 3}),
        events_by_organization=Counter({"org_a": 3}),
    )
    envelopes = {("p", 1, 0, 1): (3, 77)}
    kinds = [("account", "org_a"), ("organization", "org_a"), ("key", "key_a")]
    return Evidence(
        NodeEvidence(3, dict(envelopes)),
        LogEvidence(
            totals,
            dict(envelopes),
            3,
            Counter(),
            {(*kind, MONTH): balance(*kind, 200_000) for kind in kinds},
            {},
            WorkerTotals(counted=3, duplicate=2, forwarded=1),
            [],
        ),
        ClickHouseEvidence({"org_a": ClickHouseUsage(3, 0, 1, 200_000, 3)}, 0),
    )


ANSWERS = Answers({"200": 2, "429": 1, "401": 5, "503": 1}, 0, 0)


def test_totals_that_agree_pass() -> None:
    assert failure_sentence(check_all(evidence(), ANSWERS)) is None


def _lose_an_envelope(found: Evidence) -> Evidence:
    found.log.envelopes.clear()
    return found


def _add_an_envelope(found: Evidence) -> Evidence:
    found.log.envelopes["q", 1, 0, 1] = (1, 1)
    return found


def _change_an_event(found: Evidence) -> Evidence:
    found.log.envelopes["p", 1, 0, 1] = (3, 78)
    return found


def _expect_a_micro_credit_more(found: Evidence) -> Evidence:
    found.log.totals.by_account["org_a", MONTH] += 1
    return found


def _charge_a_stranger(found: Evidence) -> Evidence:
    found.log.balances["account", "org_b", MONTH] = balance("account", "org_b", 1)
    return found


def _reject_one(found: Evidence) -> Evidence:
    found.log.rejects["invalid"] += 1
    return found


def _damage_the_state(found: Evidence) -> Evidence:
    found.log.state_damage.append("partition 3: wrong")
    return found


def _lose_a_forward(found: Evidence) -> Evidence:
    found.log.forwards_wrong.append((2, 17, 0))
    return found


def _say(workers: WorkerTotals) -> Callable[[Evidence], Evidence]:
    return lambda found: replace(found, log=replace(found.log, workers=workers))


def _show(usage: ClickHouseUsage) -> Callable[[Evidence], Evidence]:
    return lambda found: replace(found, clickhouse=ClickHouseEvidence({"org_a": usage}, 0))


@pytest.mark.parametrize(
    ("corrupt", "said"),
    [
        (_lose_an_envelope, "1 envelopes are missing or differ"),
        (_add_an_envelope, "1 envelopes are of no node"),
        (_change_an_event, "1 envelopes are missing or differ"),
        (_expect_a_micro_credit_more, "org_a 2026-02: expected 0.200001, found 0.2"),
        (_charge_a_stranger, "org_b 2026-02: expected 0, found 0.000001"),
        (_reject_one, "events rejected (expected 0, found 1 (+1))"),
        (_damage_the_state, "partition 3: wrong"),
        (_show(ClickHouseUsage(3, 0, 1, 199_999, 3)), "org_a: expected 0.2, found 0.199999"),
        (_show(ClickHouseUsage(4, 0, 1, 200_000, 3)), "requests in ClickHouse (expected 3, found 4 (+1))"),
        (_show(ClickHouseUsage(3, 0, 1, 200_000, 4)), "events counted (expected 3, found 4 (+1))"),
        (_lose_a_forward, "brought home as it was (1 events; not offset 17 of partition 2)"),
        (
            _say(WorkerTotals(counted=3, duplicate=3, forwarded=1)),
            "events duplicate (expected 1, found 2 (+1))",
        ),
        (_say(WorkerTotals(counted=3, duplicate=1, forwarded=1)), "events duplicate (expected 1, found 0 (-1))"),
        (_say(WorkerTotals(counted=2, duplicate=2, forwarded=1)), "state (counted: expected 3, found 2)"),
        (_say(WorkerTotals(counted=3, duplicate=2, rejected=1, forwarded=1)), "state (rejected: expected 0, found 1)"),
        (_say(WorkerTotals(counted=3, duplicate=2)), "state (forwarded: expected 1, found 0)"),
        (lambda found: replace(found, clickhouse=replace(found.clickhouse, decisions=1)), "decisions in ClickHouse"),
    ],
)
def test_any_difference_fails_and_is_named(corrupt: Callable[[Evidence], Evidence], said: str) -> None:
    sentence = failure_sentence(check_all(corrupt(evidence()), ANSWERS))
    assert sentence is not None
    assert said in sentence


def test_an_answered_call_without_an_event_fails() -> None:
    sentence = failure_sentence(check_all(evidence(), Answers({"200": 4}, 0, 0)))
    assert sentence is not None
    assert "every answered call was metered, once (4 calls answered, 0 that got no answer, 3 events" in sentence


@pytest.mark.parametrize(("unreachable", "ok"), [(0, False), (1, True), (2, True)])
def test_only_a_call_that_got_no_answer_may_have_an_event_of_its_own(unreachable: int, ok: bool) -> None:
    failure = failure_sentence(check_all(evidence(), Answers({"200": 2}, unreachable, 0)))
    assert (failure is None) is ok
    assert ok or "every answered call was metered, once" in str(failure)
