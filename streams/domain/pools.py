"""Pools: organizations that share their account's credits, each with an optional cap and reserved share (requirements,
section 1).

A member may use what is left of its cap, and of the account's credits what is left beside the unspent reserves of the
others. Who may use nothing is blocked, until the month's reset, while the account's own block is another's business.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from sluicegate_schemas.envelope import WireEvent

from .ledger import Ledger
from .participant import Participant, PartitionContext
from .period import month_start_ms
from .policy import CREDITS, Moment
from .record_context import RecordContext
from .routes import Route
from .scopes import ScopeNames

ORGANIZATION: Final = "organization"


class Share(NamedTuple):
    """What an organization has of its account's month: ``left_micro`` it may still use (None is unlimited), and whether
    its cap or the others' reserves leave it nothing."""

    used_micro: int
    left_micro: int | None
    is_used_up: bool

    @property
    def total_micro(self) -> int | None:
        """What it used and may still use."""
        return None if self.left_micro is None else self.used_micro + self.left_micro


class Pools(Participant):
    """Knows the members of each account that several organizations share."""

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._members: dict[str, dict[str, tuple[int | None, int]]] = {}
        """By account: (cap, reserved) of each organization that pays by it, its own included."""
        self._shared: set[str] = set()
        """The accounts of which a member has a cap or a reserve."""
        self._open: set[str] = set()
        """Of these, where something is left beside all reserves, as of the last look: then a cap alone can close."""
        self._spent: dict[str, dict[str, None]] = {}
        self._changed: dict[tuple[str, int], None] = {}
        """(account, month) of which members' balances are others than they were …"""
        self._untold: dict[tuple[str, int], None] = {}
        """… and (member, month) that wait for their turn to be told of."""

    # ---- what a member may use ----

    def share(self, account_id: str, organization_id: str, month: int) -> Share:
        """What the organization has of its account's month."""
        unspent, remaining = self._unspent(account_id, month), self._remaining(account_id, month)
        return self._share(account_id, organization_id, month, unspent, remaining)

    def _share(
        self, account_id: str, organization_id: str, month: int, unspent_micro: int, remaining: int | None
    ) -> Share:
        used = self._used(organization_id, month)
        cap, _ = self._members.get(account_id, {}).get(organization_id, (None, 0))
        left = None if cap is None else max(0, cap - used)
        is_used_up = left == 0
        if remaining is not None:
            others = unspent_micro - self._unspent_of(account_id, organization_id, month)
            free = max(0, remaining - others)
            is_used_up |= others > 0 and not free
            left = free if left is None else min(left, free)
        return Share(used, left, is_used_up)

    def _remaining(self, account_id: str, month: int) -> int | None:
        account = self.context.ledgers.get("account", account_id, month)
        if account is None or account.total_micro is None:
            return None
        return account.total_micro - account.used_micro

    def _used(self, organization_id: str, month: int) -> int:
        ledger = self.context.ledgers.get(ORGANIZATION, organization_id, month)
        return 0 if ledger is None else ledger.used_micro

    def _unspent_of(self, account_id: str, organization_id: str, month: int) -> int:
        _, reserved = self._members.get(account_id, {}).get(organization_id, (None, 0))
        return max(0, reserved - self._used(organization_id, month)) if reserved else 0

    def _unspent(self, account_id: str, month: int) -> int:
        members = self._members.get(account_id, {})
        return sum(self._unspent_of(account_id, name, month) for name, (_, reserved) in members.items() if reserved)

    # ---- what balances show ----

    def is_share(self, ledger: Ledger) -> bool:
        """Whether it is of an organization that shares its account's credits with others."""
        return ledger.kind == ORGANIZATION and ledger.account_id in self._members

    def total_of(self, ledger: Ledger) -> int | None:
        """The total that a balance shows: a member's is of the moment."""
        if not self.is_share(ledger):
            return ledger.total_micro
        return self._shown(ledger, self._unspent(ledger.account_id, ledger.month))

    def _shown(self, ledger: Ledger, unspent_micro: int) -> int | None:
        account_id, month = ledger.account_id, ledger.month
        remaining = self._remaining(account_id, month)
        if remaining is None and self.context.ledgers.get("account", account_id, month) is None:
            remaining = self.context.ledgers.blank("account", account_id, month, account_id, None).total_micro
        return self._share(account_id, ledger.identifier, month, unspent_micro, remaining).total_micro

    def shares_changed(self, account_id: str, month: int) -> None:
        """What an account's month has, or what was used of it, is another: the balances of all members are, too."""
        if account_id in self._members:
            self._changed[account_id, month] = None

    def share_changed(self, organization_id: str, month: int) -> None:
        """The balance of a member is to be looked at."""
        self._untold[organization_id, month] = None

    @property
    def has_untold(self) -> bool:
        """Whether ``take_changed_shares`` has any."""
        return bool(self._changed or self._untold)

    def take_changed_shares(self, at_most: int) -> Iterator[tuple[Ledger, int | None]]:
        """(ledger, total) of ``at_most`` so many members whose balances may be others than they were; one without a
        ledger has one that is not kept."""
        changed, self._changed = self._changed, {}
        for account_id, month in changed:
            self._untold.update(((name, month), None) for name in self._members[account_id])
        unspent: dict[tuple[str, int], int] = {}
        for organization_id, month in list(islice(self._untold, at_most)):
            del self._untold[organization_id, month]
            account_id = self.context.accounts.organizations[organization_id].account_id
            if (account_id, month) not in unspent:
                unspent[account_id, month] = self._unspent(account_id, month)
            names = ORGANIZATION, organization_id, month
            ledger = self.context.ledgers.get(*names) or self.context.ledgers.blank(*names, account_id, organization_id)
            yield ledger, self._shown(ledger, unspent[account_id, month])

    # ---- verdicts ----

    def observes(self, route: Route) -> bool:
        return route.account_id in self._shared

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if cost_micro and route.account_id in self._shared:
            self._spent.setdefault(route.account_id, {})[route.organization_id] = None
            self.has_news = True

    def judge(self, moment: Moment) -> None:
        self.context.routes.fold()
        spent, self._spent = self._spent, {}
        for account_id, organization_ids in spent.items():
            if account_id in self._shared:
                self._look(moment, account_id, sorted(organization_ids))

    def look(self, moment: Moment, account_id: str) -> None:
        """The account's credits are others than they were: closes and opens its members' gates."""
        if account_id in self._shared:
            self._look(moment, account_id, ())

    def _look(
        self, moment: Moment, account_id: str, organization_ids: Sequence[str], changed_id: str | None = None
    ) -> None:
        """Looks at these members, and at all where the reserves begin or cease to be short, or none are named. Of
        ``changed_id``, which has another pool now, all is said."""
        unspent, remaining = self._unspent(account_id, moment.month), self._remaining(account_id, moment.month)
        is_open = remaining is None or remaining > unspent
        if not (organization_ids and is_open and account_id in self._open):
            organization_ids = sorted(self._members[account_id])
        (self._open.add if is_open else self._open.discard)(account_id)
        for organization_id in organization_ids:
            self._decide(moment, account_id, organization_id, unspent, is_new=organization_id == changed_id)

    def _decide(
        self, moment: Moment, account_id: str, organization_id: str, unspent_micro: int, *, is_new: bool
    ) -> None:
        """``is_new``: an allow is said even where no block stands: a former owner may have published one that its
        flush did not keep."""
        policy, scope = self.context.policy, ScopeNames(ORGANIZATION, organization_id)
        standing = policy.standing(scope, CREDITS)
        until_ms = month_start_ms(moment.month + 1)
        is_blocked = standing is not None and standing.verdict == "block" and standing.until_ms == until_ms
        remaining = self._remaining(account_id, moment.month)
        share = self._share(account_id, organization_id, moment.month, unspent_micro, remaining)
        if share.is_used_up == is_blocked and not (is_new and not is_blocked):
            return
        verdict, ends_ms = ("block", until_ms) if share.is_used_up else ("allow", None)
        limit = share.used_micro if share.total_micro is None else share.total_micro
        tier = self.context.accounts.organizations[organization_id].tier
        policy.decide(moment, scope, verdict, CREDITS, limit, share.used_micro, ends_ms, tier, None)

    def month_began(self, moment: Moment) -> None:
        """What came ahead of the month may have used up what a member has of it; a cap of nothing always has."""
        self._all_changed(moment.month)
        for account_id in sorted(self._shared):
            has_none = any(cap == 0 for cap, _ in self._members[account_id].values())
            if has_none or self.context.ledgers.get("account", account_id, moment.month) is not None:
                self._look(moment, account_id, ())

    # ---- members ----

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        if organization_id is None:
            self._all_changed(moment.month)
            for account_id in sorted(self._shared):
                self.look(moment, account_id)
            return
        account_id = self.context.accounts.organizations[organization_id].account_id
        before = self._members.get(account_id, {}).get(organization_id)
        was_shared = account_id in self._shared
        self._know(organization_id)
        self.shares_changed(account_id, moment.month)
        if was_shared or account_id in self._shared:
            self.context.routes.forget()
            is_changed = before is not None and before != self._members[account_id][organization_id]
            self._look(moment, account_id, (), organization_id if is_changed else None)

    def _know(self, organization_id: str) -> None:
        account_id = self.context.accounts.organizations[organization_id].account_id
        if account_id == organization_id and account_id not in self._members:
            return  # it may never have to share
        members = self._members.setdefault(account_id, {account_id: self.context.plans.pool_of(account_id)})
        members[organization_id] = self.context.plans.pool_of(organization_id)
        if any(pool != (None, 0) for pool in members.values()):
            self._shared.add(account_id)
        else:
            self._shared.discard(account_id)

    def resume(self, moment: Moment) -> None:
        for organization_id in self.context.accounts.organizations:
            self._know(organization_id)
        self._all_changed(moment.month)

    def _all_changed(self, month: int) -> None:
        self._changed.update(((account_id, month), None) for account_id in self._members)
