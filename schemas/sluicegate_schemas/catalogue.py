"""The catalogue: plans and the rate card as versioned, immutable data (requirements, sections 1 and 2)."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .bounds import Count, CreditsMicro, Name, Operation, Quantity, Record, Time

Tier = Literal["free", "pro", "team", "enterprise"]
Category = Literal["metadata", "data", "search", "upload", "compute"]
Breakdown = Literal["documents", "inference", "search", "compute", "storage", "upload"]
QuantityName = Literal["requests", "tokens", "bytes", "milliseconds", "documents", "dataset_size"]
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

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if self.price.kind != "free" and self.breakdown is None:
            raise ValueError("a priced operation needs a breakdown")
        if self.category is None and self.price.kind != "held_month":
            raise ValueError("an operation needs a category, unless it is held and sampled")
        return self


class RateLimits(Record):
    """The request limits of one key: a second bucket (``requests_per_second``, capacity ``burst``) and a minute
    bucket (refilled at ``requests_per_minute`` / 60 a second, capacity ``requests_per_minute``)."""

    requests_per_second: Annotated[int, Field(ge=1, le=1_000_000)]
    burst: Annotated[int, Field(ge=1, le=10_000_000)]
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000_000)]


class Plan(Record):
    """What a tier includes; null means custom: the organization's own value is needed, else there is no limit."""

    credits_micro_per_month: CreditsMicro | None
    rates: RateLimits | None


class Catalogue(Record):
    """One immutable version of plans and rate card, in force by event time from ``effective_at`` on."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    effective_at: Time
    plans: dict[Tier, Plan]
    operations: Annotated[dict[Operation, RateCardEntry], Field(min_length=1, max_length=10_000)]

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
