"""Grants: credits that an account has beside its plan's, and when they begin, burn and end (requirements, section 9).

Burning is settled when something makes a difference to it: before a source begins, ends or is taken back, before the
plan changes, when the month is over, and with each late event, since those of two months burn the same grants. The
account's total says at each moment what is paid and what is left, so blocks need no settling. A month that is over is
settled when its account is next touched, so that a month's begin touches nobody by itself.
"""

from bisect import insort
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import msgspec

from sluicegate_schemas.accounts import AnyCommand, GrantPut, GrantRevoke
from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, to_epoch_ms
from sluicegate_schemas.envelope import WireEvent

from .burn import Grant, settle
from .capacity import Capacity
from .command_record import RefusedError
from .deadlines import Deadlines
from .ledger import Ledger
from .participant import Change, Participant, PartitionContext
from .period import month_start_ms
from .policy import Moment
from .pools import Pools
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .tables import GrantRow, row_key

GRANT: Final = "grant"
BOOST: Final = "boost"
CORRECTION: Final = "correction"
ROLLOVER: Final = "rollover"
_ORDER: Final = attrgetter("order")
_NEVER_MS: Final = 2**62


class _Book:
    """The grants of one account in burn order, and those of them that are alive as of when it was brought up."""

    __slots__ = ("account_id", "due_ms", "grants", "live", "month", "past_used_micro")

    def __init__(self, account_id: str, month: int) -> None:
        self.account_id = account_id
        self.grants: list[Grant] = []
        self.live: list[Grant] = []
        self.month = month
        self.due_ms = _NEVER_MS
        """When a grant begins or expires next."""
        self.past_used_micro = 0
        """What the month before had used when it was settled last."""

    def at_end_of(self, month: int) -> list[Grant]:
        """The grants that are alive at the last instant of ``month``."""
        last_ms = month_start_ms(month + 1) - 1
        return [grant for grant in self.grants if grant.is_alive(last_ms)]


class Grants(Participant):
    """The grants of all accounts of the partition; each kind has ids of its own."""

    obeys = (GrantPut, GrantRevoke)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._books: dict[str, _Book] = {}
        self._count = 0
        self._deadlines = Deadlines()
        self._unsaid: dict[str, None] = {}
        """Accounts whose total changed, which is still to be said."""
        context.ledgers.bring_up = self.bring_up
        context.ledgers.settle = self._settle_account
        context.ledgers.granted_of = self._granted_of

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("j", GrantRow, by_names(self._restore))

    def sizes(self) -> dict[str, int]:
        return {"grants": self._count}

    # ---- giving and taking back ----

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        match command:
            case GrantPut():
                row = GrantRow(
                    command.credits_micro,
                    command.priority,
                    to_epoch_ms(command.effective_at),
                    None if command.expires_at is None else to_epoch_ms(command.expires_at),
                )
                grant = self.give(moment, GRANT, command.account_id, command.grant_id, row, "grant_id")
                return Change(command.grant_id, None, _shown(grant))
            case GrantRevoke():
                taken = self.take_back(moment, GRANT, command.account_id, command.grant_id)
                if taken is None:
                    raise RefusedError("is no grant of the account that has credits left", "grant_id")
                return Change(command.grant_id, _shown(taken), None)
            case _:
                raise NotImplementedError

    def give(
        self,
        moment: Moment,
        kind: str,
        account_id: str,
        identifier: str,
        row: GrantRow,
        field: str | None = None,
        *,
        replaces: bool = False,
    ) -> Grant:
        """Gives an account credits, from now on where ``row`` begins in the past.

        Raises RefusedError, naming ``field`` where its id is taken (unless it ``replaces`` what is left of that grant);
        then nothing changed.
        """
        context, now_ms = self.context, moment.now_ms
        settings = context.settings
        row.effective_ms = max(row.effective_ms, now_ms)
        if row.expires_ms is not None and row.expires_ms <= row.effective_ms:
            raise RefusedError("would end before it begins", "expires_at")
        self.bring_up(account_id)
        book = self._books.get(account_id)
        held = [] if book is None else book.grants
        same = [grant for grant in held if (grant.kind, grant.identifier) == (kind, identifier)]
        held = [grant for grant in held if grant not in same]
        if same and not replaces:
            raise RefusedError("is the id of a grant that the account has", field)
        useful = sum(grant.remaining_micro > 0 and not _is_over(grant, now_ms) for grant in held)
        is_full = self._count >= settings.grants_max or useful >= settings.account_grants_max
        if is_full and kind != ROLLOVER:
            raise RefusedError(
                f"an account has {settings.account_grants_max} grants at most, a partition {settings.grants_max}"
            )
        if sum(grant.row.credits_micro for grant in held) + row.credits_micro > CREDITS_MICRO_MAX:
            raise RefusedError("is more than an account can hold", "credits_micro")
        context.ledgers.open(account_id, moment.month, context.plans.credits_of(account_id))
        if book is None:
            context.routes.forget()
            book = self._books[account_id] = _Book(account_id, moment.month)
            past = context.ledgers.get("account", account_id, moment.month - 1)
            if past is not None:
                self._settle(past, [])
                book.past_used_micro = past.used_micro
        self._settle_account(account_id)
        for before in same:
            self._remove(book, before)
        grant = Grant(row_key("j", kind, account_id, identifier), kind, account_id, identifier, row)
        insort(book.grants, grant, key=_ORDER)
        self._count += 1
        context.changed.rows[grant.key] = row
        self._renew(book)
        self._say(moment, [account_id])
        return grant

    def take_back(self, moment: Moment, kind: str, account_id: str, identifier: str) -> Grant | None:
        """Takes back what is left of a grant; returns the grant as it was, None where nothing is left of one."""
        self.bring_up(account_id)
        book = self._books.get(account_id)
        if book is None:
            return None
        found = [grant for grant in book.grants if (grant.kind, grant.identifier) == (kind, identifier)]
        self._settle_account(account_id)
        if not found or not found[0].remaining_micro:
            return None
        self._remove(book, found[0])
        self._renew(book)
        if not book.grants:
            self._forget(book)  # at once: a new owner, which finds no grants, would not have it either
        self._say(moment, [account_id])
        return found[0]

    def _remove(self, book: _Book, grant: Grant) -> None:
        book.grants.remove(grant)
        self._count -= 1
        self.context.changed.rows[grant.key] = None

    # ---- time ----

    def bring_up(self, account_id: str) -> None:
        """Brings the account's grants and total up to the log time, if something began or ended since."""
        book = self._books.get(account_id)
        if book is not None and (book.month != self.context.time.month or book.due_ms <= self.context.time.now_ms):
            self._bring_up(book)

    def _settle_account(self, account_id: str) -> None:
        self.bring_up(account_id)
        book = self._books.get(account_id)
        if book is not None:
            self._settle(self.context.ledgers.get("account", account_id, book.month), book.live)

    def _bring_up(self, book: _Book) -> None:
        """Goes from instant to instant at which something begins or ends, and from month to month. All usage that is
        not settled yet is of before the first of them."""
        now_ms, month = self.context.time.now_ms, self.context.time.month
        while True:
            end_ms = month_start_ms(book.month + 1)
            while book.due_ms <= min(now_ms, end_ms - 1):
                self._settle(self.context.ledgers.get("account", book.account_id, book.month), book.live)
                self._look(book, book.due_ms)
            if book.month == month or not book.grants:
                break
            self._close_month(book)
            self._look(book, end_ms)
        book.month = month
        if not book.grants:
            self._forget(book)
        self._total(book, book.month, book.live)

    def _forget(self, book: _Book) -> None:
        self._deadlines.drop(book.account_id)
        del self._books[book.account_id]

    def _close_month(self, book: _Book) -> None:
        """The book's month is over: settles it for good, and forgets the grants of which nothing is left."""
        ledgers = self.context.ledgers
        ledger = ledgers.get("account", book.account_id, book.month)
        self._settle(ledger, book.live)
        self._total(book, book.month, book.live)
        book.past_used_micro = 0 if ledger is None else ledger.used_micro
        book.month += 1
        start_ms = month_start_ms(book.month)
        for grant in list(book.grants):
            expires_ms = grant.row.expires_ms
            if not grant.remaining_micro or (expires_ms is not None and expires_ms < start_ms):
                self._remove(book, grant)

    def _renew(self, book: _Book) -> None:
        """The grants of the account, or what is left of them, are others than they were."""
        self._look(book, self.context.time.now_ms)
        self._total(book, book.month, book.live)

    def _look(self, book: _Book, at_ms: int) -> None:
        """Sees which grants are alive at an instant, and when that changes next."""
        for grant in book.grants:
            row = grant.row
            is_live = grant.is_alive(at_ms)
            if (row.month, row.is_live) != (book.month, is_live):
                row.month, row.is_live = book.month, is_live
                self.context.changed.rows[grant.key] = row
        book.live = [grant for grant in book.grants if grant.row.is_live]
        self._await(book, at_ms)

    def _await(self, book: _Book, at_ms: int) -> None:
        """Notes when a grant of the account begins or expires next within its month, as seen from ``at_ms``."""
        end_ms = month_start_ms(book.month + 1)
        book.due_ms = _NEVER_MS
        for row in (grant.row for grant in book.grants):
            due_ms = row.expires_ms if row.is_live else row.effective_ms
            is_past = not row.is_live and row.expires_ms is not None and row.expires_ms <= at_ms
            if due_ms is not None and due_ms < min(end_ms, book.due_ms) and not is_past:
                book.due_ms = due_ms
        if book.due_ms < _NEVER_MS:
            self._deadlines.set(book.account_id, book.due_ms)
        else:
            self._deadlines.drop(book.account_id)
        self.boundary_ms = self._deadlines.next_ms

    def cross(self, moment: Moment) -> None:
        """Grants begin or expire. Those of further accounts are seen to when they are touched, or with the next
        record."""
        accounts = self._deadlines.take(moment.now_ms, self.context.settings.accounts_a_wake)
        for account_id in accounts:
            self.bring_up(account_id)
        self.boundary_ms = self._deadlines.next_ms
        self._say(moment, accounts)

    # ---- burning ----

    def observes(self, route: Route) -> bool:
        return route.account.month < self.context.time.month and route.account_id in self._books

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        self.settle_late(route.account_id)

    def settle_late(self, account_id: str) -> None:
        """Something was booked, perhaps in the month that is over: then that burns what the month still had at its
        end, behind all that came before it."""
        book = self._books.get(account_id)
        if book is None:
            return
        ledgers, month = self.context.ledgers, self.context.time.month
        past = ledgers.get("account", account_id, month - 1)
        if past is None or past.used_micro == book.past_used_micro:
            return
        self.bring_up(account_id)
        self._settle(ledgers.get("account", account_id, month), book.live)
        at_end = book.at_end_of(month - 1)
        self._settle(past, at_end)
        book.past_used_micro = past.used_micro
        self._total(book, month - 1, at_end)
        self._renew(book)

    def _settle(self, ledger: Ledger | None, grants: Iterable[Grant]) -> None:
        if ledger is None or not ledger.unpaid_micro:
            return
        before = ledger.plan_burned_micro, ledger.granted_burned_micro
        rows = self.context.changed.rows
        for grant in settle(ledger, list(grants)):
            rows[grant.key] = grant.row
        if before != (ledger.plan_burned_micro, ledger.granted_burned_micro):
            rows[ledger.key] = ledger

    def _total(self, book: _Book, month: int, grants: Iterable[Grant]) -> None:
        ledgers = self.context.ledgers
        ledger = ledgers.get("account", book.account_id, month)
        if ledger is None:
            self.context.peer(Pools).shares_changed(book.account_id, month)  # a member's balance shows a month unused
            return
        left = sum(grant.remaining_micro for grant in grants)
        if ledgers.grant(book.account_id, month, ledger.granted_burned_micro + left) is not None:
            self.context.policy.watch(ledger, self.context.time.month)
            if month == self.context.time.month:
                self._unsaid[book.account_id] = None
                self.has_news = True

    def _granted_of(self, account_id: str, month: int) -> int:
        book = self._books.get(account_id)
        if book is None or month > self.context.time.month:
            return 0
        self.bring_up(account_id)
        live = book.live if month == book.month else book.at_end_of(month)
        return sum(grant.remaining_micro for grant in live)

    # ---- verdicts ----

    def judge(self, moment: Moment) -> None:
        self._say(moment, list(self._unsaid))

    def _say(self, moment: Moment, account_ids: Iterable[str]) -> None:
        context = self.context
        for account_id in account_ids:
            if account_id not in self._unsaid:
                continue
            del self._unsaid[account_id]
            ledger = context.ledgers.get("account", account_id, moment.month)
            if ledger is not None:
                context.policy.total_changed(moment, ledger, context.accounts.organizations[account_id].tier)
                context.peer(Pools).look(moment, account_id)
                context.peer(Capacity).look(moment, account_id)

    # ---- recovery ----

    def _restore(self, kind: str, account_id: str, identifier: str, row: GrantRow) -> None:
        book = self._books.setdefault(account_id, _Book(account_id, row.month))
        grant = Grant(row_key("j", kind, account_id, identifier), kind, account_id, identifier, row)
        insort(book.grants, grant, key=_ORDER)
        self._count += 1

    def resume(self, moment: Moment) -> None:
        ledgers = self.context.ledgers
        for book in self._books.values():
            book.live = [grant for grant in book.grants if grant.row.is_live]
            past = ledgers.get("account", book.account_id, book.month - 1)
            book.past_used_micro = 0 if past is None else past.used_micro
            if book.month == moment.month:
                self._await(book, moment.now_ms)


def _is_over(grant: Grant, now_ms: int) -> bool:
    return grant.row.expires_ms is not None and grant.row.expires_ms <= now_ms


def _shown(grant: Grant) -> dict[str, Any]:
    """The grant as the audit trail shows it."""
    return {"account_id": grant.account_id, "kind": grant.kind, **msgspec.structs.asdict(grant.row)}
