"""What a gate remembers is bounded, and what lies beyond has the meaning that docs/bounds.md states."""

from __future__ import annotations

import pytest

from sluicegate.follower.lags import KEPT_MAX, KEPT_MS, Lags
from sluicegate.gate import Asked, Gate, GateSettings, Spend
from sluicegate.gate import card as card_module
from sluicegate.gate import terms as terms_module
from sluicegate.gate.card import Card
from sluicegate.gate.quantities import Provider, ProviderBuckets
from sluicegate.gate.soft import SoftReserve
from sluicegate.gate.subjects import Intervals, Subject
from tests.gating import CATALOGUE, NOW_MS, SECRET, heron, used_record


def test_of_more_batches_than_it_remembers_the_gate_forgets_the_one_admitted_longest_ago() -> None:
    intervals = Intervals(100)
    subjects = [Subject("org_heron", "batch.submit", f"b-{number}") for number in range(250)]
    for subject in subjects:
        intervals.close(subject, NOW_MS + 60_000, NOW_MS)
    assert (len(intervals), intervals.forgotten) == (100, 150)
    assert intervals.until_ms(subjects[-1], NOW_MS) == NOW_MS + 60_000
    assert intervals.until_ms(subjects[0], NOW_MS) is None
    for number in range(250, 350):
        intervals.close(Subject("org_heron", "batch.submit", f"b-{number}"), NOW_MS + 180_000, NOW_MS + 120_000)
    assert intervals.forgotten == 150, "what is over is not forgotten before its time"


def test_of_more_providers_than_it_remembers_the_gate_forgets_the_one_used_longest_ago() -> None:
    buckets = ProviderBuckets(100)
    providers = [Provider(f"org_{number}", "search.web") for number in range(250)]
    for provider in providers:
        buckets.take(provider, 10, 10, NOW_MS)
    assert (len(buckets), buckets.forgotten) == (100, 150)
    assert buckets.wait_ms(providers[-1], 10, 1, NOW_MS) == 6_000
    assert buckets.wait_ms(providers[0], 10, 1, NOW_MS) == 0


def spend_of(number: int) -> Spend:
    known = heron(used_record("credits", 10**9, 0, kind="account", name=f"org_{number}"))
    view = known.view
    key, organization = Gate(known).check(SECRET, "search.knn", now_ms=NOW_MS).key, view.organization("org_heron")
    verdicts = list((view.verdicts_on(f"account:org_{number}") or {}).values())
    assert key is not None
    assert organization is not None
    return Spend(key, organization, Asked("search.knn"), "search", 100_000, verdicts)


def test_of_more_soft_limits_than_it_reckons_with_one_with_nothing_running_is_forgotten() -> None:
    soft = SoftReserve(lines_max=5)
    running = soft.hold(spend_of(0), NOW_MS)
    for number in range(1, 30):
        at_ms = NOW_MS + number * 5_000
        soft.settle(soft.hold(spend_of(number), at_ms), 100_000, at_ms)
    assert len(soft) <= 7
    assert soft.forgotten >= 22
    soft.settle(running, 100_000, NOW_MS + 200_000)
    assert soft.reserved_micro == 0


def test_terms_beyond_their_number_are_put_together_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms_module, "TERMS_MAX", 10)
    gate = Gate(heron(), GateSettings())
    for number in range(35):
        assert gate.check(SECRET, f"custom.operation_{number}", now_ms=NOW_MS).allowed
        assert len(gate._terms._terms) <= 10


def test_a_card_remembers_only_so_many_operations_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_module, "UNRATED_MAX", 10)
    card = Card(CATALOGUE)
    for number in range(5_000):
        assert card.priced(f"custom.operation_{number}").category is None
    assert len(card._priced) <= len(CATALOGUE.operations) + 10


def test_lags_are_those_of_the_last_decisions_and_minutes() -> None:
    lags = Lags()
    for number in range(KEPT_MAX + 500):
        lags.add(NOW_MS, NOW_MS + number)
    assert lags.figures(NOW_MS + 2_000).decisions == KEPT_MAX
    assert lags.figures(NOW_MS + 2_000).worst_ms == KEPT_MAX + 499
    assert lags.figures(NOW_MS + KEPT_MS + 10_000) == (0, None, None, None)
    lags.add(NOW_MS + 10**9 + 5, NOW_MS + 10**9)
    assert lags.figures(NOW_MS + 10**9).worst_ms == 0, "a clock behind the broker's measures nothing below 0"
