"""Reservations under a soft limit, over random bursts, ends and words of the workers (requirements, section 3)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.gate import Gate
from sluicegate_schemas.envelope import WireCharge
from tests.gating import NOW_MS, SECRET, heron, organization, used_record

CREDIT = 1_000_000
TOTAL = 200 * CREDIT
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from([500, 4_000, 10_000])),
        st.tuples(st.just("end"), st.tuples(st.integers(0, 50), st.integers(0, 100), st.sampled_from([200, 404, 500]))),
        st.tuples(st.just("wait"), st.integers(0, 3_000)),
        st.tuples(st.just("word"), st.integers(0, 100)),
    ),
    max_size=60,
)


class Account:
    """A pro account of 200 credits at one node, whose workers say now and then what is used; nothing else spends."""

    def __init__(self) -> None:
        self.known = heron(organization(), used_record("credits", TOTAL, 0, kind="account", decision_id="d-0"))
        self.gate = Gate(self.known)
        self.now_ms = NOW_MS
        self.running: list[tuple[Any, int]] = []
        self.used_micro = 0
        self.ended_ms = 0
        self.words = 0
        self.told_micro = 0

    def ask(self, tokens: int) -> None:
        """An LLM call of at most ``tokens``: 10 credits for each started thousand, at most 100."""
        worst_micro = min(100, -(-tokens // 1_000) * 10) * CREDIT
        answer = self.gate.check(SECRET, "inference.llm", quantities={"tokens": tokens}, now_ms=self.now_ms)
        if answer.status == 429:
            return
        alone = not self.running and self.now_ms - self.ended_ms > 2_100
        running_micro = sum(min(100, -(-most // 1_000) * 10) * CREDIT for _, most in self.running)
        pays = self.used_micro + running_micro + worst_micro <= TOTAL
        is_used_up = self.used_micro >= TOTAL and self.used_micro > self.told_micro
        waits = is_used_up and self.now_ms - self.ended_ms < 30_000
        if answer.allowed:
            assert not waits, "its own requests used up all, so the workers' word is on its way"
            assert alone or pays or not self.under_way(), "a burst is paid for by the rest"
            self.running.append((self.gate.begin(answer, self.now_ms), tokens))
        else:
            assert waits or not alone, "nothing is closed for ever by a reckoning"

    def under_way(self) -> bool:
        return bool(self.running) or self.gate.soft.lines["credits:account:org_heron"].recent_micro > 0

    def end(self, which: int, percent: int, status: int) -> None:
        """One of the running requests ends, having used ``percent`` of what it might."""
        if not self.running:
            return
        running, most = self.running.pop(which % len(self.running))
        tokens = max(1, most * percent // 100)
        if status == 200:
            self.used_micro += min(100, -(-tokens // 1_000) * 10) * CREDIT
        self.gate.end(running, status, [WireCharge("inference.llm", {"tokens": tokens})], self.now_ms)
        self.ended_ms = self.now_ms

    def hear(self) -> None:
        """The workers' word: all that ended."""
        self.words += 1
        self.told_micro = self.used_micro
        self.known.learn(
            used_record(
                "credits", TOTAL, self.used_micro, kind="account", rank=(1, 1 + self.words),
                decision_id=f"d-{self.words}",
            )
        )  # fmt: skip


@given(steps)
def test_one_node_admits_of_a_burst_what_the_rest_pays_for_and_nothing_is_closed_for_ever(script: list[Any]) -> None:
    account = Account()
    for kind, what in script:
        if kind == "ask":
            account.ask(what)
        elif kind == "end":
            account.end(*what)
        elif kind == "wait":
            account.now_ms += what
        else:
            account.hear()
    for _ in range(len(account.running)):
        account.end(0, 0, 500)
    assert account.gate.soft.reserved_micro == 0
    account.now_ms += 70_000
    account.ask(10_000)
    assert account.running
