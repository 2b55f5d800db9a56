"""What is left of a limit on money, for whoever lends parts of it (hard limits; requirements, section 3)."""

from .budgets import Budgets
from .participant import PartitionContext
from .policy import CREDITS, Moment
from .pools import Pools
from .scopes import ScopeNames


def spendable_micro(context: PartitionContext, scope: ScopeNames, limit_name: str, moment: Moment) -> int | None:
    """The micro-credits that ``scope`` may still use of ``limit_name`` at ``moment``; None where that has no limit.

    0 where it is used up or overdrawn. What is lent is not taken off: used + lent ≤ total is the lender's.
    """
    if limit_name == CREDITS and scope.kind == "account":
        return _of_account(context, scope.id, moment)
    if limit_name == CREDITS and scope.kind == "organization":
        account_id = context.accounts.organizations[scope.id].account_id
        return context.peer(Pools).share(account_id, scope.id, moment.month).left_micro
    if limit_name in ("budget_day", "budget_month"):
        figures = context.peer(Budgets).of(scope, limit_name)
        return None if figures is None else max(0, figures.limit_micro - figures.used_micro)
    return None


def _of_account(context: PartitionContext, account_id: str, moment: Moment) -> int | None:
    ledgers = context.ledgers
    ledgers.bring_up(account_id)
    ledger = ledgers.find("account", account_id, moment.month, account_id, None)
    return None if ledger.total_micro is None else max(0, ledger.total_micro - ledger.used_micro)
