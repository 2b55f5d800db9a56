"""What an organization may use of credits that it shares, or of which some are kept for a category (requirements,
section 1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from sluicegate_schemas.accounts import CapacityReserve

from .expected_accounts import ExpectedAccounts

CLOSED = ("data", "search", "upload", "compute")
"""The categories that cost credits."""
Remaining = Callable[[str], int | None]
Used = Callable[[str], int]


class ExpectedPools:
    """Of one partition. Months are texts, and the log's is handed over with each question."""

    def __init__(self, accounts: ExpectedAccounts) -> None:
        self.reserves: dict[tuple[str, str], int] = {}
        """Micro-credits by (organization, category)."""
        self._used: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """By (organization, category, month), since the reserve was made."""
        self._accounts = accounts

    def reserve(self, command: CapacityReserve) -> bool:
        """Sets a reserve, or ends it; returns whether that can be."""
        place = command.organization_id, command.category
        if command.credits_micro:
            self.reserves[place] = command.credits_micro
            return True
        for month in [one[2] for one in self._used if one[:2] == place]:
            del self._used[*place, month]
        return self.reserves.pop(place, None) is not None

    def spend(self, organization_id: str, category: str | None, month: str, now: str, micro: int) -> None:
        """A request of a category cost so much; what comes late for a month that is over counts no more."""
        if (organization_id, category or "") in self.reserves and month >= now:
            self._used[organization_id, category or "", month] += micro

    def _pool_of(self, organization_id: str) -> tuple[int | None, int]:
        pool = self._accounts.organizations[organization_id].puts[-1][1].pool
        return (None, 0) if pool is None else (pool.cap_micro, pool.reserved_micro)

    def members(self, account_id: str) -> list[str]:
        """The organizations that pay by an account of which any has a cap or a reserve; none where none has."""
        names = [name for name, one in self._accounts.organizations.items() if one.account_id == account_id]
        return sorted(names) if any(self._pool_of(name) != (None, 0) for name in names) else []

    def left_micro(self, organization_id: str, remaining: int | None, used: Used) -> tuple[int | None, bool]:
        """(what the organization may still use, whether its cap or the others' reserves leave it nothing).

        ``remaining`` is what is left of its account's credits, ``used`` what each organization used of the month.
        """
        account_id = self._accounts.organizations[organization_id].account_id
        cap, _ = self._pool_of(organization_id)
        left = None if cap is None else max(0, cap - used(organization_id))
        is_closed = left == 0
        if remaining is not None:
            others = 0
            for name in self.members(account_id):
                if name != organization_id:
                    others += max(0, self._pool_of(name)[1] - used(name))
            free = max(0, remaining - others)
            is_closed |= others > 0 and free == 0
            left = free if left is None else min(left, free)
        return left, is_closed

    def closed_categories(self, organization_id: str, left: int | None, month: str) -> set[str]:
        """The categories that may use nothing, since all that is left to the organization is kept for others."""
        unspent = {
            category: max(0, micro - self._used.get((organization_id, category, month), 0))
            for (name, category), micro in self.reserves.items()
            if name == organization_id
        }
        if left is None:
            return set()
        others = {category: sum(unspent.values()) - unspent.get(category, 0) for category in CLOSED}
        return {category for category, micro in others.items() if micro > 0 and left <= micro}
