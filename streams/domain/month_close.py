"""The end of a month's grace: its balances are final, and plans with rollover grant what it left over.

Both touch every account of a month at once, so they are paced: so many ledgers with one record. How far the rollover
came is a row; what is final needs none, since a new owner publishes all balances anyway.
"""

from collections import deque
from typing import Final

from .burn import settle
from .command_record import RefusedError
from .grants import ROLLOVER, Grants
from .ledger import Ledger
from .participant import Participant, PartitionContext
from .period import month_start_ms, month_text
from .policy import Moment
from .recovery import Recovery
from .tables import GrantRow, RolledRow, row_key

_ROLLED_KEY: Final = row_key("i", "rolled")
_PRIORITY: Final = 90
"""Before the plan's own: what was carried over once lapses with the month, whatever the plan says."""


class MonthClose(Participant):
    """Sees a month off once it takes no more late events."""

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rolled = RolledRow(0, "")
        self._final: deque[Ledger] = deque()
        self._to_roll: deque[str] = deque()

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("i", RolledRow, self._restore)

    def _restore(self, key: bytes, row: RolledRow) -> None:
        self._rolled = row

    def resume(self, moment: Moment) -> None:
        closed = self.context.time.closed_month(self.context.settings.grace_ms)
        self._await(moment.now_ms)
        if self._rolled.month == closed and self._rolled.is_under_way:
            self._queue(closed)
            self.next_ms = moment.now_ms

    def month_began(self, moment: Moment) -> None:
        self._await(moment.now_ms)

    def _await(self, now_ms: int) -> None:
        self.next_ms = month_start_ms(self.context.time.month) + self.context.settings.grace_ms
        if self.next_ms <= now_ms and self._rolled.month >= self.context.time.month - 1:
            self.next_ms = month_start_ms(self.context.time.month + 1) + self.context.settings.grace_ms

    def wake(self, moment: Moment) -> None:
        closed = self.context.time.closed_month(self.context.settings.grace_ms)
        if self._rolled.month < closed:
            self._rolled = RolledRow(closed, "", is_under_way=True)
            self._queue(closed)
            self._final = deque(ledger for ledger in self.context.ledgers if ledger.month == closed)
        at_most = self.context.settings.accounts_a_wake
        for _ in range(min(at_most, len(self._final))):
            self.context.ledgers.tell(self._final.popleft())
        for _ in range(min(at_most, len(self._to_roll))):
            self._roll_over(moment, self._to_roll.popleft())
        self._rolled.is_under_way = bool(self._to_roll)
        self.context.changed.rows[_ROLLED_KEY] = self._rolled
        if self._final or self._to_roll:
            self.next_ms = moment.now_ms
        else:
            self._await(moment.now_ms)

    def _queue(self, month: int) -> None:
        """The accounts that have a ledger of the month, behind the one that was seen to last."""
        names = (one.identifier for one in self.context.ledgers if one.kind == "account" and one.month == month)
        self._to_roll = deque(sorted(name for name in names if name > self._rolled.account_id))

    def _roll_over(self, moment: Moment, account_id: str) -> None:
        context = self.context
        self._rolled.account_id = account_id
        plan = context.plans.plan_of(account_id)
        ledger = context.ledgers.get("account", account_id, self._rolled.month)
        if plan is None or not plan.rollover or ledger is None or ledger.plan_micro is None:
            return
        context.ledgers.bring_up(account_id)
        settle(ledger, ())  # its grants have burned: without any it has not been settled yet
        context.changed.rows[ledger.key] = ledger
        left = ledger.plan_micro - ledger.plan_burned_micro
        if left <= 0:
            return
        row = GrantRow(left, _PRIORITY, moment.now_ms, month_start_ms(moment.month + 1))
        try:
            context.peer(Grants).give(moment, ROLLOVER, account_id, month_text(ledger.month), row)
        except RefusedError:
            context.notices.count(ROLLOVER, account_id)
