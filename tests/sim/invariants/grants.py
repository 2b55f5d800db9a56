"""Credits at each flush: no grant pays more than it is, and what an account used is paid once, or is overage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from .. import rows as state


class GrantWatch:
    """The grants and ledgers of one partition's accounts."""

    def __init__(self, fault: Callable[[str], None], seen: Counter[str]) -> None:
        self.ledgers: set[tuple[str, str]] = set()
        """(account, month) of every ledger that there ever was."""
        self._fault = fault
        self._seen = seen
        self._by_grants: defaultdict[str, int] = defaultdict(int)
        self._by_ledgers: defaultdict[str, int] = defaultdict(int)
        """What grants paid of each account by this flush, as the grants and as the ledgers say it."""

    def grant(self, key: bytes, before: bytes | None, payload: bytes | None) -> None:
        """A grant changed, within a flush."""
        if payload is None:
            return
        _, kind, account, name = key.decode().split("|", 3)
        row, old = state.grant_row(payload), None if before is None else state.grant_row(before)
        if not 0 <= row.burned_micro <= row.credits_micro:
            self._fault(f"the {kind} {name} of {account} over {row.credits_micro} has paid {row.burned_micro}")
        if old is None:
            self._seen[f"grants: {kind}"] += 1
        is_same = old is not None and old[:4] == row[:4]
        if old is not None and is_same and row.burned_micro < old.burned_micro:
            self._fault(f"the {kind} {name} of {account} had paid {old.burned_micro}, and now {row.burned_micro}")
        self._by_grants[account] += row.burned_micro - (old.burned_micro if old is not None and is_same else 0)

    def ledger(self, key: bytes, before: bytes | None, row: state.LedgerRow) -> None:
        """An account's ledger changed, within a flush."""
        account, month = key.decode().split("|")[2:4]
        self.ledgers.add((account, month))
        paid_before = 0 if before is None else state.ledger_row(before).granted_burned_micro
        if not 0 <= row.plan_burned_micro + row.granted_burned_micro <= row.used_micro:
            self._fault(f"{account} has used {row.used_micro} in {month}, of which more is paid: {row}")
        if row.plan_micro is not None and row.plan_burned_micro > row.plan_micro:
            self._fault(f"the plan of {account} gives {row.plan_micro} in {month}, and paid {row.plan_burned_micro}")
        self._by_ledgers[account] += row.granted_burned_micro - paid_before

    def flushed(self) -> None:
        """The flush stands. A grant that ended within it is no row any more, so ledgers may say more."""
        for account, micro in self._by_grants.items():
            if micro > self._by_ledgers[account]:
                self._fault(f"grants of {account} paid {micro} for {self._by_ledgers[account]} that was used")
        self._by_grants.clear()
        self._by_ledgers.clear()
