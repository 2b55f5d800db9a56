"""What bounds the use of accounts whose credits are held hard: their totals, and what was used past the gates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sluicegate_schemas.envelope import WireEvent
from stack.rating import month_of, month_span_ms

from .expected_accounts import ExpectedAccounts
from .expected_credits import ExpectedCredits

_STEP_MS = 10_000
"""Of a silence of the log so much counts for leases."""


class ExpectedLeases:
    """Of one partition. ``limits``: by lease, the limit and scope that it is of, as the workers said it."""

    def __init__(self, accounts: ExpectedAccounts, ledger: ExpectedCredits) -> None:
        self.limits: Mapping[str, str] = {}
        self.late_ms = 0
        """An event that comes within so long after its request finds its lease still there."""
        self.most_micro: dict[tuple[str, int], int | None] = {}
        """By limit and month since 1970: the largest total that it ever had; None is unlimited."""
        self.outside_micro: defaultdict[tuple[str, int], int] = defaultdict(int)
        """The same of what was used without a lease."""
        self.astray_micro = 0
        """Used of leases by events whose month was closed when they came."""
        self.lag_ms_max = 0
        self._accounts = accounts
        self._credits = ledger

    def lives(self, late_ms: int, limits: Mapping[str, str]) -> None:
        """How long the workers wait for events, and what they lent."""
        self.late_ms, self.limits = late_ms - _STEP_MS, limits

    def spend(self, account_id: str, event: WireEvent, month: str, cost_micro: int, *, is_late: bool) -> None:
        """An event cost so much, booked in ``month``; ``is_late``: its own is closed."""
        if is_late or f"credits:account:{account_id}" not in {self.limits.get(one) for one in event.leases or ()}:
            self.charge(account_id, month, cost_micro)
        if event.leases:
            self.astray_micro += cost_micro if is_late else 0
            self.lag_ms_max = max(self.lag_ms_max, self._credits.now_ms - event.ts_ms)

    def charge(self, account_id: str, month: str, cost_micro: int) -> None:
        """So much was used of a month without a lease."""
        self.outside_micro[_place(account_id, month)] += cost_micro

    def look(self) -> None:
        """After a record: the totals of accounts that are, or were, held hard."""
        now = self._credits.month
        for name, one in self._accounts.organizations.items():
            if one.account_id == name and any(put.credits_mode == "hard" for _, put in one.puts):
                self._reach(name, now, self._credits.total_micro(name))
                start_ms = month_span_ms(now)[1]
                self._reach(name, month_of(start_ms), self._accounts.total_micro(name, start_ms))

    def _reach(self, account_id: str, month: str, total_micro: int | None) -> None:
        place = _place(account_id, month)
        most = self.most_micro.get(place, 0)
        is_unlimited = total_micro is None or most is None
        self.most_micro[place] = None if is_unlimited else max(total_micro or 0, most or 0)


def _place(account_id: str, month: str) -> tuple[str, int]:
    return f"credits:account:{account_id}", (int(month[:4]) - 1970) * 12 + int(month[5:]) - 1
