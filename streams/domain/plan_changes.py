"""What has to follow when the limits of an organization or key change."""

from collections.abc import Sequence
from typing import Final, Protocol

from .accounts import Accounts
from .entitlements import Entitlements
from .ledger import Ledgers
from .plans import Plans
from .policy import Moment, Policy
from .rate_changes import RateChanges
from .route_table import RouteTable
from .tables import OrganizationRow


class Listener(Protocol):
    """Whoever has limits of its own; see ``participant.Participant``."""

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        """The limits of an organization, or (None) of all, may be others now."""


class PlanChanges:
    """Brings entitlements, buckets, totals and standing decisions to changed plans."""

    def __init__(
        self,
        accounts: Accounts,
        plans: Plans,
        entitlements: Entitlements,
        routes: RouteTable,
        rates: RateChanges,
        ledgers: Ledgers,
        policy: Policy,
    ) -> None:
        self._accounts: Final = accounts
        self._plans: Final = plans
        self._entitlements: Final = entitlements
        self._routes: Final = routes
        self._rates: Final = rates
        self._ledgers: Final = ledgers
        self._policy: Final = policy
        self.listeners: Sequence[Listener] = ()

    def organization_put(self, moment: Moment, organization_id: str, before: OrganizationRow | None) -> None:
        """An organization was put; it was ``before``, if it was known.

        This month is the old plan's, also where nothing was used in it yet: a downgrade waits for the reset.
        """
        self._entitlements.organization(organization_id)
        self._rates.organization(moment, organization_id)
        if self._accounts.organizations[organization_id].account_id == organization_id:
            if before is not None and self._plans.catalogue() is not None:
                self._ledgers.open(organization_id, moment.month, self._plans.credits_by(before))
            self._adapt_account(moment, organization_id)
        self._tell(moment, organization_id)

    def limits_changed(self, moment: Moment, organization_id: str) -> None:
        """A boost or exemption of the organization, or of keys of it, began, changed or ended."""
        self._routes.forget()
        self._entitlements.organization(organization_id)
        self._rates.organization(moment, organization_id)
        self._tell(moment, organization_id)

    def key_changed(self, moment: Moment, api_key_id: str) -> None:
        """A key was made, changed or revoked."""
        self._entitlements.key(api_key_id)
        self._tell(moment, self._accounts.keys[api_key_id].organization_id)

    def catalogue(self, moment: Moment) -> None:
        """Another catalogue version took effect."""
        self._rates.catalogue(moment)
        for account_id in sorted({ledger.identifier for ledger in self._ledgers if ledger.kind == "account"}):
            self._adapt_account(moment, account_id)
        self._tell(moment, None)

    def month(self, moment: Moment) -> None:
        """A month began: its ledgers that exist already are looked at, since events may be ahead of the log."""
        for ledger in [one for one in self._ledgers if one.kind == "account" and one.month == moment.month]:
            self._ledgers.bring_up(ledger.identifier)
            self._policy.watch(ledger, moment.month)
            if ledger.used_micro >= ledger.watch_micro:
                tier = self._accounts.organizations[ledger.identifier].tier
                self._policy.credits_reached(moment, ledger, tier, None)

    def _tell(self, moment: Moment, organization_id: str | None) -> None:
        for listener in self.listeners:
            listener.plan_changed(moment, organization_id)

    def _adapt_account(self, moment: Moment, account_id: str) -> None:
        tier = self._accounts.organizations[account_id].tier
        for ledger in self._ledgers.change_plan(account_id, moment.month):
            self._policy.total_changed(moment, ledger, tier)
