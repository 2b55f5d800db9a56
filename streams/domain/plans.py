"""What an organization's plan gives it now, and what has to follow when that changes."""

from typing import Final, cast

from sluicegate_schemas.catalogue import Catalogue, Tier

from .accounts import Accounts
from .ledger import Ledgers
from .limits import KeyBuckets, Rates
from .period import LogTime
from .policy import Moment, Policy
from .routes import RateCards
from .tables import OrganizationRow


class Plans:
    """Reads plans from the catalogue version in force at the log time, and an organization's own limits."""

    def __init__(self, time: LogTime, accounts: Accounts, cards: RateCards) -> None:
        self._time: Final = time
        self._accounts: Final = accounts
        self._cards: Final = cards

    def catalogue(self) -> Catalogue | None:
        """The version in force at the log time."""
        return self._cards.at(self._time.now_ms)

    def credits_of(self, account_id: str) -> int | None:
        """The micro-credits of the account's month; None is unlimited."""
        return self.credits_by(self._accounts.organizations[account_id])

    def credits_by(self, row: OrganizationRow) -> int | None:
        """The micro-credits of a month by ``row``; None is unlimited."""
        catalogue = self.catalogue()
        if catalogue is None:
            return row.credits_micro_own
        return catalogue.credits_micro_per_month(cast(Tier, row.tier), row.credits_micro_own)

    def rates_of(self, api_key_id: str) -> Rates | None:
        """The request limits of a key; None where it has none."""
        key = self._accounts.keys.get(api_key_id)
        if key is None:
            return None
        row = self._accounts.organizations[key.organization_id]
        if row.rates_own is not None:
            return Rates(*row.rates_own)
        catalogue = self.catalogue()
        rates = None if catalogue is None else catalogue.rates(cast(Tier, row.tier), None)
        return None if rates is None else Rates(rates.requests_per_second, rates.burst, rates.requests_per_minute)


class PlanChanges:
    """Brings buckets, totals and standing decisions to changed plans."""

    def __init__(self, accounts: Accounts, plans: Plans, buckets: KeyBuckets, ledgers: Ledgers, policy: Policy) -> None:
        self._accounts = accounts
        self._plans = plans
        self._buckets = buckets
        self._ledgers = ledgers
        self._policy = policy

    def organization(self, moment: Moment, organization_id: str, before: OrganizationRow | None) -> None:
        """An organization was put; it was ``before``, if it was known.

        This month is the old plan's, also where nothing was used in it yet: a downgrade waits for the reset.
        """
        for api_key_id in self._accounts.keys_of(organization_id):
            self._adapt_key(moment, api_key_id)
        if self._accounts.organizations[organization_id].account_id == organization_id:
            if before is not None and self._plans.catalogue() is not None:
                self._ledgers.open(organization_id, moment.month, self._plans.credits_by(before))
            self._adapt_account(moment, organization_id)

    def catalogue(self, moment: Moment) -> None:
        """Another catalogue version took effect."""
        for api_key_id in sorted(buckets.api_key_id for buckets in self._buckets):
            self._adapt_key(moment, api_key_id)
        for account_id in sorted({ledger.identifier for ledger in self._ledgers if ledger.kind == "account"}):
            self._adapt_account(moment, account_id)

    def month(self, moment: Moment) -> None:
        """A month began: its ledgers that exist already are looked at, since events may be ahead of the log."""
        for ledger in [one for one in self._ledgers if one.kind == "account" and one.month == moment.month]:
            self._policy.watch(ledger, moment.month)
            if ledger.used_micro >= ledger.watch_micro:
                tier = self._accounts.organizations[ledger.identifier].tier
                self._policy.credits_reached(moment, ledger, tier, None)

    def _adapt_key(self, moment: Moment, api_key_id: str) -> None:
        buckets = self._buckets.get(api_key_id)
        if buckets is not None and self._buckets.adapt(buckets, moment.now_ms):
            tier = self._accounts.organizations[self._accounts.keys[api_key_id].organization_id].tier
            if self._buckets.get(api_key_id) is None:
                self._policy.rates_lifted(moment, buckets, tier)
            else:
                self._policy.rates_changed(moment, buckets, tier)

    def _adapt_account(self, moment: Moment, account_id: str) -> None:
        tier = self._accounts.organizations[account_id].tier
        for ledger in self._ledgers.change_total(account_id, moment.month):
            self._policy.total_changed(moment, ledger, tier)
