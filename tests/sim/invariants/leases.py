"""Hard limits: what is lent and used never passes the total, and a lease ends when its time is over (ADR 18)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from stack.rating import month_of

from .. import rows as state
from ..expected_budgets import BudgetPlace, ExpectedBudgets
from ..expected_leases import ExpectedLeases

BEAT_MS = 1_000
"""While something is lent, lease time is brought up to date so often."""


class Lent(NamedTuple):
    """What of a month of an account's credits, or of a window of a budget, is used and lent."""

    limit: str
    window: int
    used_micro: int
    lent_micro: int


class LeaseWatch:
    """The leases of one partition, flush by flush. ``lives_ms``: how long one lasts, in lease time."""

    def __init__(self, lives_ms: int, fault: Callable[[str], None], seen: Counter[str]) -> None:
        self.lives_ms = lives_ms
        self._ever: set[str] = set()
        self.cuts: dict[int, tuple[list[Lent], state.LeaseTimeRow]] = {}
        """What was lent and used at each flush, by its number."""
        self._leases: dict[str, state.LeaseRow] = {}
        self._accounts: set[str] = set()
        self._budgets: dict[str, state.BudgetRow] = {}
        self._new: list[str] = []
        self._fault = fault
        self._seen = seen

    def row(self, key: bytes, payload: bytes | None) -> None:
        """A lease changed, within a flush."""
        name = key.decode()[2:]
        if payload is None:
            self._seen["leases over"] += self._leases.pop(name, None) is not None
            return
        row = self._leases[name] = state.lease_row(payload)
        if not 0 < row.left_micro <= row.credits_micro:
            self._fault(f"of the lease {name} over {row.credits_micro} is left {row.left_micro}")
        if name not in self._ever:
            self._ever.add(name)
            self._new.append(name)
            self._accounts.add(row.account_id)
            self._seen["leases"] += 1

    @property
    def standing(self) -> int:
        """How many leases there are."""
        return len(self._leases)

    def budget(self, key: bytes, payload: bytes | None) -> None:
        """A budget changed, within a flush."""
        name = BudgetPlace(*key.decode()[2:].split("|", 3)).decision_key
        if payload is None:
            self._budgets.pop(name, None)
        else:
            self._budgets[name] = state.budget_row(payload)

    def flushed(self, flush: int, log_time_ms: int, rows: Mapping[bytes, bytes]) -> None:
        """The flush stands."""
        if not self._accounts:
            return
        time = state.lease_time_row(rows.get(b"et|leases"))
        if time.excess_micro:
            self._fault(f"gateways used more of leases than these held: {time}")
        for name in self._new:
            row = self._leases.get(name)
            if row is not None and row.frees_at_ms > time.now_ms + self.lives_ms:
                self._fault(f"the lease {name} ends {row.frees_at_ms - time.now_ms} ms later, not {self.lives_ms}")
        self._new.clear()
        over = [name for name, row in self._leases.items() if row.frees_at_ms <= time.now_ms]
        if over:
            self._fault(f"the leases {over} are over at {time.now_ms} and are not freed")
        if self._leases and log_time_ms - time.log_time_ms >= BEAT_MS:
            self._fault(f"lease time stands still at {time.log_time_ms}, though it is {log_time_ms}")
        self.cuts[flush] = list(self._lent(log_time_ms, rows)), time

    def _lent(self, log_time_ms: int, rows: Mapping[bytes, bytes]) -> Iterable[Lent]:
        lent: Counter[tuple[str, int]] = Counter()
        for row in self._leases.values():
            for window in row.windows:
                lent[f"{row.limit_name}:{row.scope}", window] += row.left_micro
        month = month_of(log_time_ms)
        for account in self._accounts:
            ledger = rows.get(f"l|account|{account}|{month}".encode())
            used = 0 if ledger is None else state.ledger_row(ledger).used_micro
            name, window = f"credits:account:{account}", int(month[:4]) * 12 + int(month[5:]) - 1 - 1970 * 12
            yield Lent(name, window, used, lent[name, window])
        for name, budget in self._budgets.items():
            yield Lent(name, budget.window, budget.used_micro, lent[name, budget.window])


def never_overspent(flush: int, watch: LeaseWatch, expected: ExpectedLeases, budgets: ExpectedBudgets) -> Iterable[str]:
    """At this flush, used + lent is at most the largest total so far, and what was used past the gates' leases: by
    producers without a gate, by operators, or by events that came when their lease was over."""
    found, time = watch.cuts.get(flush, ([], state.lease_time_row(None)))
    if time.astray_micro > expected.astray_micro:
        yield f"{time.astray_micro} were used in months that leases were not held against: {expected.astray_micro} late"
    if time.late_micro and expected.lag_ms_max <= expected.late_ms:
        yield f"{time.late_micro} were used of leases that were over, and no event came {expected.late_ms} ms late"
    for one in found:
        place = one.limit, one.window
        of_credits = one.limit.startswith("credits:")
        total = (expected if of_credits else budgets).most_micro.get(place, 0)
        outside = (expected if of_credits else budgets).outside_micro[place]
        if total is not None and one.used_micro + one.lent_micro > total + outside + time.late_micro:
            yield (
                f"of {one.limit} in {one.window} {one.used_micro} are used and {one.lent_micro} lent, the total is "
                f"{total}, and {outside} were used without a lease"
            )
