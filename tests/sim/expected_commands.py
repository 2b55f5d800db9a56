"""What the commands on credits and limits must come to: grants, boosts, exemptions, budgets, corrections."""

from __future__ import annotations

from sluicegate_schemas.accounts import (
    AnyCommand,
    BoostEnd,
    BoostPut,
    BudgetPut,
    BudgetRemove,
    CapacityReserve,
    CorrectionPut,
    ExemptionEnd,
    ExemptionPut,
    GrantPut,
    GrantRevoke,
    QuotaRecount,
)
from sluicegate_schemas.bounds import to_epoch_ms
from stack.rating import month_span_ms

from .expected_accounts import ExpectedAccounts, RefusedError
from .expected_budgets import ExpectedBudgets
from .expected_credits import GRACE_MS, PLAN_PRIORITY, ExpectedCredits, Grant
from .expected_pools import ExpectedPools
from .expected_quotas import ExpectedQuotas

Charge = tuple[str, str, str | None, str, int, int]
"""(account, organization, key, breakdown, micro-credits, the time that it is booked at)."""


class ExpectedCommands:
    """Of one partition."""

    def __init__(self, accounts: ExpectedAccounts) -> None:
        self.accounts = accounts
        self.credits = ExpectedCredits(lambda name, month: accounts.total_micro(name, month_span_ms(month)[0]))
        self.budgets = ExpectedBudgets()
        self.quotas = ExpectedQuotas()
        self.pools = ExpectedPools(accounts)
        self.charges: list[Charge] = []
        """Of corrections, to be booked; whoever books them takes them out."""
        self.month_used = lambda kind, name: 0
        """What the log's month has used of an organization or key, in micro-credits."""

    def advance(self, now_ms: int, month: str) -> None:
        """Time passes, before what brings it is counted."""
        self.credits.advance(now_ms, month)
        self.budgets.now_ms = now_ms
        for organization_id in self.accounts.overrides.advance(now_ms):
            self.accounts.limits_changed(organization_id)

    def obey(self, command: AnyCommand) -> None:
        """Carries a command out. Raises RefusedError."""
        accounts, about = self.accounts, command.about
        if accounts.account_of(about) != command.account_id:
            raise RefusedError("command_refused")
        key = getattr(command, "api_key_id", None)
        if key is not None and accounts.organization_of_key(key) != about:
            raise RefusedError("command_refused")
        match command:
            case GrantPut():
                expires_ms = None if command.expires_at is None else to_epoch_ms(command.expires_at)
                names = "grant", command.grant_id, command.credits_micro, command.priority
                self._must(self.credits.give(about, Grant(*names, to_epoch_ms(command.effective_at), expires_ms)))
            case GrantRevoke():
                self._must(self.credits.take_back(about, "grant", command.grant_id))
            case BoostPut():
                self._boost(command)
            case BoostEnd():
                before = accounts.overrides.end(about, is_boost=True, identifier=command.boost_id)
                self._must(before is not None)
                self.credits.take_back(command.account_id, "boost", f"{about}:{command.boost_id}")
                accounts.limits_changed(about)
            case ExemptionPut():
                self._must(accounts.overrides.put(command.exemption_id, command))
                accounts.limits_changed(about)
            case ExemptionEnd():
                before = accounts.overrides.end(about, is_boost=False, identifier=command.exemption_id)
                self._must(before is not None)
                accounts.limits_changed(about)
            case BudgetPut():
                kind, name = ("key", key) if key is not None else ("organization", about)
                has_used = command.period == "month" and command.label is None
                self.budgets.put(command, self.month_used(kind, name) if has_used else 0)
            case BudgetRemove():
                self._must(self.budgets.remove(command))
            case CapacityReserve():
                self._must(self.pools.reserve(command))
            case CorrectionPut():
                self._correct(command)
            case QuotaRecount():
                self._must(self.quotas.recount(about, {str(name): n for name, n in command.counts.items()}))
            case _:
                raise RefusedError("unknown_command")

    @staticmethod
    def _must(is_possible: bool) -> None:
        if not is_possible:
            raise RefusedError("command_refused")

    def _boost(self, command: BoostPut) -> None:
        organization_id, name = command.organization_id, f"{command.organization_id}:{command.boost_id}"
        self._must(self.accounts.overrides.put(command.boost_id, command))
        if command.credits_micro is not None:
            times = to_epoch_ms(command.effective_at), to_epoch_ms(command.until)
            grant = Grant("boost", name, command.credits_micro, PLAN_PRIORITY, *times)
            self._must(self.credits.give(command.account_id, grant, replaces=True))
        else:
            self.credits.take_back(command.account_id, "boost", name)
        self.accounts.limits_changed(organization_id)

    def _correct(self, command: CorrectionPut) -> None:
        now_ms, current = self.credits.now_ms, self.credits.month
        self._must(command.month <= current)
        if command.direction == "credit":
            end_ms = month_span_ms(current)[1]
            grant = Grant("correction", command.command_id, command.credits_micro, 0, now_ms, end_ms)
            self._must(self.credits.give(command.account_id, grant))
            return
        end_ms = month_span_ms(command.month)[1]
        is_late = command.month < current and now_ms < end_ms + GRACE_MS
        at_ms = end_ms - 1 if is_late else now_ms
        names = command.account_id, command.organization_id, command.api_key_id
        self.charges.append((*names, command.breakdown, command.credits_micro, at_ms))
        self.budgets.spend(*names[1:], {}, now_ms, command.credits_micro)
