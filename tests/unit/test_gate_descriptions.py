"""What a service says of a request beforehand often comes from the caller: it neither raises nor widens a limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.gate import Description, Gate, usable
from sluicegate.gate.card import Card
from sluicegate_schemas.bounds import CHARGES_MAX, QUANTITY_MAX
from sluicegate_schemas.envelope import WireCharge
from tests.gating import CATALOGUE, NOW_MS, SECRET, credit_block, heron, organization

HOUR_MS = 3_600_000
ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.floats(), st.lists(st.integers(), max_size=2)
)
OPERATIONS = st.sampled_from(["documents.create", "inference.llm", "search.web", "not.on.card"])
QUANTITIES = st.dictionaries(
    st.sampled_from(["tokens", "documents", "requests"]),
    ANYTHING | st.integers(min_value=-(10**18), max_value=10**18),
)
CHARGES = st.builds(
    WireCharge, OPERATIONS | ANYTHING, QUANTITIES | ANYTHING, st.just("gpt-4o") | ANYTHING, st.just(value=False)
)


def described(*charges: object) -> Description:
    """A description with ``charges``, whatever they are."""
    return {"charges": list(charges)}  # type: ignore[typeddict-item]  # what callers say has any type


@given(st.lists(CHARGES | OPERATIONS | ANYTHING, max_size=4))
def test_whatever_charges_are_described_the_request_costs_no_less_and_nothing_raises(charges: list[object]) -> None:
    gate = Gate(heron(organization(), credit_block(verdict="allow", limit=10**15, observed=0)), clock=lambda: NOW_MS)
    running = gate.begin(gate.check(SECRET, "retriever.execute"))
    assert running is not None
    plain_micro = gate.state().reserved_micro
    if gate.revise(running, **usable(described(*charges))).allowed:
        assert gate.state().reserved_micro >= plain_micro
    gate.end(running, 500)
    answer = gate.check(SECRET, "inference.llm", charges=["search.web"], now_ms=NOW_MS + HOUR_MS)
    assert answer.allowed, "nothing that was described outlasts its request"


def test_described_charges_keep_their_usable_parts() -> None:
    given_ = described(
        "search.web",
        WireCharge("inference.llm", {"tokens": -1, "requests": 2}, "gpt-4o"),
        WireCharge("documents.create", {"documents": QUANTITY_MAX + 1}),
        WireCharge("inference.llm", {"tokens": "12"}, [1]),  # type: ignore[dict-item,arg-type]  # from a caller
        WireCharge("No Operation"),
        "No Operation",
        None,
    )
    assert usable(given_)["charges"] == [
        WireCharge("search.web"),
        WireCharge("inference.llm", {"requests": 2}, "gpt-4o"),
        WireCharge("documents.create"),
        WireCharge("inference.llm"),
    ]


def test_no_more_charges_are_described_than_an_event_holds() -> None:
    assert len(usable(described("no operation!", *["search.web"] * 1_000))["charges"]) == CHARGES_MAX


@pytest.mark.parametrize("operation", ["documents.create", "inference.llm", "search.web"])
def test_no_quantity_makes_a_cost_negative(operation: str) -> None:
    priced = Card(CATALOGUE).priced(operation)
    charge = WireCharge(operation, dict.fromkeys(("requests", "tokens", "documents", "bytes"), -(10**9)))
    assert priced.worst_micro(charge) >= 0
    assert priced.worst_micro(WireCharge(operation, charge.quantities, "a-model")) >= 0
    assert priced.cost_micro(charge) >= 0


def test_a_negative_amount_leaves_no_debt_with_a_provider() -> None:
    gate = Gate(heron(organization()), clock=lambda: NOW_MS)
    answer = gate.check(SECRET, "retriever.execute", charges=[WireCharge("inference.llm", {"tokens": -(10**12)})])
    gate.end(gate.begin(answer), 200, [WireCharge("retriever.execute")])
    assert gate.check(SECRET, "inference.llm").allowed
