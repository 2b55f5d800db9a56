"""Reserved capacity: a part of an organization's credits of each month that only one category may use (requirements,
section 1).

The other categories are blocked once all that is left to the organization is reserved. A reserve counts what its
category has used since the month began, or since it was made.
"""

from typing import Any, Final

import msgspec

from sluicegate_schemas.accounts import AnyCommand, CapacityReserve
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.limits import CATEGORIES

from .command_record import RefusedError
from .participant import Change, Participant, PartitionContext
from .period import month_start_ms
from .policy import CREDITS, Moment
from .pools import Pools
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .scopes import ScopeNames
from .tables import CapacityRow, row_key

_CLOSED: Final = tuple(category for category in CATEGORIES if category != "metadata")
"""The categories that a verdict may close; metadata costs nothing."""


class Capacity(Participant):
    """The reserves of all organizations of the partition."""

    obeys = (CapacityReserve,)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rows: dict[str, dict[str, CapacityRow]] = {}
        """By organization and category."""
        self._of_account: dict[str, dict[str, None]] = {}
        """By account: its organizations that have reserves."""
        self._spent: dict[str, None] = {}

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("w", CapacityRow, by_names(self._restore))

    def sizes(self) -> dict[str, int]:
        return {"capacity": sum(map(len, self._rows.values()))}

    # ---- commands ----

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        assert isinstance(command, CapacityReserve)
        organization_id, category = command.organization_id, command.category
        before = self._rows.get(organization_id, {}).get(category)
        shown = None if before is None else _shown(before)
        after = None
        if command.credits_micro:
            after = before or CapacityRow(0, moment.month)
            after.credits_micro = command.credits_micro
            self._rows.setdefault(organization_id, {})[category] = after
            self._of_account.setdefault(command.account_id, {})[organization_id] = None
        elif before is None:
            raise RefusedError("is no category for which something is reserved", "category")
        else:
            del self._rows[organization_id][category]
        self.context.changed.rows[row_key("w", organization_id, category)] = after
        self._look(moment, organization_id, is_new=True)
        if not self._rows[organization_id]:
            del self._rows[organization_id], self._of_account[command.account_id][organization_id]
        return Change(f"{organization_id}:{category}", shown, None if after is None else _shown(after))

    # ---- counting ----

    def observes(self, route: Route) -> bool:
        return bool(self._of_account.get(route.account_id))

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if not cost_micro or not self._of_account.get(route.account_id):
            return
        self._spent[route.account_id] = None
        self.has_news = True
        row = self._rows.get(route.organization_id, {}).get(route.tariff.category)
        if row is None:
            return
        now = self.context.time.month
        if now > row.month:
            row.used_micro, row.ahead_micro, row.month = _used_micro(row, now), 0, now
        month = route.account.month
        if month == row.month:
            row.used_micro += cost_micro
        elif month == row.month + 1:
            row.ahead_micro += cost_micro
        else:
            return
        self.context.changed.rows[row_key("w", route.organization_id, route.tariff.category)] = row

    # ---- verdicts ----

    def judge(self, moment: Moment) -> None:
        self.context.routes.fold()
        spent, self._spent = self._spent, {}
        for account_id in spent:
            self.look(moment, account_id)

    def look(self, moment: Moment, account_id: str) -> None:
        """The account's credits are others than they were: closes and opens categories of its organizations."""
        for organization_id in self._of_account.get(account_id, ()):
            self._look(moment, organization_id, is_new=False)

    def month_began(self, moment: Moment) -> None:
        """What came ahead of the month may leave no more of it than is reserved."""
        for account_id in self._of_account:
            if self.context.ledgers.get("account", account_id, moment.month) is not None:
                self.look(moment, account_id)

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        organizations = self.context.accounts.organizations
        accounts = list(self._of_account) if organization_id is None else [organizations[organization_id].account_id]
        for account_id in accounts:
            self.look(moment, account_id)

    def _look(self, moment: Moment, organization_id: str, *, is_new: bool) -> None:
        organization = self.context.accounts.organizations[organization_id]
        share = self.context.peer(Pools).share(organization.account_id, organization_id, moment.month)
        unspent = {
            category: max(0, row.credits_micro - _used_micro(row, moment.month))
            for category, row in self._rows[organization_id].items()
        }
        until_ms = month_start_ms(moment.month + 1)
        policy = self.context.policy
        for category in _CLOSED:
            scope = ScopeNames("category", organization_id, category=category)
            standing = policy.standing(scope, CREDITS)
            is_blocked = standing is not None and standing.verdict == "block" and standing.until_ms == until_ms
            others = sum(unspent.values()) - unspent.get(category, 0)
            left = share.left_micro
            must_block = left is not None and others > 0 and left <= others
            if must_block == is_blocked and (must_block or not is_new):
                continue
            verdict, ends_ms = ("block", until_ms) if must_block else ("allow", None)
            limit = share.used_micro + (0 if left is None else max(0, left - others))
            policy.decide(moment, scope, verdict, CREDITS, limit, share.used_micro, ends_ms, organization.tier, None)

    # ---- recovery ----

    def _restore(self, organization_id: str, category: str, row: CapacityRow) -> None:
        self._rows.setdefault(organization_id, {})[category] = row

    def resume(self, moment: Moment) -> None:
        for organization_id in self._rows:
            account_id = self.context.accounts.organizations[organization_id].account_id
            self._of_account.setdefault(account_id, {})[organization_id] = None


def _used_micro(row: CapacityRow, month: int) -> int:
    """What the category used in the month."""
    if month == row.month:
        return row.used_micro
    return row.ahead_micro if month == row.month + 1 else 0


def _shown(row: CapacityRow) -> dict[str, Any]:
    """The reserve as the audit trail shows it."""
    return msgspec.structs.asdict(row)
