"""Burn order: out of which credits a ledger's usage is paid (requirements, section 9: grants).

The sources of an account's month are its plan's credits and its grants. Those of the lowest priority burn first, then
those that expire first, then the oldest. Between two changes of the sources it makes no difference how often usage is
settled: burning a and then b out of the same sources in the same order is burning a + b. So it is put off until a
source changes.
"""

from collections.abc import Sequence
from typing import Final

from sluicegate_schemas.accounts import PRIORITY_DEFAULT

from .ledger import Ledger
from .period import month_start_ms
from .tables import GrantRow

_NO_END_MS: Final = 2**62
Order = tuple[int, int, int, str, str]
"""(priority, when it expires, since when it is there, kind, id): the least burns first."""


class Grant:
    """Credits given to an account: ``row`` says how many, when, and how many of them are burned."""

    __slots__ = ("account_id", "identifier", "key", "kind", "order", "row")

    def __init__(self, key: bytes, kind: str, account_id: str, identifier: str, row: GrantRow) -> None:
        self.key = key
        self.kind = kind
        self.account_id = account_id
        self.identifier = identifier
        self.row = row
        end_ms = _NO_END_MS if row.expires_ms is None else row.expires_ms
        self.order: Order = (row.priority, end_ms, row.effective_ms, kind, identifier)

    @property
    def remaining_micro(self) -> int:
        """What is not burned yet."""
        return self.row.credits_micro - self.row.burned_micro

    def is_alive(self, time_ms: int) -> bool:
        """Whether it has begun by ``time_ms`` and not expired."""
        row = self.row
        return row.effective_ms <= time_ms and (row.expires_ms is None or row.expires_ms > time_ms)


def plan_order(month: int) -> Order:
    """Where the plan's own credits of a month stand: they begin with it and lapse at its end."""
    return (PRIORITY_DEFAULT, month_start_ms(month + 1), month_start_ms(month), "", "")


def settle(ledger: Ledger, grants: Sequence[Grant]) -> list[Grant]:
    """Burns what the account's ``ledger`` has used and no source has paid yet out of its plan and of ``grants``, which
    are in burn order; what none of them covers stays overage. Returns the grants that burned."""
    burned: list[Grant] = []
    due = ledger.unpaid_micro
    plan_at = plan_order(ledger.month)
    is_plan_due = True
    for grant in grants:
        if is_plan_due and plan_at < grant.order:
            due -= _burn_plan(ledger, due)
            is_plan_due = False
        micro = min(due, grant.remaining_micro)
        if micro > 0:
            grant.row.burned_micro += micro
            ledger.granted_burned_micro += micro
            due -= micro
            burned.append(grant)
    if is_plan_due:
        _burn_plan(ledger, due)
    return burned


def _burn_plan(ledger: Ledger, due: int) -> int:
    plan = ledger.plan_micro
    micro = due if plan is None else min(due, max(0, plan - ledger.plan_burned_micro))
    ledger.plan_burned_micro += micro
    return micro
