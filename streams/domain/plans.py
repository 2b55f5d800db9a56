"""What limits an organization or key has now: the one place that answers it.

Its plan in the catalogue version in force at the log time, its own limits before the plan's, raised by boosts. A limit
that an exemption takes off keeps its value: ``is_exempt`` says that it is off.
"""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from sluicegate_schemas.catalogue import Catalogue, Plan, Tier
from sluicegate_schemas.limits import CATEGORIES, CategoryShares

from .accounts import Accounts
from .in_force import InForce
from .limits import KeyLimits, Rates, key_limits
from .period import LogTime
from .routes import RateCards
from .tables import OrganizationRow

Feature = bool | int | str | list[str]
_SHARES: Final = CategoryShares()


class Plans:
    """Reads plans, own limits, boosts and exemptions. Where an organization is asked for, it must be known."""

    def __init__(self, time: LogTime, accounts: Accounts, cards: RateCards, in_force: InForce | None = None) -> None:
        self._time: Final = time
        self._accounts: Final = accounts
        self._cards: Final = cards
        self.in_force: Final = in_force or InForce()

    def catalogue(self) -> Catalogue | None:
        """The version in force at the log time."""
        return self._cards.at(self._time.now_ms)

    def plan_of(self, organization_id: str) -> Plan | None:
        """The plan of the organization's tier; None while no catalogue is in force."""
        catalogue = self.catalogue()
        if catalogue is None:
            return None
        return catalogue.plans[cast(Tier, self._accounts.organizations[organization_id].tier)]

    # ---- credits ----

    def credits_of(self, account_id: str) -> int | None:
        """The micro-credits that the plan, or the organization's own value, gives the account each month; None is
        unlimited. Grants and the credits of boosts come on top: they are the ledger's."""
        return self.credits_by(self._accounts.organizations[account_id])

    def credits_by(self, row: OrganizationRow) -> int | None:
        """The micro-credits of a month by ``row``; None is unlimited."""
        catalogue = self.catalogue()
        if catalogue is None:
            return row.credits_micro_own
        return catalogue.credits_micro_per_month(cast(Tier, row.tier), row.credits_micro_own)

    def credits_mode_of(self, organization_id: str) -> str:
        """Whether its credits are held "soft" or "hard"; of an account, the mode of its own organization counts."""
        own = self._accounts.organizations[organization_id].credits_mode_own
        if own is not None:
            return own
        plan = self.plan_of(organization_id)
        return "soft" if plan is None else plan.credits_mode

    def test_keys_spend_of(self, organization_id: str) -> bool:
        """Whether requests of its test keys cost credits."""
        plan = self.plan_of(organization_id)
        return plan is not None and plan.test_keys_spend

    # ---- rates ----

    def rates_of(self, api_key_id: str) -> Rates | None:
        """The request limits of a key; None where it has none."""
        key = self._accounts.keys.get(api_key_id)
        return None if key is None else self.organization_rates(key.organization_id)

    def organization_rates(self, organization_id: str) -> Rates | None:
        """The request limits of each key of an organization; None where they have none."""
        own = self._accounts.organizations[organization_id].rates_own
        if own is None:
            plan = self.plan_of(organization_id)
            if plan is None or plan.rates is None:
                return None
            own = plan.rates.requests_per_second, plan.rates.burst, plan.rates.requests_per_minute
        rates = Rates(*own)
        for boost in self.in_force.boosts_of(organization_id):
            if boost.rates is not None:
                rates = Rates(*map(max, rates, boost.rates))
        return rates

    def shares_of(self, organization_id: str) -> CategoryShares:
        """The requests a minute of each category, in percent of a key's."""
        own = self._accounts.organizations[organization_id].shares_own
        if own is not None:
            return CategoryShares(**dict(zip(CATEGORIES, own, strict=True)))
        plan = self.plan_of(organization_id)
        return _SHARES if plan is None else plan.shares

    def key_limits_of(self, api_key_id: str) -> KeyLimits | None:
        """The limits of a key's buckets; None where it has none."""
        key = self._accounts.keys.get(api_key_id)
        rates = None if key is None else self.organization_rates(key.organization_id)
        if key is None or rates is None:
            return None
        exempt = self.in_force.exempt(key.organization_id, None) + self.in_force.exempt(key.organization_id, api_key_id)
        return key_limits(rates, self.shares_of(key.organization_id), exempt)

    def throttled_takes_token(self, organization_id: str) -> bool:
        """Whether a request answered 429 takes a token all the same."""
        plan = self.plan_of(organization_id)
        return plan is not None and plan.throttled_takes_token

    def as_of(self, time_ms: int) -> "Plans":
        """The same accounts, boosts and exemptions with the catalogue version in force at ``time_ms``."""
        time = LogTime()
        time.now_ms = time_ms
        return Plans(time, self._accounts, self._cards, self.in_force)

    # ---- the organization's other limits ----

    def concurrency_of(self, organization_id: str) -> int | None:
        """The requests of the organization at a time; None is unlimited."""
        limit = self._accounts.organizations[organization_id].concurrency_own
        if limit is None:
            plan = self.plan_of(organization_id)
            limit = None if plan is None else plan.concurrency
        if limit is None:
            return None
        boosts = self.in_force.boosts_of(organization_id)
        return max([limit, *(boost.concurrency for boost in boosts if boost.concurrency is not None)])

    def quota_of(self, organization_id: str, resource: str) -> int | None:
        """How much of the resource the organization may hold; None is unlimited."""
        own = self._accounts.organizations[organization_id].quotas_own
        if own is not None and resource in own:
            return _raised(own[resource], resource, self._boosted_quotas(organization_id))
        plan = self.plan_of(organization_id)
        quotas: Mapping[str, int | None] = {} if plan is None else cast("dict[str, int | None]", plan.quotas)
        return _raised(quotas.get(resource), resource, self._boosted_quotas(organization_id))

    def quotas_of(self, organization_id: str) -> dict[str, int | None]:
        """All quotas of the organization that have a limit, or had one before a boost took it off (None)."""
        plan = self.plan_of(organization_id)
        own = self._accounts.organizations[organization_id].quotas_own or {}
        names = sorted({*(() if plan is None else plan.quotas), *own})
        return {name: self.quota_of(organization_id, name) for name in names}

    def _boosted_quotas(self, organization_id: str) -> Iterable[Mapping[str, int | None]]:
        return [boost.quotas for boost in self.in_force.boosts_of(organization_id) if boost.quotas]

    def features_of(self, organization_id: str) -> dict[str, Feature]:
        """The plan's flags, with the organization's own in their place."""
        plan = self.plan_of(organization_id)
        features: dict[str, Feature] = {}
        if plan is not None:
            for name, value in plan.features.items():
                features[name] = list(value) if isinstance(value, tuple) else value
        return features | (self._accounts.organizations[organization_id].features_own or {})

    def failure_modes_of(self, organization_id: str) -> dict[str, tuple[str, int | None]]:
        """(mode, allowance percent) by category, the organization's own before the plan's; the others fail open."""
        plan = self.plan_of(organization_id)
        modes: dict[str, tuple[str, int | None]] = {}
        if plan is not None:
            modes = {category: (one.mode, one.allowance_percent) for category, one in plan.failure_modes.items()}
        return modes | (self._accounts.organizations[organization_id].failure_modes_own or {})

    def pool_of(self, organization_id: str) -> tuple[int | None, int]:
        """(cap, reserved) in micro-credits of what the organization has of its account's credits."""
        return self._accounts.organizations[organization_id].pool or (None, 0)

    # ---- exemptions ----

    def is_exempt(self, organization_id: str, api_key_id: str | None, limit_name: str) -> bool:
        """Whether a limit is off now for the organization, or for this key of it.

        For a limit of an account (its credits), ask with the account's own organization.
        """
        return self.in_force.is_exempt(organization_id, api_key_id, limit_name)


def _raised(limit: int | None, resource: str, boosts: Iterable[Mapping[str, int | None]]) -> int | None:
    """A quota as boosts raise it; None is unlimited."""
    for quotas in boosts:
        if limit is None:
            return None
        if resource in quotas:
            boosted = quotas[resource]
            limit = None if boosted is None else max(limit, boosted)
    return limit
