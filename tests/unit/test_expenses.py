"""What costs most is named, however many operations there are."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.expenses import OPERATIONS_MAX, Expenses
from streams.domain.tables import ChangedRows


@given(st.lists(st.tuples(st.integers(0, 2 * OPERATIONS_MAX), st.integers(1, 1_000)), max_size=300))
def test_an_operation_with_more_than_its_share_of_the_costs_is_never_lost(costs: list[tuple[int, int]]) -> None:
    changed = ChangedRows()
    expenses, sums = Expenses(changed), Counter[str]()
    for number, cost in costs:
        expenses.add("org_a", 7, f"op{number}.get", cost)
        sums[f"op{number}.get"] += cost
    named = expenses.costliest("org_a", 7, OPERATIONS_MAX)
    assert len(named) == min(OPERATIONS_MAX, len(sums))
    assert {name for name, cost in sums.items() if cost * OPERATIONS_MAX > sum(sums.values())} <= set(named)


@given(st.dictionaries(st.integers(0, OPERATIONS_MAX - 1), st.integers(1, 10**12), min_size=1))
def test_few_operations_are_told_in_the_order_of_their_costs(costs: dict[int, int]) -> None:
    expenses = Expenses(ChangedRows())
    for number, cost in costs.items():
        expenses.add("org_a", 7, f"op{number}.get", cost)
    named = expenses.costliest("org_a", 7, 5)
    told = [costs[int(name[2:-4])] for name in named]
    assert told == sorted(costs.values(), reverse=True)[:5]


def test_each_month_has_its_own_and_a_late_cost_of_an_older_one_is_passed_over() -> None:
    expenses = Expenses(ChangedRows())
    expenses.add("org_a", 7, "search.web", 5)
    expenses.add("org_a", 8, "search.knn", 1)
    expenses.add("org_a", 7, "search.web", 5)
    assert expenses.costliest("org_a", 8, 5) == ("search.knn",)
    assert expenses.costliest("org_a", 7, 5) == ()


def test_the_row_does_not_hang_on_the_order_in_which_costs_are_folded() -> None:
    rows = []
    for operations in (("search.web", "cluster.execute"), ("cluster.execute", "search.web")):
        changed = ChangedRows()
        expenses = Expenses(changed)
        for operation in operations:
            expenses.add("org_a", 5, operation, 7)
        rows.append(changed.take())
    assert rows[0] == rows[1]
