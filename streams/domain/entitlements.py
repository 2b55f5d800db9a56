"""What gates are told of organizations and keys: their limits as they are in force now."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sluicegate_schemas.limits import CATEGORIES
from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement

from .accounts import Accounts
from .outputs import Outbox
from .plans import Plans
from .scopes import ScopeNames


class Entitlements:
    """Publishes them, with the flush.

    A limit that is neither the organization's own nor boosted is null: the plan's, so that another catalogue version
    need not be told to each organization. What is given is whole: own quotas stand among those of the plan.
    """

    def __init__(self, accounts: Accounts, plans: Plans, outbox: Outbox) -> None:
        self._accounts: Final = accounts
        self._plans: Final = plans
        self._outbox: Final = outbox
        self.hard_budgets_of: Callable[[str], Sequence[tuple[ScopeNames, str]]] = lambda _: ()
        """The scopes of an organization whose budgets are held hard; whoever keeps budgets sets it."""

    def organization(self, organization_id: str) -> None:
        """Tells gates what an organization may do."""
        row = self._accounts.organizations[organization_id]
        plans = self._plans
        boosts = list(plans.in_force.boosts_of(organization_id))
        limits: dict[str, Any] = {}
        if row.rates_own is not None or any(boost.rates is not None for boost in boosts):
            rates = plans.organization_rates(organization_id)
            limits["rates"] = None if rates is None else rates._asdict()
        if row.shares_own is not None:
            limits["shares"] = dict(zip(CATEGORIES, row.shares_own, strict=True))
        if row.concurrency_own is not None or any(boost.concurrency is not None for boost in boosts):
            limits["concurrency"] = plans.concurrency_of(organization_id)
        if row.quotas_own is not None or any(boost.quotas is not None for boost in boosts):
            limits["quotas"] = plans.quotas_of(organization_id)
        if row.features_own is not None:
            limits["features"] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in plans.features_of(organization_id).items()
            }
        if row.failure_modes_own is not None:
            limits["failure_modes"] = {
                category: {"mode": mode, "allowance_percent": percent}
                for category, (mode, percent) in plans.failure_modes_of(organization_id).items()
            }
        self._outbox.entitlement(
            OrganizationEntitlement.model_validate(
                {
                    "organization_id": organization_id,
                    "account_id": row.account_id,
                    "tier": row.tier,
                    "credits_micro_per_month": row.credits_micro_own,
                    "rates": None,
                    "objects_per_batch": row.objects_per_batch_own,
                    "credits_mode": row.credits_mode_own,
                    "exempt": tuple(plans.in_force.exempt(organization_id, None)),
                    "hard_budgets": tuple(scope._asdict() for scope, _ in self.hard_budgets_of(organization_id)),
                    "hard_budget_limits": tuple(name for _, name in self.hard_budgets_of(organization_id)),
                    "sequence": self._outbox.next_sequence(),
                    **limits,
                }
            )
        )

    def key(self, api_key_id: str) -> None:
        """Tells gates whose a key is, or that it is revoked."""
        row = self._accounts.keys[api_key_id]
        self._outbox.entitlement(
            KeyEntitlement.model_validate(
                {
                    "key_sha256": row.key_sha256,
                    "api_key_id": api_key_id,
                    "organization_id": row.organization_id,
                    "account_id": self._accounts.organizations[row.organization_id].account_id,
                    "mode": row.mode,
                    "revoked": row.revoked,
                    "exempt": tuple(self._plans.in_force.exempt(row.organization_id, api_key_id)),
                    "scopes": None if row.scopes is None else tuple(row.scopes),
                    "sequence": self._outbox.next_sequence(),
                }
            )
        )

    def say_again(self, record_key: str) -> None:
        """Publishes the entitlement with this record key again, if there is one."""
        kind, _, name = record_key.partition(":")
        if kind == "organization" and name in self._accounts.organizations:
            self.organization(name)
        elif kind == "key" and (api_key_id := self._accounts.key_of_hash(name)) is not None:
            self.key(api_key_id)
