"""What the workers publish: entitlements, decisions, balances and rejects, as JSON (requirements, section 3).

Each carries a ``Sequence`` that only grows for its record key: a reader keeps the highest and drops the rest, so a
stale or repeated record changes nothing.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from .accounts import KeyMode
from .bounds import (
    AccountId,
    ApiKeyId,
    Count,
    CreditsMicro,
    EventId,
    Month,
    Name,
    Operation,
    OrganizationId,
    Record,
    Sentence,
    Sha256,
    Time,
)
from .catalogue import Breakdown, RateLimits, Tier


class Sequence(Record):
    """Ordered by ``epoch`` (of the owner's claim), then ``counter`` (which the owner only raises)."""

    epoch: Count
    counter: Count


class Position(Record):
    """Where in the log something came from; ``index`` counts events inside an envelope from 0."""

    topic: Annotated[str, Field(min_length=1, max_length=249)]
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    offset: Count
    index: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class KeyEntitlement(Record):
    """What a gate needs to know of a key; record key ``key:<sha256>``."""

    kind: Literal["key"] = "key"
    key_sha256: Sha256
    api_key_id: ApiKeyId
    organization_id: OrganizationId
    account_id: AccountId
    mode: KeyMode
    revoked: bool
    sequence: Sequence


class OrganizationEntitlement(Record):
    """What a gate needs to know of an organization; record key ``organization:<id>``. Null limits are the plan's."""

    kind: Literal["organization"] = "organization"
    organization_id: OrganizationId
    account_id: AccountId
    tier: Tier
    credits_micro_per_month: CreditsMicro | None
    rates: RateLimits | None
    sequence: Sequence


Entitlement = Annotated[KeyEntitlement | OrganizationEntitlement, Field(discriminator="kind")]
ENTITLEMENT: TypeAdapter[KeyEntitlement | OrganizationEntitlement] = TypeAdapter(Entitlement)


def entitlement_key(record: KeyEntitlement | OrganizationEntitlement) -> str:
    """The record key on the entitlements topic."""
    if isinstance(record, KeyEntitlement):
        return f"key:{record.key_sha256}"
    return f"organization:{record.organization_id}"


ScopeKind = Literal["key", "organization", "account", "operation"]
LimitName = Literal["requests_per_second", "requests_per_minute", "credits"]


class Scope(Record):
    """What a decision is about. ``id`` is a key's, an organization's or an account's; for an operation it is the
    organization's, with ``operation`` and perhaps ``subject``, which no other kind has."""

    kind: ScopeKind
    id: Annotated[str, Field(pattern=r"^(key|org)_[A-Za-z0-9_-]{1,60}$")]
    operation: Operation | None = None
    subject: EventId | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if (self.kind == "operation") != (self.operation is not None):
            raise ValueError("an operation is given for the kind operation, and for no other")
        if self.subject is not None and self.operation is None:
            raise ValueError("a subject needs its operation")
        if self.id.startswith("key_") != (self.kind == "key"):
            raise ValueError("id must be of the kind: a key's, or an organization's")
        return self

    def text(self) -> str:
        """The scope as one unambiguous word; ``subject``, which may hold ``:``, comes last."""
        words = [self.kind, self.id, self.operation, self.subject]
        return ":".join(word for word in words if word is not None)


class Cause(Record):
    """The event that made a decision: where it stands, its id and organization, and its own times."""

    position: Position
    event_id: EventId
    organization_id: OrganizationId
    ts: Time
    logged_at: Time
    """When the broker appended it."""


class Decision(Record):
    """A verdict on a scope, with the limit that fired and why (requirements, section 3).

    ``limit`` and ``observed`` are requests for rate limits (observed: what the bucket holds beyond its rate, so above
    ``limit`` means debt) and micro-credits for credits. ``until`` is when it clears by itself; null: not by time.
    """

    schema_version: Literal[1] = 1
    decision_id: EventId
    scope: Scope
    verdict: Literal["block", "allow"]
    limit_name: LimitName
    limit: Count
    observed: Count
    until: Time | None
    tier: Tier
    plan_version: Annotated[int, Field(ge=0, le=2**31 - 1)]
    cause: Cause | None
    """Null where no event caused it: a command, or a takeover."""
    decided_at: Time
    """The partition's log time when it was decided."""
    sequence: Sequence


def decision_key(scope: Scope, limit_name: str) -> str:
    """The record key on the decisions topic. The limit comes first: a subject may hold any sign of an event id."""
    return f"{limit_name}:{scope.text()}"


BalanceKind = Literal["account", "organization", "key"]


class Balance(Record):
    """Credits of a month, exact as of the source position that it names; record key ``kind:id:month``.

    ``total_micro`` is null where there is no limit, and for keys. ``breakdown_micro`` sums to ``used_micro``.
    """

    schema_version: Literal[1] = 1
    kind: BalanceKind
    id: Annotated[str, Field(pattern=r"^(key|org)_[A-Za-z0-9_-]{1,60}$")]
    account_id: AccountId
    organization_id: OrganizationId | None
    month: Month
    total_micro: CreditsMicro | None
    used_micro: CreditsMicro
    breakdown_micro: dict[Breakdown, CreditsMicro]
    requests: Count
    as_of: Time
    source: Position
    sequence: Sequence


def balance_key(kind: str, identifier: str, month: str) -> str:
    """The record key on the balances topic."""
    return f"{kind}:{identifier}:{month}"


RejectReason = Literal[
    "not_json",
    "not_utf8",
    "duplicate_field",
    "empty",
    "too_large",
    "truncated_envelope",
    "unknown_envelope_version",
    "invalid",
    "missing_quantity",
    "unknown_organization",
    "unknown_key",
    "too_far_ahead",
    "too_far_behind",
    "older_than_dedup_horizon",
    "id_conflict",
    "unknown_command",
    "command_refused",
]


class Reject(Record):
    """An input that could not be used: why, which field, and where it stands. The content itself is not repeated,
    since it may hold anything; ``sha256`` and the position find it in the source."""

    schema_version: Literal[1] = 1
    id: EventId
    """``<topic>/<partition>/<offset>/<index>``: a replay repeats it, so a reader can drop the second copy."""
    reason: RejectReason
    field: Annotated[str, Field(max_length=128)] | None
    detail: Sentence
    source: Position
    event_id: EventId | None
    organization_id: OrganizationId | None
    producer_id: Name | None
    size_bytes: Count
    sha256: Sha256
    rejected_at: Time
    """The partition's log time."""
