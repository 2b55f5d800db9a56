"""Where the credits of an account come from and what they pay, burned one cost at a time (requirements, section 9).

The workers put burning off until a source changes; here each cost is burned at once, so that the two agree only if
putting it off changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from stack.rating import month_of, month_span_ms

from .plan import DAY_MS

PLAN_PRIORITY = 100
ROLLOVER_PRIORITY = 90
GRACE_MS = DAY_MS
_NEVER_MS = 2**62


@dataclass(slots=True)
class Grant:
    """Credits that an account was given; ``expires_ms`` None: never lapse."""

    kind: str
    name: str
    credits_micro: int
    priority: int
    effective_ms: int
    expires_ms: int | None
    burned_micro: int = 0

    @property
    def left_micro(self) -> int:
        return self.credits_micro - self.burned_micro

    @property
    def order(self) -> tuple[int, int, int, str, str]:
        expires_ms = _NEVER_MS if self.expires_ms is None else self.expires_ms
        return self.priority, expires_ms, self.effective_ms, self.kind, self.name

    def is_alive(self, at_ms: int) -> bool:
        return self.effective_ms <= at_ms and (self.expires_ms is None or at_ms < self.expires_ms)


@dataclass(slots=True)
class Month:
    """What an account used in a month, and what of it its plan and its grants have paid."""

    used_micro: int = 0
    plan_micro: int = 0
    granted_micro: int = 0


@dataclass(slots=True)
class Account:
    """The grants of an account, those of them that are alive, and its months."""

    grants: list[Grant] = field(default_factory=list)
    live: list[Grant] = field(default_factory=list)
    months: defaultdict[str, Month] = field(default_factory=lambda: defaultdict(Month))


class ExpectedCredits:
    """All accounts of a partition. ``plan_of`` gives the plan's credits of (account, month); None is no limit."""

    def __init__(self, plan_of: Callable[[str, str], int | None]) -> None:
        self.month = ""
        self.now_ms = 0
        self.accounts: defaultdict[str, Account] = defaultdict(Account)
        self.ledgers: Collection[tuple[str, str]] = ()
        """Of which (account, month) the state ever had a ledger."""
        self._plan_of = plan_of
        self._rolled = ""

    def advance(self, now_ms: int, month: str) -> None:
        """Grants begin and expire, one instant after the other; a month that is over keeps what it could not pay as
        overage."""
        before_ms, self.now_ms, self.month = self.now_ms, now_ms, month
        if not before_ms:
            return
        starts_ms = _month_starts(before_ms, now_ms)
        for name, account in self.accounts.items():
            times = {ms for one in account.grants for ms in (one.effective_ms, one.expires_ms or 0)} | starts_ms
            for at_ms in sorted(ms for ms in times if before_ms < ms <= now_ms):
                if at_ms in starts_ms:
                    account.grants = [
                        one
                        for one in account.grants
                        if one.left_micro and (one.expires_ms is None or one.expires_ms >= at_ms)
                    ]
                account.live = [one for one in account.grants if one.is_alive(at_ms)]
                self._burn(name, month_of(at_ms), account.live)

    def _renew(self, name: str, account: Account) -> None:
        account.live = [one for one in account.grants if one.is_alive(self.now_ms)]
        self._burn(name, self.month, account.live)

    def plan_changed(self) -> None:
        """A plan may be another now: what it can pay of what nobody paid, it pays before anything that begins later."""
        for name, account in self.accounts.items():
            self._burn(name, self.month, account.live)

    def book(self, name: str, month: str, micro: int) -> None:
        """So much was used of an account's month."""
        account = self.accounts[name]
        account.months[month].used_micro += micro
        if month < self.month:
            last_ms = month_span_ms(month)[1] - 1
            self._burn(name, month, [one for one in account.grants if one.is_alive(last_ms)])
            account.live = [one for one in account.grants if one.is_alive(self.now_ms)]
        elif month == self.month:
            self._burn(name, month, account.live)

    def _burn(self, name: str, month: str, grants: Iterable[Grant]) -> None:
        book = self.accounts[name].months[month]
        due = book.used_micro - book.plan_micro - book.granted_micro
        if due <= 0:
            return
        start_ms, end_ms = month_span_ms(month)
        sources: list[tuple[tuple[int, int, int, str, str], Grant | None]]
        sources = [((PLAN_PRIORITY, end_ms, start_ms, "", ""), None), *((one.order, one) for one in grants)]
        plan = self._plan_of(name, month)
        for _, grant in sorted(sources, key=lambda source: source[0]):
            if grant is None:
                paid = due if plan is None else min(due, max(0, plan - book.plan_micro))
                book.plan_micro += paid
            else:
                paid = min(due, grant.left_micro)
                grant.burned_micro += paid
                book.granted_micro += paid
            due -= paid

    def total_micro(self, name: str) -> int | None:
        """The credits of the log's month: the plan's, what grants have paid of it, and what is left of those alive."""
        plan = self._plan_of(name, self.month)
        account = self.accounts[name]
        left = sum(one.left_micro for one in account.live)
        return None if plan is None else plan + account.months[self.month].granted_micro + left

    def roll_over(self, rolls: Callable[[str], bool]) -> None:
        """After a record: once a month takes nothing more, what its plan did not pay is a grant of the current one, for
        accounts that had a ledger of it."""
        start_ms, end_ms = month_span_ms(self.month)
        closed = month_of(start_ms - 1)
        if self.now_ms < start_ms + GRACE_MS or closed <= self._rolled:
            return
        self._rolled = closed
        for name in sorted(name for name, month in self.ledgers if month == closed):
            plan = self._plan_of(name, closed) if rolls(name) else None
            left = 0 if plan is None else plan - self.accounts[name].months[closed].plan_micro
            if left > 0:
                self.give(name, Grant("rollover", closed, left, ROLLOVER_PRIORITY, self.now_ms, end_ms))

    def give(self, name: str, grant: Grant, *, replaces: bool = False) -> bool:
        """Gives an account credits, from now on at the earliest; returns whether that can be."""
        account = self.accounts[name]
        grant.effective_ms = max(grant.effective_ms, self.now_ms)
        same = [one for one in account.grants if (one.kind, one.name) == (grant.kind, grant.name)]
        is_empty = grant.expires_ms is not None and grant.expires_ms <= grant.effective_ms
        if is_empty or (same and not replaces):
            return False
        account.grants = [one for one in account.grants if one not in same] + [grant]
        self._renew(name, account)
        return True

    def take_back(self, name: str, kind: str, grant_name: str) -> bool:
        """Takes back what is left of a grant; returns whether something was."""
        account = self.accounts[name]
        found = [one for one in account.grants if (one.kind, one.name) == (kind, grant_name) and one.left_micro]
        account.grants = [one for one in account.grants if one not in found]
        self._renew(name, account)
        return bool(found)


def _month_starts(after_ms: int, until_ms: int) -> set[int]:
    """When months begin in this time."""
    starts: set[int] = set()
    at_ms = month_span_ms(month_of(after_ms))[1]
    while at_ms <= until_ms:
        starts.add(at_ms)
        at_ms = month_span_ms(month_of(at_ms))[1]
    return starts
