"""What a view holds of keys, organizations and decisions: plain tuples, made once for each record."""

from typing import NamedTuple

from sluicegate_schemas.accounts import KeyMode, KeyScope
from sluicegate_schemas.catalogue import Tier
from sluicegate_schemas.limits import (
    CategoryShares,
    FailureModes,
    FeaturesInForce,
    LimitMode,
    LimitName,
    Quotas,
    RateLimits,
)
from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement, Scope
from sluicegate_schemas.wire_decision import WireDecision


class Key(NamedTuple):
    """An API key as the gate sees it; the limits in ``exempt`` are off. One that ``is_contested`` belongs to several
    accounts, and is held as revoked. ``scopes`` are of the usage API alone; None: all."""

    api_key_id: str
    organization_id: str
    account_id: str
    mode: KeyMode
    revoked: bool
    exempt: tuple[LimitName, ...] = ()
    is_contested: bool = False
    scopes: tuple[KeyScope, ...] | None = None


class Organization(NamedTuple):
    """An organization's tier and the limits in force; None are the plan's. See ``OrganizationEntitlement``."""

    organization_id: str
    tier: Tier
    rates: RateLimits | None
    credits_micro_per_month: int | None = None
    shares: CategoryShares | None = None
    concurrency: int | None = None
    quotas: Quotas | None = None
    objects_per_batch: int | None = None
    features: FeaturesInForce | None = None
    credits_mode: LimitMode | None = None
    failure_modes: FailureModes | None = None
    exempt: tuple[LimitName, ...] = ()
    hard_budgets: tuple[Scope, ...] = ()
    hard_budget_limits: tuple[LimitName, ...] = ()


class Verdict(NamedTuple):
    """What was decided last on a scope and limit; see ``sluicegate_schemas.outputs.Decision``. A block ends by itself
    at ``until_ms``, if given; an allow says how much of the limit is used."""

    decision_id: str
    scope: str
    limit_name: LimitName
    limit: int
    observed: int
    until_ms: int | None
    decided_at_ms: int
    blocks: bool

    @property
    def record_key(self) -> str:
        """Its key on the decisions topic."""
        return f"{self.limit_name}:{self.scope}"


def key_of(record: KeyEntitlement) -> Key:
    """The entry of a record."""
    return Key(
        record.api_key_id,
        record.organization_id,
        record.account_id,
        record.mode,
        record.revoked,
        record.exempt,
        scopes=record.scopes,
    )


def organization_of(record: OrganizationEntitlement) -> Organization:
    """The entry of a record."""
    return Organization(
        record.organization_id,
        record.tier,
        record.rates,
        record.credits_micro_per_month,
        record.shares,
        record.concurrency,
        record.quotas,
        record.objects_per_batch,
        record.features,
        record.credits_mode,
        record.failure_modes,
        record.exempt,
        record.hard_budgets,
        record.hard_budget_limits,
    )


def verdict_of(record: WireDecision) -> Verdict:
    """The entry of a record."""
    return Verdict(
        record.decision_id,
        record.scope.text(),
        record.limit_name,
        record.limit,
        record.observed,
        record.until_ms,
        record.decided_at_ms,
        record.verdict == "block",
    )
