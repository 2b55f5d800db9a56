"""Escrow: parts of what is left of a hard limit are lent to gateway nodes, so that none of them can overspend it.

Used + lent ≤ total, whenever something is lent: a node admits costs only out of what it holds, and what it used or gave
back is known before it can be lent again (requirements, section 3; ADR 18; Balegas et al., 2015; O'Neil, 1986).
"""

from collections.abc import Iterable
from typing import Final

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, from_epoch_ms
from sluicegate_schemas.envelope import WireEvent, WireGauge, WireLeaseRequest
from sluicegate_schemas.outputs import Lease, RejectReason, Scope

from .budgets import Budgets
from .deadlines import NEVER_MS
from .lease_book import LeaseBook, Purse
from .lease_time import LeaseTime
from .outputs import RecordOrigin
from .participant import Participant, PartitionContext
from .period import DAY_MS, month_index, month_start_ms, month_text
from .policy import CREDITS, Moment
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .scopes import parse_scope
from .tables import COUNT_MAX, LeaseRow, LeaseTimeRow

_FREED_AT_ONCE_MAX: Final = 2_000


def lendable(left_micro: int, request: WireLeaseRequest, share: int) -> int:
    """How much of ``left_micro`` a request is lent.

    Whoever waits is served as far as it goes; what is wanted ahead of need is at most one part in ``share`` of what is
    left, so that parts shrink as it gets scarce, and are not lent ahead at all once they would help nobody. Less than
    the least that helps is not lent.
    """
    if left_micro <= 0 or left_micro < request.least_micro:
        return 0
    if left_micro < request.needed_micro:
        return left_micro
    amount_micro = max(request.needed_micro, min(request.wanted_micro, left_micro // share))
    return amount_micro if amount_micro >= request.least_micro else 0


class Escrow(Participant):
    """Lends, moves lent to used by the leases that events name, and takes back what was settled or has expired."""

    hears = (WireLeaseRequest,)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self.book: Final = LeaseBook(context.changed)
        self.time: Final = LeaseTime(context.changed)

    def add_tables(self, recovery: Recovery) -> None:
        """The leases, and the time that they live by."""
        recovery.add("e", LeaseRow, by_names(self.book.restore))
        recovery.add("et", LeaseTimeRow, by_names(self.time.restore))

    def sizes(self) -> dict[str, int]:
        """Leases of which something is left."""
        return {"leases": len(self.book)}

    def resume(self, moment: Moment) -> None:
        """What is lent goes on; the answers that may be lost are in the outbox of the flush."""
        for purse, account_id, month in sorted(self.book.held()):
            self._show(purse, account_id, (month,))
        self._wait()

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        """The cost of an event that names leases moves from lent to used."""
        for lease_id in event.leases or ():
            lease = self.book.get(lease_id)
            figures = self.time.row
            if lease is None or lease.account_id != route.account_id:
                figures.late_micro = min(figures.late_micro + cost_micro, COUNT_MAX)
            else:
                excess_micro = self.book.use(lease_id, cost_micro)
                figures.excess_micro = min(figures.excess_micro + excess_micro, COUNT_MAX)
                if lease.limit_name == CREDITS and route.account.month not in lease.windows:
                    figures.astray_micro = min(figures.astray_micro + cost_micro, COUNT_MAX)
                self._show(_purse_of(lease), lease.account_id, lease.windows)
            self.time.mark()

    def hear(self, moment: Moment, content: WireGauge | WireLeaseRequest, origin: RecordOrigin) -> None:
        """A node gives leases back, and asks for one."""
        if not isinstance(content, WireLeaseRequest):
            return
        refused = self._refusal(content)
        if refused is not None:
            self.context.refuse(origin, 0, *refused, content.org_id)
            return
        self._free_expired(moment)
        for lease_id, _ in content.returned:
            self._give_back(content, lease_id)
        if content.wanted_micro:
            known = self.book.answer_to(content.node, content.request_id)
            lease_id = known or f"{self.context.partition}-{origin.offset}"
            if known is None:
                self._lend(moment, content, lease_id)
            self._answer(moment, content, lease_id)
        self._wait()

    def wake(self, moment: Moment) -> None:
        """Frees what has expired."""
        self._free_expired(moment)
        self._wait()

    # ---- steps ----

    def _free_expired(self, moment: Moment) -> None:
        self.time.advance(moment.now_ms)
        for lease_id in self.book.due(self.time.now_ms, _FREED_AT_ONCE_MAX):
            self._free(lease_id)

    def _refusal(self, request: WireLeaseRequest) -> tuple[RejectReason, str, str] | None:
        organization = self.context.accounts.organizations.get(request.org_id)
        if organization is None:
            return "unknown_organization", "org_id", "is not an organization that is known"
        if organization.account_id != request.account_id:
            return "invalid", "account_id", "is not the account of the organization"
        scope = parse_scope(request.scope)
        if request.limit_name == CREDITS:
            is_its_own = request.scope == f"account:{request.account_id}"
        elif scope.kind == "key":
            key = self.context.accounts.keys.get(scope.id)
            is_its_own = key is not None and key.organization_id == request.org_id
        else:
            is_its_own = scope.kind != "account" and scope.id == request.org_id
        return None if is_its_own else ("invalid", "scope", "is no limit that is lent of")

    def _give_back(self, request: WireLeaseRequest, lease_id: str) -> None:
        lease = self.book.get(lease_id)
        if lease is not None and (lease.node, lease.account_id) == (request.node, request.account_id):
            self._free(lease_id)

    def _free(self, lease_id: str) -> None:
        lease = self.book.free(lease_id)
        self._show(_purse_of(lease), lease.account_id, lease.windows)

    def _lend(self, moment: Moment, request: WireLeaseRequest, lease_id: str) -> None:
        settings, book = self.context.settings, self.book
        purse = Purse(request.limit_name, request.scope)
        if len(book) >= settings.leases_max or book.leases_of(purse, request.node) >= settings.leases_node_max:
            return
        lives_ms = settings.lease_ttl_ms + settings.lease_request_ms
        first, last = (_window(purse, time_ms) for time_ms in (moment.now_ms, moment.now_ms + lives_ms))
        windows = list(range(first, last + 1))
        left_micro = min(self._left_micro(purse, request.account_id, one) for one in windows)
        amount = lendable(left_micro, request, settings.lease_share)
        if amount:
            frees_at_ms = self.time.now_ms + lives_ms + settings.lease_late_ms
            row = LeaseRow(
                request.account_id, request.limit_name, request.scope, request.node, request.request_id, amount, amount,
                windows, first, moment.now_ms, frees_at_ms,
            )  # fmt: skip
            book.lend(lease_id, row)
            self._show(purse, request.account_id, windows)

    def _standing(self, purse: Purse, account_id: str, window: int) -> tuple[int | None, int]:
        """(total, used) of the limit in a window; a budget that is no more has no total."""
        if purse.limit_name == CREDITS:
            return self._credits(account_id, window)
        budgets = self.context.peer(Budgets)
        return budgets.standing(parse_scope(purse.scope), purse.limit_name, window) or (None, 0)

    def _credits(self, account_id: str, month: int) -> tuple[int | None, int]:
        """A later month holds what the plan gives it."""
        ledgers = self.context.ledgers
        ledgers.bring_up(account_id)
        ledger = ledgers.get("account", account_id, month)
        if ledger is None and month > self.context.time.month:
            return self.context.plans.credits_of(account_id), 0
        ledger = ledger or ledgers.find("account", account_id, month, account_id, None)
        return ledger.total_micro, ledger.used_micro

    def _left_micro(self, purse: Purse, account_id: str, window: int) -> int:
        """Without a limit, what is lent is still an amount that a lease can state."""
        total, used = self._standing(purse, account_id, window)
        left_micro = CREDITS_MICRO_MAX if total is None else total - used
        return left_micro - self.book.lent_micro(purse, window)

    def _answer(self, moment: Moment, request: WireLeaseRequest, lease_id: str) -> None:
        settings, lease = self.context.settings, self.book.get(lease_id)
        purse = Purse(request.limit_name, request.scope)
        window = _window(purse, moment.now_ms) if lease is None else lease.window
        total, used = self._standing(purse, request.account_id, window)
        scope = Scope.model_validate(parse_scope(request.scope)._asdict())
        self.context.outbox.lease(
            Lease.model_validate(
                {
                    "lease_id": lease_id,
                    "scope": scope,
                    "limit_name": request.limit_name,
                    "node": request.node,
                    "request_id": request.request_id,
                    "credits_micro": 0 if lease is None else lease.credits_micro,
                    "month": month_text(month_index(_start_ms(purse, window))),
                    "lent_at": from_epoch_ms(moment.now_ms if lease is None else lease.lent_at_ms),
                    "ttl_ms": settings.lease_ttl_ms,
                    "request_ms_max": settings.lease_request_ms,
                    "limit": total,
                    "used": min(used, CREDITS_MICRO_MAX),  # a budget takes in what belongs to other months, too
                    "lent_micro": min(self.book.lent_micro(purse, window), CREDITS_MICRO_MAX),
                    "until": from_epoch_ms(_start_ms(purse, window + 1)),
                    "plan_version": moment.version,
                    "sequence": self.context.outbox.next_sequence(),
                }
            )
        )

    def _show(self, purse: Purse, account_id: str, windows: Iterable[int]) -> None:
        """Balances say how much of an account's credits is lent."""
        ledgers = self.context.ledgers
        for month in windows if purse.limit_name == CREDITS else ():
            ledger = ledgers.get("account", account_id, month)
            if ledger is not None:
                ledger.lent_micro = self.book.lent_micro(purse, month)
                ledgers.tell(ledger)

    def _wait(self) -> None:
        self.next_ms = self.time.next_beat_ms if len(self.book) else NEVER_MS


def _purse_of(lease: LeaseRow) -> Purse:
    return Purse(lease.limit_name, lease.scope)


def _window(purse: Purse, time_ms: int) -> int:
    """The day or month, by index, of a limit."""
    return time_ms // DAY_MS if purse.limit_name == "budget_day" else month_index(time_ms)


def _start_ms(purse: Purse, window: int) -> int:
    return window * DAY_MS if purse.limit_name == "budget_day" else month_start_ms(window)
