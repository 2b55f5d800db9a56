"""What the workers publish: entitlements, decisions, balances and rejects, as JSON (requirements, section 3).

Each carries a ``Sequence`` that only grows for its record key: a reader keeps the highest and drops the rest, so a
stale or repeated record changes nothing.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from .accounts import KeyMode, KeyScopes
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
from .catalogue import Breakdown, Tier
from .limits import Category, CategoryShares, FailureModes, FeaturesInForce, LimitMode, LimitName, Quotas, RateLimits


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


SCOPE_ID_PATTERN: Final = r"^(key|org)_[A-Za-z0-9_-]{1,60}$"
LABEL_PATTERN: Final = r"^[a-z][a-z0-9_]{0,31}=[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}$"
ScopeKind = Literal["key", "organization", "account", "operation", "label", "category"]


class Scope(Record):
    """What a decision is about. ``id`` is a key's, an organization's or an account's; for an operation, a label or a
    category it is the organization's, with ``operation`` and perhaps ``subject``, ``label`` as ``name=value``, or
    ``category``, which no other kind has."""

    kind: ScopeKind
    id: Annotated[str, Field(pattern=SCOPE_ID_PATTERN)]
    operation: Operation | None = None
    subject: EventId | None = None
    label: Annotated[str, Field(pattern=LABEL_PATTERN)] | None = None
    category: Category | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for name in ("operation", "label", "category"):
            if (self.kind == name) != (getattr(self, name) is not None):
                raise ValueError(f"{name} is given for the kind {name}, and for no other")
        if self.subject is not None and self.operation is None:
            raise ValueError("a subject needs its operation")
        if self.id.startswith("key_") != (self.kind == "key"):
            raise ValueError("id must be of the kind: a key's, or an organization's")
        return self

    def text(self) -> str:
        """The scope as one unambiguous word; a subject or label, which may hold ``:``, comes last."""
        words = [self.kind, self.id, self.operation, self.subject, self.label, self.category]
        return ":".join(word for word in words if word is not None)


Exempt = Annotated[tuple[LimitName, ...], Field(max_length=64)]
"""The limits that are off at the moment."""


class KeyEntitlement(Record):
    """What a gate needs to know of a key; record key ``key:<sha256>``. ``scopes``: what it may read in the usage API;
    null: all."""

    kind: Literal["key"] = "key"
    key_sha256: Sha256
    api_key_id: ApiKeyId
    organization_id: OrganizationId
    account_id: AccountId
    mode: KeyMode
    revoked: bool
    sequence: Sequence
    exempt: Exempt = ()
    scopes: KeyScopes | None = None


class OrganizationEntitlement(Record):
    """What a gate needs to know of an organization; record key ``organization:<id>``. Null limits are the plan's.

    Limits are those in force now: boosts and custom limits are in them, and the record comes again when one begins or
    ends.
    """

    kind: Literal["organization"] = "organization"
    organization_id: OrganizationId
    account_id: AccountId
    tier: Tier
    credits_micro_per_month: CreditsMicro | None
    rates: RateLimits | None
    sequence: Sequence
    shares: CategoryShares | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    quotas: Quotas | None = None
    objects_per_batch: Annotated[int, Field(ge=1)] | None = None
    features: FeaturesInForce | None = None
    credits_mode: LimitMode | None = None
    failure_modes: FailureModes | None = None
    exempt: Exempt = ()
    hard_budgets: Annotated[tuple[Scope, ...], Field(max_length=64)] = ()
    """The budgets of the organization that are held hard: a gate needs a lease for each that covers a request."""
    hard_budget_limits: Annotated[tuple[LimitName, ...], Field(max_length=64)] = ()
    """Of each of ``hard_budgets``, in its place, which one: budget_day or budget_month."""


Entitlement = Annotated[KeyEntitlement | OrganizationEntitlement, Field(discriminator="kind")]
ENTITLEMENT: TypeAdapter[KeyEntitlement | OrganizationEntitlement] = TypeAdapter(Entitlement)


def entitlement_key(record: KeyEntitlement | OrganizationEntitlement) -> str:
    """The record key on the entitlements topic."""
    if isinstance(record, KeyEntitlement):
        return f"key:{record.key_sha256}"
    return f"organization:{record.organization_id}"


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
    ``limit`` means debt), micro-credits for credits and budgets, resources for quotas, the named quantity for an
    operation's limit. ``until`` is when it clears by itself; null: not by time. An ``allow`` may say no more than how
    much of a limit is used (``observed``).
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
    organization_id: OrganizationId | None = None
    """Whose scope it is: the key's organization, or the scope's own id; null where the worker does not know the key,
    and in records of before there was this field."""


class Lease(Record):
    """A part of what is left of a hard limit, lent to one gateway node (requirements, section 3; escrow: O'Neil, 1986;
    Balegas et al., 2015). On the decisions topic under ``lease_key``; the newest of a scope and node counts.

    The node may admit costs up to ``credits_micro`` in all, each naming ``lease_id``, for ``ttl_ms`` from the moment at
    which it *asked*: so no clock is compared. ``credits_micro`` 0 says that nothing can be lent, and why.
    """

    kind: Literal["lease"] = "lease"
    lease_id: EventId
    scope: Scope
    limit_name: LimitName
    node: Name
    request_id: EventId
    """The request that this answers."""
    credits_micro: CreditsMicro
    month: Month
    lent_at: Time
    ttl_ms: Annotated[int, Field(ge=0, le=86_400_000)]
    """How long requests may be admitted out of it."""
    request_ms_max: Annotated[int, Field(ge=1, le=86_400_000)] = 300_000
    """How long a request that was admitted out of it may run: a node ends it then."""
    limit: CreditsMicro | None
    used: CreditsMicro
    lent_micro: CreditsMicro
    """All that is lent of this limit, to all nodes, this included: used + lent ≤ limit."""
    until: Time | None
    """When the limit resets."""
    plan_version: Annotated[int, Field(ge=0, le=2**31 - 1)]
    sequence: Sequence


def lease_key(scope: Scope, limit_name: str, node: str) -> str:
    """The record key of a node's lease on the decisions topic. A node has no ``|``."""
    return f"lease|{node}|{limit_name}:{scope.text()}"


def is_lease_key(key: bytes | None) -> bool:
    """Whether a record of the decisions topic is a lease, and no decision."""
    return key is not None and key.startswith(b"lease|")


def decision_key(scope_text: str, limit_name: str) -> str:
    """The record key on the decisions topic. The limit comes first: a subject may hold any sign of an event id."""
    return f"{limit_name}:{scope_text}"


BalanceKind = Literal["account", "organization", "key", "label"]


class Service(Record):
    """How an organization's requests of a month were served: those not throttled, those of them answered 5xx, and how
    long they took (``p50_ms`` and ``p99_ms`` are at most an eighth too high)."""

    requests: Count
    failures: Count
    p50_ms: Count
    p99_ms: Count


class Balance(Record):
    """Credits of a month, exact as of the source position that it names; record key ``kind:id:month``.

    ``total_micro`` is null where there is no limit, and for keys. ``breakdown_micro`` sums to ``used_micro``. An
    organization that shares its account's credits has as ``total_micro`` what its cap and the pool leave it, plus what
    it used.
    """

    schema_version: Literal[1] = 1
    kind: BalanceKind
    id: Annotated[str, Field(pattern=SCOPE_ID_PATTERN)]
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
    label: Annotated[str, Field(max_length=97)] | None = None
    """``name=value`` for the kind label, whose ``id`` is the organization."""
    overage_micro: CreditsMicro = 0
    """What was used beyond the total."""
    granted_micro: CreditsMicro = 0
    """How much of the total is grants and boosts."""
    lent_micro: CreditsMicro = 0
    """How much of what is left is lent to gateway nodes (hard limits)."""
    corrections_micro: dict[Month, CreditsMicro] = Field(default_factory=dict)
    """How much of ``used_micro`` belongs to months that were final when it came."""
    final: bool = False
    """Whether the month takes no more late events."""
    served: Service | None = None
    """Of an organization: availability and latency; null before its first request."""


def balance_key(kind: str, identifier: str, month: str) -> str:
    """The record key on the balances topic."""
    return f"{kind}:{identifier}:{month}"


class TrailEntry(Record):
    """What an operator's command changed: who, when, why, before and after (audit trail). Record key: the account.

    ``before`` and ``after`` are the row that the command changed, null where there was or is none; never a secret.
    """

    schema_version: Literal[1] = 1
    command_id: EventId
    command: Name
    account_id: AccountId
    organization_id: OrganizationId | None
    subject: EventId
    """What was changed: a key, grant, boost, exemption or budget by its id, or the organization."""
    issued_by: Name
    issued_at: Time
    reason: Sentence
    before: dict[str, object] | None
    after: dict[str, object] | None
    applied_at: Time
    source: Position


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
    "table_full",
    "conflict",
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
