"""What the totals must be, computed anew from the usage log.

Shares nothing with the workers but the schemas and the catalogue. Plain and slow on purpose: exact fractions, one event
at a time, no state that a crash could damage. Rates and readings follow requirements, sections 2 and 9; where this code
and a worker differ, one of them is wrong.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Final, NamedTuple

import msgspec

from sluicegate_schemas import bounds
from sluicegate_schemas.accounts import AnyCommand, KeyPut, OrganizationPut
from sluicegate_schemas.catalogue import Catalogue, HeldPrice
from sluicegate_schemas.decode import Malformed, validate_event
from sluicegate_schemas.envelope import WireEnvelope, WireEvent, WireForward
from sluicegate_schemas.partitioning import partition_of
from stack.errors import StackError
from stack.rating import MissingQuantityError, RateCards, month_booked, month_of, month_span_ms, price_micro, quantity
from stack.usage_log import Usage

REMEMBERED_MAX: Final = 5_000_000
"""Above this many different envelopes, or ids, the memory of them is no longer reasonable and the check refuses."""
DEDUP_HORIZON_MS: Final = bounds.CLOCK_BEHIND_MS_MAX
"""How far behind the log's time an id is told from a repeated one (requirements, section 9)."""

Origin = tuple[int, int, int]
"""(partition, offset, index in its envelope) of an event."""
_BODY: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class Place(NamedTuple):
    """Where a record stands in the usage log, and the broker's time there."""

    partition: int
    offset: int
    logged_at_ms: int


class Charge(NamedTuple):
    """What one priced operation of an event adds; ``month`` is the one whose ledger takes it."""

    month: str
    group: str
    credits_micro: int


class RejectedError(Exception):
    """The event cannot be counted; the argument is the reason."""


@dataclass(slots=True)
class Tenants:
    """Who pays for whom, from the operator's commands in any order of accounts."""

    account_of: dict[str, str] = field(default_factory=dict)
    organization_of_key: dict[str, str] = field(default_factory=dict)
    test_keys: set[str] = field(default_factory=set)

    def obey(self, command: AnyCommand) -> None:
        """Take in one command; a revoked key stays known, since usage that it still reports is counted."""
        if isinstance(command, OrganizationPut):
            self.account_of[command.organization_id] = command.account_id
        elif isinstance(command, KeyPut):
            self.organization_of_key[command.api_key_id] = command.organization_id
            if command.mode == "test":
                self.test_keys.add(command.api_key_id)


@dataclass(slots=True)
class Totals:
    """Sums over all events. Amounts are micro-credits; ledgers are keyed by (id, month).

    Each event in ``events_logged`` is a caller's and is counted, rejected or a duplicate. One that stands in another
    partition than its account's is ``events_forwarded`` too, and its fate is its forward's; ``forwards_repeated`` are
    forwards that came home once more.
    """

    events_logged: int = 0
    events_counted: int = 0
    events_duplicate: int = 0
    events_rejected: int = 0
    events_forwarded: int = 0
    forwards_repeated: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    errors: int = 0
    throttled: int = 0
    credits_micro: int = 0
    by_account: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_organization: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_key: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_label: Counter[tuple[str, str]] = field(default_factory=Counter)
    """All labels of an organization together."""
    by_breakdown: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Keyed by (account, month, group)."""
    requests_by_organization: Counter[tuple[str, str]] = field(default_factory=Counter)
    events_by_organization: Counter[str] = field(default_factory=Counter)


class Expectation:
    """Folds the usage log to ``totals``; each partition's records come in their order.

    ``catalogues`` are all versions; an event is rated by the one in force at its ``ts``. ``partitions`` are the usage
    topic's: they say where an account lives.
    """

    def __init__(self, catalogues: Sequence[Catalogue], tenants: Tenants, partitions: int) -> None:
        self._cards = RateCards(catalogues)
        self._tenants = tenants
        self._partitions = partitions
        self._log_time_ms: Counter[int] = Counter()
        self._envelopes: set[tuple[str, int, int, int]] = set()
        self._bodies: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._leaving: dict[Origin, bytes] = {}
        self._arrived: dict[Origin, bytes] = {}
        self._samples: dict[tuple[str, str], tuple[int, int]] = {}
        self._held: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
        self.totals = Totals()

    def add(self, usage: Usage | None, place: Place) -> None:
        """Any record of the usage log, as ``parse_usage`` tells it."""
        match usage:
            case WireEnvelope():
                self.add_envelope(usage, place)
            case WireForward():
                self.add_forward(usage, place)
            case WireEvent():
                self.add_single(usage, place)
            case Malformed():
                self.add_malformed(usage, place)
            case None:
                self.pass_time(place)

    def add_envelope(self, envelope: WireEnvelope, place: Place) -> None:
        """All events of an envelope, or none if it was in its partition before."""
        identity = (envelope.producer_id, envelope.producer_epoch, place.partition, envelope.sequence)
        self.pass_time(place)
        self.totals.events_logged += len(envelope.events)
        if identity in self._envelopes:
            self.totals.events_duplicate += len(envelope.events)
            return
        _check_size(self._envelopes)
        self._envelopes.add(identity)
        for index, event in enumerate(envelope.events):
            name = event.id or (
                f"{envelope.producer_id}-{envelope.producer_epoch}-{place.partition}-{envelope.sequence}-{index}"
            )
            self._add_original(event, name, place, index)

    def add_single(self, event: WireEvent, place: Place) -> None:
        """One event of another client."""
        assert event.id is not None, "a foreign event has an id of its own"
        self.pass_time(place)
        self.totals.events_logged += 1
        self._add_original(event, event.id, place, 0)

    def add_forward(self, forward: WireForward, place: Place) -> None:
        """An event that another partition sent home: held against the time at which it was logged there first."""
        self.pass_time(place)
        origin = (forward.partition, forward.offset, forward.index)
        is_repeated = origin in self._arrived
        self._arrived[origin] = _digest(forward.event)
        place = place._replace(logged_at_ms=min(forward.logged_at_ms, place.logged_at_ms))
        if self._home(forward.event, place.partition) not in (None, place.partition):
            self._reject("invalid")
        elif not self._count(forward.event, place):
            self.totals.forwards_repeated += is_repeated
            self.totals.events_duplicate += not is_repeated

    def add_malformed(self, malformed: Malformed, place: Place) -> None:
        """A record that holds no event at all: one reject."""
        self.pass_time(place)
        self.totals.events_logged += 1
        self._reject(malformed.reason)

    def pass_time(self, place: Place) -> None:
        """The log's time is at least the one of the record there, whatever it holds."""
        self._log_time_ms[place.partition] = max(self._log_time_ms[place.partition], place.logged_at_ms)

    def forwards_wrong(self) -> list[Origin]:
        """Events that stand in another partition than their account's and did not come home as they were, and forwards
        of what stands nowhere."""
        return sorted(
            origin
            for origin in self._leaving.keys() | self._arrived.keys()
            if self._leaving.get(origin) != self._arrived.get(origin)
        )

    def _add_original(self, event: WireEvent, name: str, place: Place, index: int) -> None:
        if self._home(event, place.partition) not in (None, place.partition):
            _check_size(self._leaving)
            self.totals.events_forwarded += 1
            named = event if event.id else msgspec.structs.replace(event, id=name)
            self._leaving[place.partition, place.offset, index] = _digest(named)
        elif not self._count(event, place):
            self.totals.events_duplicate += 1

    def _reject(self, reason: str) -> None:
        self.totals.events_rejected += 1
        self.totals.rejected_by_reason[reason] += 1

    def _is_known(self, organization_id: str, partition: int) -> bool:
        """Whether the organization's account lives in ``partition``: only there it is known."""
        account_id = self._tenants.account_of.get(organization_id)
        return account_id is not None and partition_of(account_id, self._partitions) == partition

    def _account(self, event: WireEvent, partition: int) -> str:
        if event.account_id is not None:
            return event.account_id
        return self._tenants.account_of[event.org_id] if self._is_known(event.org_id, partition) else event.org_id

    def _home(self, event: WireEvent, partition: int) -> int | None:
        """The partition that judges the event; None for one that is judged anywhere, since it breaks a bound."""
        try:
            _validate(event)
        except Malformed:
            return None
        return partition_of(self._account(event, partition), self._partitions)

    def _count(self, event: WireEvent, place: Place) -> bool:
        """Counts or rejects the event at home; False where it was counted before."""
        body = _digest(event)
        try:
            self._check_names(event, place.partition)
            if self._is_repeated(event, body, place):
                return False
            self._check_times(event, place)
            charges = self._charges(event, place)
        except RejectedError as rejected:
            self._reject(str(rejected))
            return True
        if event.id is not None:
            _check_size(self._bodies)
            self._bodies[event.org_id, event.id] = (body, event.ts_ms)
        self._book(event, charges, place)
        return True

    def _check_names(self, event: WireEvent, partition: int) -> None:
        try:
            _validate(event)
        except Malformed as malformed:
            raise RejectedError(malformed.reason) from None
        tenants = self._tenants
        if not self._is_known(event.org_id, partition):
            raise RejectedError("unknown_organization")
        if event.account_id not in (None, tenants.account_of[event.org_id]):
            raise RejectedError("invalid")
        if event.api_key_id is not None and tenants.organization_of_key.get(event.api_key_id) != event.org_id:
            raise RejectedError("unknown_key")

    def _is_past_horizon(self, ts_ms: int, partition: int) -> bool:
        horizon_s = (self._log_time_ms[partition] - DEDUP_HORIZON_MS) // 1000
        return ts_ms < horizon_s * 1000

    def _is_repeated(self, event: WireEvent, body: bytes, place: Place) -> bool:
        """Whether the event's id was counted within the horizon with the same body; with another it is rejected."""
        if event.id is None:
            return False
        known, ts_ms = self._bodies.get((event.org_id, event.id), (None, 0))
        if known is None or self._is_past_horizon(ts_ms, place.partition):
            return False
        if known != body:
            raise RejectedError("id_conflict")
        return True

    def _check_times(self, event: WireEvent, place: Place) -> None:
        if event.ts_ms > place.logged_at_ms + bounds.CLOCK_AHEAD_MS_MAX:
            raise RejectedError("too_far_ahead")
        if event.started_at_ms < place.logged_at_ms - bounds.CLOCK_BEHIND_MS_MAX:
            raise RejectedError("too_far_behind")
        if event.id is not None and self._is_past_horizon(event.ts_ms, place.partition):
            raise RejectedError("older_than_dedup_horizon")

    def _charges(self, event: WireEvent, place: Place) -> list[Charge]:
        """What each priced operation in the event costs. Raises RejectedError; remembers a storage sample."""
        if not 200 <= event.status <= 299:
            return []
        card = self._cards.at(event.ts_ms)
        log_time_ms = self._log_time_ms[place.partition]
        month = month_booked(month_of(event.ts_ms), log_time_ms)
        parts = [(event.operation, event.quantities or {}, event.model, event.cached)]
        parts += [(one.operation, one.quantities or {}, one.model, one.cached) for one in event.charges or ()]
        is_test = event.api_key_id in self._tenants.test_keys
        charges: list[Charge] = []
        try:
            for operation, quantities, model, cached in parts:
                entry = card.operations.get(operation)
                if entry is not None and entry.breakdown is not None:
                    micro = price_micro(entry.price, quantities, model)
                    charges.append(Charge(month, entry.breakdown, 0 if cached or is_test else micro))
        except MissingQuantityError:
            raise RejectedError("missing_quantity") from None
        entry = card.operations.get(event.operation)
        held = entry.price if entry is not None and isinstance(entry.price, HeldPrice) and not is_test else None
        amounts: dict[tuple[str, str, str], Fraction] = {}
        if held is not None:
            charges += self._held_charges(event, log_time_ms, amounts)
        account_id = self._tenants.account_of[event.org_id]
        added = sum(charge.credits_micro for charge in charges)
        if any(self.totals.by_account[account_id, one.month] + added > bounds.CREDITS_MICRO_MAX for one in charges):
            raise RejectedError("invalid")
        if held is not None:
            self._held.update(amounts)
            self._sample(event, quantity(event.quantities or {}, held.quantity))
        return charges

    def _sample(self, event: WireEvent, amount: int) -> None:
        before = self._samples.get((event.org_id, event.operation))
        if before is None or event.ts_ms >= before[0]:
            self._samples[event.org_id, event.operation] = (event.ts_ms, amount)

    def _held_charges(
        self, event: WireEvent, log_time_ms: int, amounts: dict[tuple[str, str, str], Fraction]
    ) -> list[Charge]:
        """What a sample adds: the amount of the sample before it, held until now. ``amounts`` gets what the months that
        it touches have then come to.

        Cut where a month ends or another catalogue version begins: each part costs what its version says.
        """
        since_ms, held = self._samples.get((event.org_id, event.operation), (event.ts_ms, 0))
        charges = []
        while since_ms < event.ts_ms:
            month = month_of(since_ms)
            start_ms, end_ms = month_span_ms(month)
            until_ms = min(event.ts_ms, end_ms, self._cards.next_start_ms(since_ms) or event.ts_ms)
            entry = self._cards.at(since_ms).operations.get(event.operation)
            if entry is not None and entry.breakdown is not None and isinstance(entry.price, HeldPrice):
                weight = held * (until_ms - since_ms) * entry.price.credits_micro
                key = (event.org_id, event.operation, month)
                before = amounts.get(key, self._held[key])
                amounts[key] = before + Fraction(weight, entry.price.per * (end_ms - start_ms))
                micro = floor(amounts[key]) - floor(before)
                charges.append(Charge(month_booked(month, log_time_ms), entry.breakdown, micro))
            since_ms = until_ms
        return charges

    def _book(self, event: WireEvent, charges: Iterable[Charge], place: Place) -> None:
        account_id, totals = self._tenants.account_of[event.org_id], self.totals
        totals.events_counted += 1
        totals.events_by_organization[event.org_id] += 1
        entry = self._cards.at(event.ts_ms).operations.get(event.operation)
        if entry is None or entry.category is not None:
            requests = quantity(event.quantities or {}, "requests")
            month = month_booked(month_of(event.ts_ms), self._log_time_ms[place.partition])
            totals.requests += requests
            totals.requests_by_organization[event.org_id, month] += requests
            totals.errors += event.status >= 400 and event.status != 429
            totals.throttled += event.status == 429
        for month, group, micro in charges:
            totals.credits_micro += micro
            totals.by_account[account_id, month] += micro
            totals.by_organization[event.org_id, month] += micro
            totals.by_breakdown[account_id, month, group] += micro
            if event.api_key_id is not None:
                totals.by_key[event.api_key_id, month] += micro
            if event.labels:
                totals.by_label[event.org_id, month] += micro * len(event.labels)


def _validate(event: WireEvent) -> None:
    """Raises Malformed where the event breaks a bound, or has a charge without the key that only a sample can lack."""
    validate_event(event)
    if event.api_key_id is None and any(charge.operation != event.operation for charge in event.charges or ()):
        raise Malformed("invalid", "api_key_id", "is required for charges of all operations but storage")


def _digest(event: WireEvent) -> bytes:
    """The event's content, whatever the order of its fields."""
    return hashlib.blake2b(_BODY(event), digest_size=16).digest()


def _check_size(memory: Sized) -> None:
    if len(memory) >= REMEMBERED_MAX:
        raise StackError(
            f"The usage log holds more than {REMEMBERED_MAX:,} envelopes or ids, so it was not checked",
            kept="All data was kept",
            next_step="Start with a fresh data folder",
        )


def tenants_of(commands: Iterable[AnyCommand]) -> Tenants:
    """The tenants that ``commands`` make."""
    tenants = Tenants()
    for command in commands:
        tenants.obey(command)
    return tenants
