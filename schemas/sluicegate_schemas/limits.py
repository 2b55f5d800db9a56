"""The limits that plans, organizations and operations can have (requirements, sections 1 and 3)."""

from itertools import pairwise
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from .bounds import Count, LabelName, Name, Operation, Record
from .usage import ResourceName

Category = Literal["metadata", "data", "search", "upload", "compute"]
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
QuantityName = Literal["requests", "tokens", "bytes", "milliseconds", "documents", "dataset_size"]

LimitName = Literal[
    "requests_per_second",
    "requests_per_minute",
    "metadata_per_minute",
    "data_per_minute",
    "search_per_minute",
    "upload_per_minute",
    "compute_per_minute",
    "concurrency",
    "credits",
    "budget_day",
    "budget_month",
    "operation_interval",
    "operation_concurrency",
    "operation_quantity",
    "operation_results",
    "objects_per_batch",
    "quota_namespaces",
    "quota_collections",
    "quota_buckets",
    "quota_documents",
    "quota_retrievers",
    "quota_taxonomies",
    "quota_clusters",
    "quota_api_keys",
]
"""Every limit that can fire. ``<category>_per_minute`` is the category's bucket of a key."""

LimitMode = Literal["soft", "hard"]
"""How a limit on money is held: "soft" may be passed by the stated bound, "hard" never is (requirements, section 3)."""
_Limit = Annotated[int, Field(ge=1, le=10**12)]


class RateLimits(Record):
    """The request limits of one key: a second bucket (``requests_per_second``, capacity ``burst``) and a minute
    bucket (refilled at ``requests_per_minute`` / 60 a second, capacity ``requests_per_minute``)."""

    requests_per_second: Annotated[int, Field(ge=1, le=1_000_000)]
    burst: Annotated[int, Field(ge=1, le=10_000_000)]
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000_000)]


class CategoryShares(Record):
    """The requests a minute of each category, in percent of the key's; at least one request a minute."""

    metadata: Annotated[int, Field(ge=1, le=100)] = 100
    data: Annotated[int, Field(ge=1, le=100)] = 80
    search: Annotated[int, Field(ge=1, le=100)] = 50
    upload: Annotated[int, Field(ge=1, le=100)] = 25
    compute: Annotated[int, Field(ge=1, le=100)] = 10

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        shares = [(name, getattr(self, name)) for name in CATEGORIES]
        for (left, high), (right, low) in pairwise(shares):
            if high < low:
                raise ValueError(f"{left} must not be below {right}: metadata ≥ data ≥ search ≥ upload ≥ compute")
        return self

    def per_minute(self, category: Category, requests_per_minute: int) -> int:
        """The requests a minute of ``category`` for a key with this minute limit."""
        share: int = getattr(self, category)
        return max(1, requests_per_minute * share // 100)


Quotas = Annotated[dict[ResourceName, Count | None], Field(max_length=8)]
"""How much of each resource an organization may hold; None, or not named: no limit."""
FeatureValue = bool | Count | Name | Annotated[tuple[Name, ...], Field(max_length=64)]
FEATURES_MAX: Final = 64
FEATURES_SIGNS_MAX: Final = 8 * 1024
"""Of all names and words of ``Features`` together."""


def _of_signs(signs_max: int) -> AfterValidator:
    def short(features: dict[str, FeatureValue]) -> dict[str, FeatureValue]:
        texts = [text for value in features.values() for text in (value if isinstance(value, tuple) else (str(value),))]
        if sum(map(len, features)) + sum(map(len, texts)) > signs_max:
            raise ValueError(f"must have {signs_max} signs at most, all names and words together")
        return features

    return AfterValidator(short)


Features = Annotated[dict[LabelName, FeatureValue], Field(max_length=FEATURES_MAX), _of_signs(FEATURES_SIGNS_MAX)]
"""Plain flags of a plan or an organization, readable by the gate; they limit nothing by themselves."""
FeaturesInForce = Annotated[
    dict[LabelName, FeatureValue], Field(max_length=2 * FEATURES_MAX), _of_signs(2 * FEATURES_SIGNS_MAX)
]
"""An organization's own flags among its plan's: as many of each as ``Features`` holds."""


class FailureMode(Record):
    """What a gate does with a category's requests when decisions stop arriving.

    "open": its own buckets alone decide. "closed": refused with 503. "allowance": its own buckets are held to
    ``allowance_percent`` of their rate.
    """

    mode: Literal["open", "closed", "allowance"]
    allowance_percent: Annotated[int, Field(ge=1, le=100)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.mode == "allowance") != (self.allowance_percent is not None):
            raise ValueError("allowance_percent goes with the mode allowance, and with no other")
        return self


FailureModes = Annotated[dict[Category, FailureMode], Field(max_length=len(CATEGORIES))]
"""By category; one that is not named fails open."""


class OncePerSubject(Record):
    """One request per subject (a batch id) in ``seconds``, from admission; a 5xx gives it back."""

    kind: Literal["once_per_subject"]
    operation: Operation
    seconds: Annotated[int, Field(ge=1, le=86_400)]


class ConcurrentPerSubject(Record):
    """At most ``limit`` requests at a time per subject (a cluster)."""

    kind: Literal["concurrent_per_subject"]
    operation: Operation
    limit: _Limit


class QuantityPerMinute(Record):
    """At most ``limit`` of ``quantity`` a minute, over all keys of an organization; cache hits take nothing."""

    kind: Literal["quantity_per_minute"]
    operation: Operation
    quantity: QuantityName
    limit: _Limit


class ResultsMax(Record):
    """At most ``limit`` results a query; a request for more is answered 400."""

    kind: Literal["results_max"]
    operation: Operation
    limit: _Limit


OperationLimit = Annotated[
    OncePerSubject | ConcurrentPerSubject | QuantityPerMinute | ResultsMax, Field(discriminator="kind")
]
OperationLimits = Annotated[tuple[OperationLimit, ...], Field(max_length=100)]


def category_limit(category: Category) -> LimitName:
    """The name of a category's bucket."""
    name: LimitName = f"{category}_per_minute"  # type: ignore[assignment]  # the literal lists one for each category
    return name


def quota_limit(resource: ResourceName) -> LimitName:
    """The name of a resource's quota."""
    name: LimitName = f"quota_{resource}"  # type: ignore[assignment]  # the literal lists one for each resource
    return name
