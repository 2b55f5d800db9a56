"""What costs most: an account's costs of the month by operation, as far as advice needs them.

Space-Saving (Metwally, Agrawal and El Abbadi, 2005): of more than ``OPERATIONS_MAX`` operations, the cheapest one gives
its place and its sum to the newest. So an operation that has more than 1/``OPERATIONS_MAX`` of the costs is never lost,
and a sum is too high by at most as much. The books are the ledger and the rollup cells, not this.
"""

from typing import Final

from .tables import ChangedRows, ExpensesRow, row_key

OPERATIONS_MAX: Final = 32


class Expenses:
    """One row an account, of the newest month in which anything cost."""

    def __init__(self, changed: ChangedRows) -> None:
        self._changed = changed.rows
        self._rows: dict[str, ExpensesRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, account_id: str, month: int, operation: str, cost_micro: int) -> None:
        """``operation`` cost so much in ``month``; an older month than the newest is not looked at."""
        row = self._rows.get(account_id)
        if row is None or month > row.month:
            row = self._rows[account_id] = ExpensesRow(month, {})
        elif month < row.month:
            return
        costs = row.costs_micro
        if operation not in costs and len(costs) >= OPERATIONS_MAX:
            cheapest = min(costs, key=lambda name: (costs[name], name))
            cost_micro += costs.pop(cheapest)
        costs[operation] = costs.get(operation, 0) + cost_micro
        self._changed[row_key("x", account_id)] = row

    def costliest(self, account_id: str, month: int, at_most: int) -> tuple[str, ...]:
        """The operations that cost most in ``month``, the costliest first."""
        row = self._rows.get(account_id)
        if row is None or row.month != month:
            return ()
        costs = row.costs_micro
        return tuple(sorted(costs, key=lambda name: (-costs[name], name))[:at_most])

    def restore(self, account_id: str, row: ExpensesRow) -> None:
        """Takes in a recovered row."""
        self._rows[account_id] = row
