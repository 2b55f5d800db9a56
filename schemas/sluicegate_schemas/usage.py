"""Usage events as JSON (requirements, section 2): what any Kafka client may send, one a record.

The SDK sends the same content in envelopes (``envelope.py``); both end in one ``UsageEvent``.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from . import bounds
from .bounds import (
    AccountId,
    ApiKeyId,
    EventId,
    LabelName,
    Name,
    Operation,
    OrganizationId,
    Quantity,
    Record,
    Time,
)

ResourceName = Literal[
    "namespaces", "collections", "buckets", "documents", "retrievers", "taxonomies", "clusters", "api_keys"
]
Delta = Annotated[int, Field(ge=-(10**12), le=10**12)]
LabelValue = Name
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=bounds.LABELS_MAX)]
ResourceDelta = Annotated[dict[ResourceName, Delta], Field(max_length=bounds.RESOURCE_DELTAS_MAX)]


class Quantities(Record):
    """What an operation used. ``seconds`` and ``milliseconds`` say the same thing: at most one of them is given."""

    requests: Quantity = 1
    tokens: Quantity | None = None
    """Input and output tokens together."""
    bytes: Quantity | None = None
    seconds: Annotated[int, Field(ge=0, le=bounds.QUANTITY_MAX // 1000)] | None = None
    milliseconds: Quantity | None = None
    documents: Quantity | None = None
    dataset_size: Quantity | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.seconds is not None and self.milliseconds is not None:
            raise ValueError("seconds and milliseconds exclude each other")
        return self


class Charge(Record):
    """One priced operation inside a request."""

    operation: Operation
    quantities: Quantities = Quantities()
    model: Name | None = None
    cached: bool = False


class UsageEvent(Record):
    """One request, or one storage sample (``operation`` "storage" with ``quantities.bytes``, without a key)."""

    id: EventId
    """Counts once for its organization within the dedup horizon."""
    started_at: Time
    ts: Time
    """When the request ended."""
    duration_ms: Annotated[int, Field(ge=0, le=bounds.DURATION_MS_MAX)]
    org_id: OrganizationId
    account_id: AccountId | None = None
    """The account that pays; the organization where absent."""
    api_key_id: ApiKeyId | None = None
    operation: Operation
    status: Annotated[int, Field(ge=100, le=599)]
    quantities: Quantities = Quantities()
    charges: Annotated[tuple[Charge, ...], Field(max_length=bounds.CHARGES_MAX)] = ()
    model: Name | None = None
    cached: bool = False
    labels: Labels = Field(default_factory=dict)
    resource_delta: ResourceDelta = Field(default_factory=dict)
    subject: Annotated[str, StringConstraints(pattern=bounds.EVENT_ID_PATTERN)] | None = None
    """The batch or cluster that a per-subject limit is about."""
    node: Name | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.started_at > self.ts:
            raise ValueError("started_at must not lie after ts")
        if self.api_key_id is None and self.operation != "storage":
            raise ValueError("api_key_id is required for all operations but storage")
        return self


class CloudEvent(Record):
    """A usage event in CloudEvents 1.0 structured mode; ``data`` holds the event, its ``id`` and ``ts`` optional there.

    ``id`` and ``time`` of the envelope fill what ``data`` leaves out; where both are given they must agree.
    """

    specversion: Literal["1.0"]
    id: EventId
    source: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
    type: Literal["sluicegate.usage.v1"]
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Annotated[str, StringConstraints(max_length=256, pattern=r"^[\x21-\x7e]+$")] | None = None
    subject: Annotated[str, StringConstraints(max_length=256, pattern=r"^[\x21-\x7e]+$")] | None = None
    time: Time | None = None
    data: dict[str, object]
