"""The catalogue: plans and the rate card as versioned, immutable data (requirements, sections 1 and 2)."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .alert_rules import AlertRules
from .bounds import Count, CreditsMicro, Name, Operation, Quantity, Record, Time
from .limits import (
    Category,
    CategoryShares,
    FailureModes,
    Features,
    LimitMode,
    OperationLimits,
    QuantityName,
    Quotas,
    RateLimits,
)
from .usage import ResourceName

Tier = Literal["free", "pro", "team", "enterprise"]
Breakdown = Literal["documents", "inference", "search", "compute", "storage", "upload"]
Positive = Annotated[int, Field(ge=1, le=10**15)]


class FreePrice(Record):
    """Costs nothing; metered by requests."""

    kind: Literal["free"] = "free"


class UnitPrice(Record):
    """``credits_micro`` for each ``per`` units of ``quantity``, pro rata, rounded half up to the micro-credit."""

    kind: Literal["per_unit"]
    quantity: QuantityName
    per: Positive = 1
    credits_micro: CreditsMicro


class ModelPrice(Record):
    """A price per request by model; an unknown or missing model costs ``credits_micro_default``."""

    kind: Literal["per_model"]
    models: Annotated[dict[Name, CreditsMicro], Field(max_length=1000)]
    credits_micro_default: CreditsMicro


class StartedPrice(Record):
    """``credits_micro`` for each started ``per`` units of ``quantity``, between a minimum and a maximum."""

    kind: Literal["per_started"]
    quantity: QuantityName
    per: Positive
    credits_micro: CreditsMicro
    credits_micro_min: CreditsMicro
    credits_micro_max: CreditsMicro

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.credits_micro_min > self.credits_micro_max:
            raise ValueError("credits_micro_min must not pass credits_micro_max")
        return self


class Step(Record):
    """Up to and with ``up_to`` units the whole operation costs ``credits_micro``."""

    up_to: Quantity
    credits_micro: CreditsMicro


class StepPrice(Record):
    """One price by the step that ``quantity`` falls into; above the last step ``credits_micro_above``."""

    kind: Literal["steps"]
    quantity: QuantityName
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=100)]
    credits_micro_above: CreditsMicro

    @model_validator(mode="after")
    def _rising(self) -> Self:
        ends = [step.up_to for step in self.steps]
        if any(left >= right for left, right in pairwise(ends)):
            raise ValueError("steps must rise by up_to")
        return self


class HeldPrice(Record):
    """``credits_micro`` for ``per`` units of ``quantity`` held for a whole month, from samples.

    A month has its actual seconds; what is charged is the floor of the cumulated amount (requirements, section 9).
    """

    kind: Literal["held_month"]
    quantity: QuantityName
    per: Positive
    credits_micro: CreditsMicro


Price = Annotated[
    FreePrice | UnitPrice | ModelPrice | StartedPrice | StepPrice | HeldPrice, Field(discriminator="kind")
]


class RateCardEntry(Record):
    """One operation of the rate card. ``category`` is null for what is no request (storage)."""

    category: Category | None
    breakdown: Breakdown | None = None
    """The group of the usage breakdown; needed where the price is not free."""
    price: Price = FreePrice()
    creates: ResourceName | None = None
    """The resource whose quota closes this operation; how many it made or removed is in the event's
    ``resource_delta``."""
    credits_micro_reserved: CreditsMicro | None = None
    """The worst case that a gate reserves for a request whose quantities it does not know yet; needed where the price
    hangs on a quantity that has no largest price."""

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if self.price.kind != "free" and self.breakdown is None:
            raise ValueError("a priced operation needs a breakdown")
        if self.category is None and self.price.kind != "held_month":
            raise ValueError("an operation needs a category, unless it is held and sampled")
        return self


class Plan(Record):
    """What a tier includes; null means custom: the organization's own value is needed, else there is no limit."""

    credits_micro_per_month: CreditsMicro | None
    rates: RateLimits | None
    shares: CategoryShares = CategoryShares()
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests of one organization at a time."""
    quotas: Quotas = Field(default_factory=dict)
    objects_per_batch: Annotated[int, Field(ge=1, le=10**12)] | None = None
    features: Features = Field(default_factory=dict)
    credits_mode: LimitMode = "soft"
    failure_modes: FailureModes = Field(default_factory=dict)
    rollover: bool = False
    """Whether the credits that a month leaves over are granted to the next one, once the month is final."""
    throttled_takes_token: bool = False
    """Whether a request answered 429 takes a token from its buckets all the same."""
    test_keys_spend: bool = False
    """Whether requests of test keys cost credits."""


class Catalogue(Record):
    """One immutable version of plans and rate card, in force by event time from ``effective_at`` on."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    effective_at: Time
    plans: dict[Tier, Plan]
    operations: Annotated[dict[Operation, RateCardEntry], Field(min_length=1, max_length=10_000)]
    operation_limits: OperationLimits = ()
    alert_rules: AlertRules = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = {"free", "pro", "team", "enterprise"} - set(self.plans)
        if missing:
            raise ValueError(f"plans: {', '.join(sorted(missing))} missing")
        return self

    def rates(self, tier: Tier, own: RateLimits | None) -> RateLimits | None:
        """The request limits in force for a key of ``tier``: its organization's ``own``, else the plan's."""
        return own or self.plans[tier].rates

    def credits_micro_per_month(self, tier: Tier, own: int | None) -> int | None:
        """The credits of a month: the organization's ``own``, else the plan's; None is unlimited."""
        return own if own is not None else self.plans[tier].credits_micro_per_month


class CatalogueRecord(Record):
    """What the catalog topic holds under the version as key."""

    catalogue: Catalogue
    published_at: Time
    published_by: Name
    sequence: Count = 0
