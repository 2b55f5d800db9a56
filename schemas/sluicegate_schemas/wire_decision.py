"""``outputs.Decision`` as it is written and read: the same record for less time, held against it by tests.

A worker builds one out of what it decided itself, unchecked; ``decode_decision`` checks all that the model checks. Of a
field given twice the last counts, as for the model, but here the others must be valid too; and ``schema_version`` is a
whole number, where the model also takes what only equals it (1.0, true).
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from . import bounds
from .bounds import parse_time
from .catalogue import Tier
from .decode import read_json, read_time
from .limits import Category, LimitName
from .outputs import LABEL_PATTERN, SCOPE_ID_PATTERN, Decision, ScopeKind
from .wire_checks import Malformed, matching

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_SmallCount = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_EventId = Annotated[str, matching(bounds.EVENT_ID_PATTERN)]


class WireSequence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``outputs.Sequence``."""

    epoch: _Count
    counter: _Count


class WirePosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``outputs.Position``."""

    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    partition: _SmallCount
    offset: _Count
    index: _SmallCount = 0


class WireScope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``outputs.Scope``."""

    kind: ScopeKind
    id: Annotated[str, matching(SCOPE_ID_PATTERN)]
    operation: Annotated[str, matching(bounds.OPERATION_PATTERN)] | None = None
    subject: _EventId | None = None
    label: Annotated[str, matching(LABEL_PATTERN)] | None = None
    category: Category | None = None

    def text(self) -> str:
        """The same as ``outputs.Scope.text``."""
        if self.operation is None and self.label is None and self.category is None:
            return f"{self.kind}:{self.id}"
        words = (self.kind, self.id, self.operation, self.subject, self.label, self.category)
        return ":".join(word for word in words if word is not None)


class WireCause(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``outputs.Cause``; times as text."""

    position: WirePosition
    event_id: _EventId
    organization_id: Annotated[str, matching(bounds.ORGANIZATION_ID_PATTERN)]
    ts: str
    logged_at: str

    @property
    def ts_ms(self) -> int:
        """``ts`` in epoch milliseconds."""
        return parse_time(self.ts)

    @property
    def logged_at_ms(self) -> int:
        """``logged_at`` in epoch milliseconds."""
        return parse_time(self.logged_at)


class WireDecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """``outputs.Decision``; times as text."""

    schema_version: Literal[1] = 1
    decision_id: _EventId
    scope: WireScope
    verdict: Literal["block", "allow"]
    limit_name: LimitName
    limit: _Count
    observed: _Count
    until: str | None
    tier: Tier
    plan_version: _SmallCount
    cause: WireCause | None
    decided_at: str
    sequence: WireSequence
    organization_id: Annotated[str, matching(bounds.ORGANIZATION_ID_PATTERN)] | None = None

    @property
    def until_ms(self) -> int | None:
        """``until`` in epoch milliseconds."""
        return None if self.until is None else parse_time(self.until)

    @property
    def decided_at_ms(self) -> int:
        """``decided_at`` in epoch milliseconds."""
        return parse_time(self.decided_at)


_DECODER: Final = msgspec.json.Decoder(WireDecision)
ENCODE_DECISION: Final = msgspec.json.Encoder().encode


def decode_decision(value: bytes) -> WireDecision:
    """The decision that ``value`` holds. Raises Malformed and nothing else."""
    decision = read_json(_DECODER, value)
    _check_scope(decision.scope)
    if decision.until is not None:
        read_time(decision.until, "until")
    if decision.cause is not None:
        read_time(decision.cause.ts, "cause.ts")
        read_time(decision.cause.logged_at, "cause.logged_at")
    read_time(decision.decided_at, "decided_at")
    return decision


def _check_scope(scope: WireScope) -> None:
    kind = scope.kind
    if (kind == "operation") != (scope.operation is not None):
        raise Malformed("invalid", "scope.operation", "is given for the kind operation, and for no other")
    if (kind == "label") != (scope.label is not None):
        raise Malformed("invalid", "scope.label", "is given for the kind label, and for no other")
    if (kind == "category") != (scope.category is not None):
        raise Malformed("invalid", "scope.category", "is given for the kind category, and for no other")
    if scope.subject is not None and scope.operation is None:
        raise Malformed("invalid", "scope.subject", "needs its operation")
    if scope.id.startswith("key_") != (kind == "key"):
        raise Malformed("invalid", "scope.id", "must be of the kind: a key's, or an organization's")


def to_record(decision: WireDecision) -> Decision:
    """The same as the model, for an answer."""
    return Decision.model_validate_json(ENCODE_DECISION(decision))
