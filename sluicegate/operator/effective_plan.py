"""What is in force for an organization: the plan, own values, boosts and exemptions together. Pure."""

from sluicegate_schemas.accounts import KeyMode
from sluicegate_schemas.bounds import Record
from sluicegate_schemas.catalogue import Catalogue, Tier
from sluicegate_schemas.limits import (
    CATEGORIES,
    Category,
    CategoryShares,
    FailureModes,
    FeaturesInForce,
    LimitMode,
    LimitName,
    OperationLimits,
    Quotas,
    RateLimits,
)
from sluicegate_schemas.outputs import OrganizationEntitlement


class EffectivePlan(Record):
    """The limits in force now; null is unlimited. ``not_the_plans`` names those that are own values or boosted."""

    organization_id: str
    account_id: str
    tier: Tier
    catalogue_version: int
    credits_micro_per_month: int | None
    credits_mode: LimitMode
    rates: RateLimits | None
    shares: CategoryShares
    requests_per_minute: dict[Category, int | None]
    concurrency: int | None
    quotas: Quotas
    objects_per_batch: int | None
    features: FeaturesInForce
    failure_modes: FailureModes
    rollover: bool
    test_keys_spend: bool
    operation_limits: OperationLimits
    exempt: tuple[LimitName, ...]
    not_the_plans: tuple[str, ...]
    keys: dict[str, KeyMode]
    """The keys that are not revoked."""


def effective(one: OrganizationEntitlement, catalogue: Catalogue, keys: dict[str, KeyMode]) -> EffectivePlan:
    """What holds for the organization: the entitlement's values, the plan's where those are null."""
    plan = catalogue.plans[one.tier]
    names = ("credits_micro_per_month", "credits_mode", "rates", "shares", "concurrency", "quotas",
             "objects_per_batch", "features", "failure_modes")  # fmt: skip
    values = {name: getattr(plan if getattr(one, name) is None else one, name) for name in names}
    rates, shares = values["rates"], values["shares"]
    minute = None if rates is None else rates.requests_per_minute
    return EffectivePlan(
        organization_id=one.organization_id,
        account_id=one.account_id,
        tier=one.tier,
        catalogue_version=catalogue.version,
        **values,
        requests_per_minute={
            category: None if minute is None else shares.per_minute(category, minute) for category in CATEGORIES
        },
        rollover=plan.rollover,
        test_keys_spend=plan.test_keys_spend,
        operation_limits=catalogue.operation_limits,
        exempt=one.exempt,
        not_the_plans=tuple(name for name in names if getattr(one, name) is not None),
        keys=keys,
    )
