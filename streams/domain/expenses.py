"""What costs most: an account's costs of the month by operation, as far as advice needs them.

Space-Saving (Metwally, Agrawal and El Abbadi, 2005): of more than ``OPERATIONS_MAX`` operations, the cheapest one gives
its place and its sum to the newest. So an operation that has more than 1/``OPERATIONS_MAX`` of the costs is never lost,
and a sum is too high by at most as much. The books are the ledger and the rollup cells, not this.
"""

from typing import Final

from .tables import ChangedRows, ExpensesRow, row_key

OPERATIONS_MAX: Final = 32


class _Costs:
    """What an account's operations cost in a month."""

    __slots__ = ("by_operation", "key", "month")

    def __init__(self, account_id: str, month: int) -> None:
        self.key = row_key("x", account_id)
        self.month = month
        self.by_operation: dict[str, int] = {}

    def encode(self) -> bytes:
        """The payload of its row."""
        return ExpensesRow(self.month, dict(sorted(self.by_operation.items()))).encode()


class Expenses:
    """One row an account, of the newest month in which anything cost."""

    def __init__(self, changed: ChangedRows) -> None:
        self._changed = changed.rows
        self._accounts: dict[str, _Costs] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def add(self, account_id: str, month: int, operation: str, cost_micro: int) -> None:
        """``operation`` cost so much in ``month``; an older month than the newest is not looked at."""
        costs = self._accounts.get(account_id)
        if costs is None:
            costs = self._accounts[account_id] = _Costs(account_id, month)
        elif costs.month != month:
            if month < costs.month:
                return
            costs.month, costs.by_operation = month, {}
        found = costs.by_operation
        if operation not in found and len(found) >= OPERATIONS_MAX:
            cheapest = min(found, key=lambda name: (found[name], name))
            cost_micro += found.pop(cheapest)
        found[operation] = found.get(operation, 0) + cost_micro
        self._changed[costs.key] = costs

    def costliest(self, account_id: str, month: int, at_most: int) -> tuple[str, ...]:
        """The operations that cost most in ``month``, the costliest first."""
        costs = self._accounts.get(account_id)
        if costs is None or costs.month != month:
            return ()
        found = costs.by_operation
        return tuple(sorted(found, key=lambda name: (-found[name], name))[:at_most])

    def restore(self, account_id: str, row: ExpensesRow) -> None:
        """Takes in a recovered row."""
        costs = self._accounts[account_id] = _Costs(account_id, row.month)
        costs.by_operation = row.costs_micro
