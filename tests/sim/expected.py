"""What a partition's input must come to, computed apart: shares the schemas with the workers, and no code.

Follows requirements, sections 2, 3 and 9, one event at a time, in plain dictionaries. Prices are ``stack.rating``'s.
The order of input is the one in which the partition's owners took usage and commands in; that they took each record in
exactly once is another invariant's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import floor
from typing import Final

import msgspec

from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, HeldPrice
from sluicegate_schemas.decode import Malformed, decode_usage, validate_event
from sluicegate_schemas.envelope import TICK, WireEnvelope, WireEvent, WireForward, WireGauge, WireLeaseRequest
from sluicegate_schemas.partitioning import partition_of
from stack.rating import MissingQuantityError, month_span_ms, price_micro, quantity

from .expected_accounts import ExpectedAccounts
from .expected_commands import ExpectedCommands
from .expected_credits import GRACE_MS
from .expected_gauges import ExpectedGauges
from .expected_leases import ExpectedLeases
from .expected_operations import ExpectedOperations
from .plan import DAY_MS, MINUTE_MS

AHEAD_MS: Final = 5 * MINUTE_MS
BEHIND_MS: Final = 7 * DAY_MS
REST_MINUTES: Final = 10
_SILENT_MS: Final = BEHIND_MS + AHEAD_MS + 60 * MINUTE_MS
_BODY: Final = msgspec.msgpack.Encoder(order="deterministic").encode

Origin = tuple[int, int, int]
"""(partition, offset, index) of an event in the usage log."""


class _RejectedError(Exception):
    """The event can't be counted; the argument is the reason."""


class Ledger:
    """A month of an account, an organization or a key."""

    __slots__ = ("corrections", "groups", "requests")

    def __init__(self) -> None:
        self.groups: defaultdict[str, int] = defaultdict(int)
        self.corrections: defaultdict[str, int] = defaultdict(int)
        self.requests = 0

    @property
    def used_micro(self) -> int:
        return sum(self.groups.values())


@cache
def month_bounds(day: int) -> tuple[str, int, int]:
    """(month, its first millisecond, the next one's) of a day since the epoch."""
    month = from_epoch_ms(day * DAY_MS).strftime("%Y-%m")
    return (month, *month_span_ms(month))


class Cards:
    """The catalogue versions by the time from which they are in force."""

    def __init__(self, versions: Sequence[Catalogue]) -> None:
        self._versions = sorted(
            ((to_epoch_ms(one.effective_at), one.version, one) for one in versions), key=lambda one: one[:2]
        )

    def at(self, ms: int) -> Catalogue:
        found = self._versions[0][2]
        for start_ms, _, version in self._versions:
            if start_ms <= ms:
                found = version
        return found

    def next_start_ms(self, ms: int) -> int | None:
        return next((start_ms for start_ms, _, _ in self._versions if start_ms > ms), None)


class Expected:
    """One partition. Hand it its input with ``usage`` and ``command``, then read what it must have come to."""

    def __init__(self, partition: int, partitions: int, versions: Sequence[Catalogue]) -> None:
        self.partition = partition
        self.partitions = partitions
        self.cards = Cards(versions)
        self.now_ms = 0
        self.rejects: dict[str, str] = {}
        self.accounts = ExpectedAccounts(partition, partitions, self.cards, self.rejects)
        self.gauges = ExpectedGauges()
        self.operations = ExpectedOperations(self.cards)
        self.commands = ExpectedCommands(self.accounts)
        self.commands.month_used = self._month_used
        self.accounts.further = self.commands.obey
        self.leases = ExpectedLeases(self.accounts, self.commands.credits)
        self.counted = self.duplicate = self.rejected = self.forwarded = 0
        self.ledgers: defaultdict[tuple[str, str, str], Ledger] = defaultdict(Ledger)
        self.cells: defaultdict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0] * 6)
        """[requests, errors, throttled, units, micro-credits, events] of (organization, key, operation, minute)."""
        self.leaving: dict[Origin, tuple[int, bytes]] = {}
        """Events that belong elsewhere: their home partition, and what has to arrive there."""
        self.arrived: dict[Origin, bytes] = {}
        self._producers: dict[str, tuple[int, int, int]] = {}
        self._bodies: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._ids_from_s = 0
        self._samples: dict[tuple[str, str], tuple[int, int]] = {}
        self._held: dict[tuple[str, str, str], Fraction] = {}
        self._minute = 0
        self._booked: list[tuple[str, str, int]] = []
        """(month, account, micro-credits) of the event that is being counted."""

    def _advance(self, log_time_ms: int) -> None:
        self.now_ms = now_ms = max(self.now_ms, log_time_ms)
        self.accounts.now_ms = now_ms
        self.commands.advance(now_ms, month_bounds(now_ms // DAY_MS)[0])
        minute = now_ms // MINUTE_MS
        before = self._minute
        if minute != before:
            self._minute = minute
            self._ids_from_s = (now_ms - BEHIND_MS) // 1000
            silent = [name for name, row in self._producers.items() if row[2] < now_ms - _SILENT_MS]
            for name in silent:
                del self._producers[name]
            if minute // REST_MINUTES != before // REST_MINUTES:
                self.accounts.forget_resting()

    def command(self, offset: int, log_time_ms: int, value: bytes | None) -> None:
        """Takes in a record of the accounts topic."""
        self._advance(log_time_ms)
        self.accounts.obey(offset, value)
        self.commands.credits.plan_changed()
        self.gauges.forget(self.now_ms)
        for account, organization, key, group, micro, at_ms in self.commands.charges:
            self.cells[organization, key or "", "correction", at_ms // MINUTE_MS][4] += micro
            month = month_bounds(at_ms // DAY_MS)[0]
            self.accounts.open(account, month)
            names = [("account", account), ("organization", organization), *([("key", key)] if key else [])]
            for kind, name in names:
                self.ledgers[kind, name, month].groups[group] += micro
            self.commands.credits.book(account, month, micro)
            self.leases.charge(account, month, micro)
        self.commands.charges.clear()
        self.commands.credits.roll_over(self.accounts.rolls_over)

    def _month_used(self, kind: str, name: str) -> int:
        return self.used_micro(kind, name, self.commands.credits.month)

    def used_micro(self, kind: str, name: str, month: str) -> int:
        """What a ledger has used."""
        ledger = self.ledgers.get((kind, name, month))
        return 0 if ledger is None else ledger.used_micro

    def usage(self, offset: int, log_time_ms: int, value: bytes | None) -> None:
        """Takes in a record of the usage topic."""
        self._use(offset, log_time_ms, value)
        self.commands.credits.roll_over(self.accounts.rolls_over)
        self.gauges.forget(self.now_ms)

    def _use(self, offset: int, log_time_ms: int, value: bytes | None) -> None:
        if value == TICK:
            self._advance(log_time_ms)
            return
        try:
            content = decode_usage(value)
        except Malformed as malformed:
            self._advance(log_time_ms)
            self._reject(offset, 0, malformed.reason)
            return
        is_repeated = isinstance(content, WireEnvelope) and self._is_repeated_envelope(content)
        self._advance(log_time_ms)
        match content:
            case WireEnvelope() if is_repeated:
                self.duplicate += len(content.events)
            case WireEnvelope():
                self._envelope(content, offset, log_time_ms)
            case WireLeaseRequest():
                if content.wanted_micro and content.limit_name == "credits":
                    self.accounts.open(content.account_id, month_bounds(self.now_ms // DAY_MS)[0])
            case WireGauge():
                self.gauges.hear(content, self.now_ms)
            case WireForward():
                origin = content.partition, content.offset, content.index
                self.arrived[origin] = _BODY(content.event)
                logged_ms = min(content.logged_at_ms, log_time_ms)
                self._settle(content.event, offset, 0, logged_ms, None, is_forward=True)
            case _:
                self._settle(content, offset, 0, log_time_ms, None)

    def _is_repeated_envelope(self, envelope: WireEnvelope) -> bool:
        before = self._producers.get(envelope.producer_id)
        return before is not None and (envelope.producer_epoch, envelope.sequence) <= before[:2]

    def _envelope(self, envelope: WireEnvelope, offset: int, logged_ms: int) -> None:
        name = envelope.producer_id
        self._producers[name] = envelope.producer_epoch, envelope.sequence, self.now_ms
        word = f"{name}-{envelope.producer_epoch}-{self.partition}-{envelope.sequence}"
        for index, event in enumerate(envelope.events):
            self._settle(event, offset, index, logged_ms, f"{word}-{index}")

    def _reject(self, offset: int, index: int, reason: str) -> None:
        self.rejected += 1
        self.rejects[f"usage/{self.partition}/{offset}/{index}"] = reason

    def _settle(
        self, event: WireEvent, offset: int, index: int, logged_ms: int, name: str | None, *, is_forward: bool = False
    ) -> None:
        """Counts, rejects or forwards one event, or finds it counted before."""
        try:
            home = self._home(event)
            if home is not None and home != self.partition:
                if is_forward:
                    raise _RejectedError("invalid")
                if event.id is None:
                    event.id = name
                self.forwarded += 1
                self.leaving[self.partition, offset, index] = home, _BODY(event)
                return
            self._check_names(event)
            if self._is_repeated(event):
                self.duplicate += 1
                return
            self._check_times(event, logged_ms)
            self._count(event)
        except _RejectedError as rejected:
            self._reject(offset, index, str(rejected))
            return
        self.counted += 1
        if event.id is not None:
            self._bodies[event.org_id, event.id] = _BODY(event), event.ts_ms // 1000

    def _home(self, event: WireEvent) -> int | None:
        try:
            validate_event(event)
        except Malformed as malformed:
            raise _RejectedError(malformed.reason) from None
        if event.api_key_id is None and any(one.operation != event.operation for one in event.charges or ()):
            raise _RejectedError("invalid")
        account = event.account_id or self.accounts.account_of(event.org_id) or event.org_id
        return partition_of(account, self.partitions)

    def _check_names(self, event: WireEvent) -> None:
        account = self.accounts.account_of(event.org_id)
        if account is None:
            raise _RejectedError("unknown_organization")
        if event.account_id not in (None, account):
            raise _RejectedError("invalid")
        if event.api_key_id is not None and self.accounts.organization_of_key(event.api_key_id) != event.org_id:
            raise _RejectedError("unknown_key")

    def _is_repeated(self, event: WireEvent) -> bool:
        if event.id is None:
            return False
        body, second = self._bodies.get((event.org_id, event.id), (b"", -1))
        if second < self._ids_from_s:
            return False
        if body != _BODY(event):
            raise _RejectedError("id_conflict")
        return True

    def _check_times(self, event: WireEvent, logged_ms: int) -> None:
        is_in_time = event.started_at_ms >= logged_ms - BEHIND_MS
        if event.id is not None and is_in_time and event.ts_ms < (self.now_ms - BEHIND_MS) // 1000 * 1000:
            raise _RejectedError("older_than_dedup_horizon")
        if event.ts_ms > logged_ms + AHEAD_MS:
            raise _RejectedError("too_far_ahead")
        if not is_in_time:
            raise _RejectedError("too_far_behind")

    def _count(self, event: WireEvent) -> None:
        """Books all of the event, or raises."""
        card = self.cards.at(event.ts_ms)
        is_paid = 200 <= event.status <= 299
        is_test = self.accounts.is_test(event.api_key_id)
        parts = []
        rows = [(event.operation, event.quantities or {}, event.model, event.cached)]
        rows += [(one.operation, one.quantities or {}, one.model, one.cached) for one in event.charges or ()]
        for operation, quantities, model, cached in rows:
            entry = card.operations.get(operation)
            group = None if entry is None else entry.breakdown
            try:
                if entry is None:
                    units, micro = quantity(quantities, "requests"), 0
                else:
                    micro = price_micro(entry.price, quantities, model)
                    units = quantity(quantities, getattr(entry.price, "quantity", "requests"))
            except MissingQuantityError:
                if is_paid:
                    raise _RejectedError("missing_quantity") from None
                units = micro = 0
            parts.append((operation, group, units, 0 if cached or is_test or not is_paid else micro))
        entry = card.operations.get(event.operation)
        counts_requests = entry is None or entry.category is not None
        requests = quantity(event.quantities or {}, "requests") if counts_requests else 0
        minute = event.ts_ms // MINUTE_MS
        for place, (operation, group, units, micro) in enumerate(parts):
            cell = self.cells[event.org_id, event.api_key_id or "", operation, minute]
            cell[3] += units
            if place == 0:
                cell[5] += 1
                cell[0] += requests
                if counts_requests and event.status >= 400:
                    cell[2 if event.status == 429 else 1] += 1
            self._book(event, operation, group, micro, event.ts_ms)
        for ledger, _ in self._ledgers(event, event.ts_ms):
            ledger.requests += requests
        cost = sum(part[3] for part in parts)
        if entry is not None and isinstance(entry.price, HeldPrice) and is_paid and not is_test:
            cost += self._sample(event, quantity(event.quantities or {}, entry.price.quantity))
        for month, account, micro in sorted(self._booked, key=lambda one: one[0], reverse=True):
            self.commands.credits.book(account, month, micro)  # what an event has for a month before burns last
        self._booked.clear()
        if is_paid and event.resource_delta:
            self.commands.quotas.change(event.org_id, event.resource_delta)
        if cost:
            account = self.accounts.account_of(event.org_id) or ""
            month, corrected = self._month_of(event.ts_ms)
            category = None if entry is None else entry.category
            now = month_bounds(self.now_ms // DAY_MS)[0]
            self.commands.pools.spend(event.org_id, category, month, now, cost)
            self.leases.spend(account, event, month, cost, is_late=corrected is not None)
            limits = {self.leases.limits.get(one) for one in event.leases or ()}
            self.commands.budgets.spend(event.org_id, event.api_key_id, event.labels or {}, event.ts_ms, cost, limits)
        self.operations.count(event, self.now_ms)
        if counts_requests and event.status != 429 and event.api_key_id is not None:
            category = None if entry is None else entry.category
            self.accounts.take(event.api_key_id, event.started_at_ms, requests, category)

    def _ledgers(self, event: WireEvent, ms: int) -> list[tuple[Ledger, str | None]]:
        """The ledgers that take what happened at ``ms``, and the closed month that they correct by it."""
        month, corrected = self._month_of(ms)
        account = self.accounts.account_of(event.org_id) or ""
        self.accounts.open(account, month)
        names = [("account", account), ("organization", event.org_id)]
        if event.api_key_id is not None:
            names.append(("key", event.api_key_id))
        names += [("label", f"{event.org_id}:{name}={value}") for name, value in (event.labels or {}).items()]
        return [(self.ledgers[kind, name, month], corrected) for kind, name in names]

    def _month_of(self, ms: int) -> tuple[str, str | None]:
        month, _, end_ms = month_bounds(ms // DAY_MS)
        current = month_bounds(self.now_ms // DAY_MS)[0]
        if month < current and self.now_ms >= end_ms + GRACE_MS:
            return current, month
        return month, None

    def _book(self, event: WireEvent, operation: str, group: str | None, micro: int, ms: int) -> None:
        if not micro or group is None:
            return
        self.cells[event.org_id, event.api_key_id or "", operation, ms // MINUTE_MS][4] += micro
        for ledger, corrected in self._ledgers(event, ms):
            ledger.groups[group] += micro
            if corrected is not None:
                ledger.corrections[corrected] += micro
        self._booked.append((self._month_of(ms)[0], self.accounts.account_of(event.org_id) or "", micro))

    def _sample(self, event: WireEvent, amount: int) -> int:
        """What was held since the sample before costs by its time; each part by the version and month it lies in.
        Returns what it costs in all."""
        cost = 0
        names = event.org_id, event.operation
        before = self._samples.get(names)
        if before is None or event.ts_ms >= before[0]:
            self._samples[names] = event.ts_ms, amount
        since_ms, held = before or (event.ts_ms, 0)
        while since_ms < event.ts_ms:
            month, start_ms, end_ms = month_bounds(since_ms // DAY_MS)
            cut_ms = min(end_ms, self.cards.next_start_ms(since_ms) or end_ms)
            until_ms = min(cut_ms, event.ts_ms)
            entry = self.cards.at(since_ms).operations.get(event.operation)
            if entry is not None and isinstance(entry.price, HeldPrice):
                whole = self._held.get((*names, month), Fraction(0))
                weight = held * (until_ms - since_ms) * entry.price.credits_micro
                after = whole + Fraction(weight, entry.price.per * (end_ms - start_ms))
                self._held[(*names, month)] = after
                at_ms = until_ms - 1 if until_ms == cut_ms else until_ms
                self._book(event, event.operation, entry.breakdown, floor(after) - floor(whole), at_ms)
                cost += floor(after) - floor(whole)
            since_ms = until_ms
        return cost
