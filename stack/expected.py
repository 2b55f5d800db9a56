"""What the totals must be, computed anew from the usage log.

Shares nothing with the workers but the schemas and the catalogue. Plain and slow on purpose: exact fractions, one event
at a time, no state that a crash could damage. Rates and readings follow requirements, sections 2 and 9; where this code
and a worker differ, one of them is wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Final

from sluicegate_schemas import bounds
from sluicegate_schemas.accounts import KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.catalogue import (
    Catalogue,
    FreePrice,
    HeldPrice,
    ModelPrice,
    Price,
    StartedPrice,
    StepPrice,
    UnitPrice,
)
from sluicegate_schemas.decode import Malformed, validate_event
from sluicegate_schemas.envelope import WireEnvelope, WireEvent

STORAGE: Final = "storage"
ENVELOPES_REMEMBERED_MAX: Final = 5_000_000
"""Above this many different envelopes the memory of them is no longer reasonable and the check refuses."""


class MissingQuantityError(ValueError):
    """A charge lacks the quantity that its price is for; the argument is the quantity's name."""


def half_up(amount: Fraction) -> int:
    """``amount`` (not negative) rounded to a whole number, halves up."""
    return floor(amount + Fraction(1, 2))


def price_micro(price: Price, quantities: Mapping[str, int], model: str | None) -> int:
    """What one charge costs, in micro-credits; storage (held) is not a charge and costs nothing here.

    :raises MissingQuantityError: the price is for a quantity that ``quantities`` lacks.
    """
    match price:
        case FreePrice() | HeldPrice():
            return 0
        case ModelPrice(models=models, credits_micro_default=default):
            return (default if model is None else models.get(model, default)) * quantity(quantities, "requests")
        case UnitPrice(quantity=name, per=per, credits_micro=micro):
            return half_up(Fraction(quantity(quantities, name) * micro, per))
        case StartedPrice(quantity=name, per=per, credits_micro=micro):
            started = -(-quantity(quantities, name) // per)
            return min(max(started * micro, price.credits_micro_min), price.credits_micro_max)
        case StepPrice(quantity=name, steps=steps, credits_micro_above=above):
            amount = quantity(quantities, name)
            return next((step.credits_micro for step in steps if amount <= step.up_to), above)


def quantity(quantities: Mapping[str, int], name: str) -> int:
    """The quantity ``name``; ``requests`` is 1 where absent.

    :raises MissingQuantityError: it is not there.
    """
    if name in quantities:
        return quantities[name]
    if name == "requests":
        return 1
    raise MissingQuantityError(name)


def month_of(ts_ms: int) -> str:
    """The month of an event's time, as ``2026-01``, in UTC."""
    return bounds.from_epoch_ms(ts_ms).strftime("%Y-%m")


def month_span_ms(month: str) -> tuple[int, int]:
    """First and one past the last millisecond of ``month``."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    following = (start + timedelta(days=32)).replace(day=1)
    return bounds.to_epoch_ms(start), bounds.to_epoch_ms(following)


@dataclass(slots=True)
class Tenants:
    """Who pays for whom, from the operator's commands in any order of accounts."""

    account_of: dict[str, str] = field(default_factory=dict)
    organization_of_key: dict[str, str] = field(default_factory=dict)
    test_keys: set[str] = field(default_factory=set)

    def obey(self, command: OrganizationPut | KeyPut | KeyRevoke) -> None:
        """Take in one command; a revoked key stays known, since usage that it still reports is counted."""
        if isinstance(command, OrganizationPut):
            self.account_of[command.organization_id] = command.account_id
        elif isinstance(command, KeyPut):
            self.organization_of_key[command.api_key_id] = command.organization_id
            if command.mode == "test":
                self.test_keys.add(command.api_key_id)


@dataclass(slots=True)
class Totals:
    """Sums over all events. Amounts are micro-credits; ledgers are keyed by (id, month)."""

    events_logged: int = 0
    events_counted: int = 0
    events_duplicate: int = 0
    events_rejected: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    errors: int = 0
    throttled: int = 0
    credits_micro: int = 0
    by_account: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_organization: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_key: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_breakdown: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Keyed by (account, month, group)."""
    requests_by_organization: Counter[tuple[str, str]] = field(default_factory=Counter)
    events_by_organization: Counter[str] = field(default_factory=Counter)


class Expectation:
    """Folds usage events to ``totals``.

    ``catalogues`` are all versions; an event is rated by the highest whose ``effective_at`` is not after its ``ts``.
    """

    def __init__(self, catalogues: Sequence[Catalogue], tenants: Tenants) -> None:
        if not catalogues:
            raise ValueError("no catalogue was published, so nothing can be rated")
        self._catalogues = sorted(catalogues, key=lambda catalogue: catalogue.version, reverse=True)
        self._tenants = tenants
        self._envelopes: set[tuple[str, int, int, int]] = set()
        self._foreign: set[tuple[str, str]] = set()
        self._samples: dict[str, tuple[int, int]] = {}
        self._held: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
        self.totals = Totals()

    def add_envelope(self, envelope: WireEnvelope, partition: int, logged_at_ms: int) -> None:
        """All events of an envelope, or none if it was in its partition before."""
        identity = (envelope.producer_id, envelope.producer_epoch, partition, envelope.sequence)
        self.totals.events_logged += len(envelope.events)
        if identity in self._envelopes:
            self.totals.events_duplicate += len(envelope.events)
            return
        if len(self._envelopes) >= ENVELOPES_REMEMBERED_MAX:
            raise ValueError(f"the log holds more than {ENVELOPES_REMEMBERED_MAX:,} envelopes; the check was given up")
        self._envelopes.add(identity)
        for event in envelope.events:
            self._add(event, logged_at_ms)

    def add_foreign(self, event: WireEvent, logged_at_ms: int) -> None:
        """One event of another client; its id counts once for its organization."""
        self.totals.events_logged += 1
        assert event.id is not None, "a foreign event has an id of its own"
        if (event.org_id, event.id) in self._foreign:
            self.totals.events_duplicate += 1
        else:
            self._foreign.add((event.org_id, event.id))
            self._add(event, logged_at_ms)

    def add_malformed(self, malformed: Malformed) -> None:
        """A record that holds no event at all: one reject."""
        self.totals.events_logged += 1
        self._reject(malformed.reason)

    def _reject(self, reason: str) -> None:
        self.totals.events_rejected += 1
        self.totals.rejected_by_reason[reason] += 1

    def _add(self, event: WireEvent, logged_at_ms: int) -> None:
        try:
            reason = self._refusal(event, logged_at_ms)
            charges = [] if reason else self._charges(event)
        except MissingQuantityError:
            reason = "missing_quantity"
        if reason is not None:
            self._reject(reason)
            return
        totals = self.totals
        totals.events_counted += 1
        totals.events_by_organization[event.org_id] += 1
        if event.operation != STORAGE:
            requests = quantity(event.quantities or {}, "requests")
            totals.requests += requests
            totals.requests_by_organization[event.org_id, month_of(event.ts_ms)] += requests
            totals.errors += event.status >= 400 and event.status != 429
            totals.throttled += event.status == 429
        for month, group, micro in charges:
            self._book(event, month, group, micro)

    def _refusal(self, event: WireEvent, logged_at_ms: int) -> str | None:
        try:
            validate_event(event)
        except Malformed as malformed:
            return malformed.reason
        if event.org_id not in self._tenants.account_of:
            return "unknown_organization"
        if event.api_key_id is not None and self._tenants.organization_of_key.get(event.api_key_id) != event.org_id:
            return "unknown_key"
        if event.ts_ms > logged_at_ms + bounds.CLOCK_AHEAD_MS_MAX:
            return "too_far_ahead"
        if event.started_at_ms < logged_at_ms - bounds.CLOCK_BEHIND_MS_MAX:
            return "too_far_behind"
        return None

    def _charges(self, event: WireEvent) -> list[tuple[str, str, int]]:
        """(month, breakdown group, micro-credits) of each priced operation in the event."""
        if not 200 <= event.status <= 299:
            return []
        card = next((one for one in self._catalogues if bounds.to_epoch_ms(one.effective_at) <= event.ts_ms), None)
        if card is None:
            return []
        parts = [(event.operation, event.quantities or {}, event.model, event.cached)]
        parts += [(one.operation, one.quantities or {}, one.model, one.cached) for one in event.charges or ()]
        charges: list[tuple[str, str, int]] = []
        for operation, quantities, model, cached in parts:
            entry = card.operations.get(operation)
            if entry is None or entry.breakdown is None:
                continue
            if isinstance(entry.price, HeldPrice):
                charges += [(month, entry.breakdown, micro) for month, micro in self._held_micro(event, entry.price)]
                continue
            micro = price_micro(entry.price, quantities, model)
            is_free = cached or event.api_key_id in self._tenants.test_keys
            charges.append((month_of(event.ts_ms), entry.breakdown, 0 if is_free else micro))
        return charges

    def _held_micro(self, event: WireEvent, price: HeldPrice) -> list[tuple[str, int]]:
        """(month, micro-credits) of what a storage sample adds: the amount of the sample before it, held until now."""
        amount = quantity(event.quantities or {}, price.quantity)
        before = self._samples.get(event.org_id)
        if before is not None and event.ts_ms < before[0]:
            return []
        self._samples[event.org_id] = (event.ts_ms, amount)
        if before is None:
            return []
        since_ms, held = before
        added: list[tuple[str, int]] = []
        while since_ms < event.ts_ms:
            month = month_of(since_ms)
            start_ms, end_ms = month_span_ms(month)
            until_ms = min(event.ts_ms, end_ms)
            key = (event.org_id, month)
            charged = floor(self._held[key])
            weight = held * (until_ms - since_ms) * price.credits_micro
            self._held[key] += Fraction(weight, price.per * (end_ms - start_ms))
            added.append((month, floor(self._held[key]) - charged))
            since_ms = until_ms
        return added

    def _book(self, event: WireEvent, month: str, group: str, micro: int) -> None:
        account, totals = self._tenants.account_of[event.org_id], self.totals
        totals.credits_micro += micro
        totals.by_account[account, month] += micro
        totals.by_organization[event.org_id, month] += micro
        totals.by_breakdown[account, month, group] += micro
        if event.api_key_id is not None:
            totals.by_key[event.api_key_id, month] += micro


def tenants_of(commands: Iterable[OrganizationPut | KeyPut | KeyRevoke]) -> Tenants:
    """The tenants that ``commands`` make."""
    tenants = Tenants()
    for command in commands:
        tenants.obey(command)
    return tenants
