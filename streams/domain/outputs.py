"""What goes out: decisions at once, rejects, forwards and entitlements with the flush, balances when asked for."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from sluicegate_schemas import bounds, topics
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.bounds import from_epoch_ms, time_text
from sluicegate_schemas.envelope import ENCODE, FORWARD_VERSION, WireEvent, WireForward
from sluicegate_schemas.outputs import (
    KeyEntitlement,
    Lease,
    OrganizationEntitlement,
    Position,
    Reject,
    RejectReason,
    Sequence,
    TrailEntry,
    balance_key,
    decision_key,
    entitlement_key,
    lease_key,
)
from sluicegate_schemas.state import OutboxRecord
from sluicegate_schemas.wire_decision import (
    ENCODE_DECISION,
    WireCause,
    WireDecision,
    WirePosition,
    WireScope,
    WireSequence,
)

from .ledger import Ledger
from .period import month_text
from .service_levels import served
from .tables import COUNT_MAX, GROUPS, StandingRow

_EVENT_ID: Final = bounds.full_match(bounds.EVENT_ID_PATTERN)
_ORGANIZATION: Final = bounds.full_match(bounds.ORGANIZATION_ID_PATTERN)
_NAME: Final = bounds.full_match(bounds.NAME_PATTERN)
_CONTROL: Final = dict.fromkeys((*range(32), 127), "?")
_ENCODE_JSON: Final = msgspec.json.Encoder().encode


class Outputs(NamedTuple):
    """What is to be sent, by the promise that goes with it; the same as ``streams.engine.machine.Outputs``."""

    early: list[OutboxRecord]
    durable: list[OutboxRecord]


class RecordOrigin(NamedTuple):
    """The input record that an output comes from. ``topic`` is without prefix."""

    topic: str
    partition: int
    offset: int
    logged_at_ms: int
    value: bytes


class _ServedJson(msgspec.Struct):
    requests: int
    failures: int
    p50_ms: int
    p99_ms: int


class _BalanceJson(msgspec.Struct):
    """``outputs.Balance`` as it is written: a hundred times faster, and held against it by a test."""

    schema_version: int
    kind: str
    id: str
    account_id: str
    organization_id: str | None
    month: str
    total_micro: int | None
    used_micro: int
    breakdown_micro: dict[str, int]
    requests: int
    as_of: datetime
    source: WirePosition
    sequence: WireSequence
    overage_micro: int
    granted_micro: int
    corrections_micro: dict[str, int]
    final: bool
    lent_micro: int
    label: str | None
    served: _ServedJson | None


class Outbox:
    """Builds the records that go out and holds them until they are taken."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._epoch = 0
        self._counter = 0
        self._waiting = Outputs([], [])
        self.organization_of_key: Callable[[str], str | None] = lambda _: None
        """Whose a key is; who keeps the keys sets it."""
        self.rejects: Counter[str] = Counter()
        """How many were rejected since this machine was made, by reason."""

    @property
    def durable_records(self) -> int:
        """How many records wait for the flush."""
        return len(self._waiting.durable)

    def start_epoch(self, epoch: int) -> None:
        """From here on sequences are of ``epoch``, their counter from 0."""
        self._epoch, self._counter = epoch, 0

    def take(self) -> Outputs:
        """All that waits."""
        taken, self._waiting = self._waiting, Outputs([], [])
        return taken

    def _sequence(self) -> tuple[int, int]:
        counter = self._counter
        self._counter = counter + 1
        return self._epoch, counter

    def decision(self, row: StandingRow) -> None:
        """Publishes the decision ``row`` at once."""
        words: Any = row  # the contract's own, as a test holds: they are not checked again
        scope = WireScope(words.scope_kind, row.scope_id, row.operation, row.subject, row.label, words.category)
        decision = WireDecision(
            decision_id=row.decision_id,
            scope=scope,
            verdict=words.verdict,
            limit_name=words.limit_name,
            limit=min(row.limit, COUNT_MAX),
            observed=min(row.observed, COUNT_MAX),
            until=None if row.until_ms is None else time_text(row.until_ms),
            tier=words.tier,
            plan_version=row.plan_version,
            cause=self._cause(row),
            decided_at=time_text(row.decided_at_ms),
            sequence=WireSequence(*self._sequence()),
            organization_id=self.organization_of_key(row.scope_id) if row.scope_kind == "key" else row.scope_id,
        )
        key = decision_key(scope.text(), row.limit_name).encode()
        self._waiting.early.append(OutboxRecord(topics.DECISIONS.name, self._partition, key, ENCODE_DECISION(decision)))

    def _cause(self, row: StandingRow) -> WireCause | None:
        if row.cause is None:
            return None
        offset, index, event_id, organization_id, ts_ms, logged_at_ms = row.cause
        position = WirePosition(topics.USAGE.name, self._partition, offset, index)
        return WireCause(position, event_id, organization_id, time_text(ts_ms), time_text(logged_at_ms))

    def balance(
        self, ledger: Ledger, as_of: datetime, usage_offset: int, total_micro: int | None, *, is_final: bool
    ) -> OutboxRecord:
        """A ledger as of the last applied usage record, with the total of the moment; ``is_final`` says that its month
        is closed."""
        epoch, counter = self._sequence()
        month = month_text(ledger.month)
        name, _, label = ledger.identifier.partition(":")
        figures = served(ledger.durations, ledger.failures)
        balance = _BalanceJson(
            schema_version=1,
            kind=ledger.kind,
            id=name,
            account_id=ledger.account_id,
            organization_id=ledger.organization_id,
            month=month,
            total_micro=total_micro,
            used_micro=ledger.used_micro,
            breakdown_micro={
                name: amount for name, amount in zip(GROUPS, ledger.breakdown_micro, strict=False) if amount
            },
            requests=min(ledger.requests, COUNT_MAX),
            as_of=as_of,
            source=WirePosition(topics.USAGE.name, self._partition, max(usage_offset, 0)),
            sequence=WireSequence(epoch, counter),
            overage_micro=ledger.overage_micro,
            granted_micro=ledger.granted_micro,
            corrections_micro=ledger.of_closed_months(),
            final=is_final,
            lent_micro=ledger.lent_micro,
            label=label or None,
            served=None if figures is None else _ServedJson(*figures),
        )
        key = balance_key(ledger.kind, ledger.identifier, month).encode()
        return OutboxRecord(topics.BALANCES.name, self._partition, key, _ENCODE_JSON(balance))

    def reject(
        self,
        origin: RecordOrigin,
        index: int,
        reason: RejectReason,
        detail: str,
        rejected_at_ms: int,
        *,
        field: str | None = None,
        event_id: str | None = None,
        organization_id: str | None = None,
        producer_id: str | None = None,
    ) -> None:
        """Publishes why an input, or the event ``index`` of it, was not used. Names that break their pattern are left
        out."""
        self.rejects[reason] += 1
        reject = Reject(
            id=f"{origin.topic}/{origin.partition}/{origin.offset}/{index}",
            reason=reason,
            field=None if field is None else field.translate(_CONTROL)[:128],
            detail=detail.translate(_CONTROL)[:500],
            source=Position(topic=origin.topic, partition=origin.partition, offset=origin.offset, index=index),
            event_id=event_id if event_id is not None and _EVENT_ID.match(event_id) else None,
            organization_id=organization_id
            if organization_id is not None and _ORGANIZATION.match(organization_id)
            else None,
            producer_id=producer_id if producer_id is not None and _NAME.match(producer_id) else None,
            size_bytes=len(origin.value),
            sha256=hashlib.sha256(origin.value).hexdigest(),
            rejected_at=from_epoch_ms(rejected_at_ms),
        )
        self._waiting.durable.append(OutboxRecord(topics.REJECTS.name, -1, None, reject.model_dump_json().encode()))

    def alert(self, alert: UsageAlert) -> None:
        """Tells that an alert fired or cleared."""
        key, value = alert.alert_id.encode(), alert.model_dump_json().encode()
        self._waiting.durable.append(OutboxRecord(topics.ALERTS.name, -1, key, value))

    def trail(self, entry: TrailEntry) -> None:
        """Publishes what a command changed."""
        key, value = entry.account_id.encode(), entry.model_dump_json().encode()
        self._waiting.durable.append(OutboxRecord(topics.TRAIL.name, self._partition, key, value))

    def forward(self, origin: RecordOrigin, index: int, event: WireEvent, account_id: str, home: int) -> None:
        """Sends an event to its home partition."""
        forward = WireForward(
            version=FORWARD_VERSION,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            index=index,
            logged_at_ms=origin.logged_at_ms,
            event=event,
        )
        self._waiting.durable.append(OutboxRecord(topics.USAGE.name, home, account_id.encode(), ENCODE(forward)))

    def next_sequence(self) -> Sequence:
        """The sequence of the next record on a compacted topic."""
        epoch, counter = self._sequence()
        return Sequence(epoch=epoch, counter=counter)

    def entitlement(self, record: KeyEntitlement | OrganizationEntitlement) -> None:
        """Publishes what gates need to know of a key or organization."""
        key = entitlement_key(record).encode()
        # A gate of before there were scopes refuses a field that it does not know.
        unsaid = {"scopes"} if isinstance(record, KeyEntitlement) and record.scopes is None else None
        value = record.model_dump_json(exclude=unsaid).encode()
        self._waiting.durable.append(OutboxRecord(topics.ENTITLEMENTS.name, self._partition, key, value))

    def lease(self, record: Lease) -> None:
        """Answers a node that asked for a lease, with the flush that holds it."""
        key = lease_key(record.scope, record.limit_name, record.node).encode()
        value = record.model_dump_json().encode()
        self._waiting.durable.append(OutboxRecord(topics.DECISIONS.name, self._partition, key, value))
