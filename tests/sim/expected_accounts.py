"""What commands must come to: organizations, keys, the credits of a month, and the requests that a key's buckets hold.

The buckets are kept as requests and the time at which they were counted, refilled by exact fractions (requirements,
section 9: over any time t at most capacity + rate × t; what passes is debt).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand, KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.limits import CATEGORIES, RateLimits
from sluicegate_schemas.partitioning import partition_of
from stack.rating import month_of, month_span_ms

from .expected_overrides import ExpectedOverrides
from .plan import MINUTE_MS

if TYPE_CHECKING:
    from .expected import Cards

SECOND_MS: Final = 1_000
BUCKETS: Final = ("requests_per_second", "requests_per_minute", *(f"{name}_per_minute" for name in CATEGORIES))
_SAME: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class RefusedError(Exception):
    """The command can't be obeyed; the argument is the reason."""


@dataclass(slots=True)
class Bucket:
    """One bucket of a key: ``empty_ms`` is when all that it holds has drained."""

    rate: int
    period_ms: int
    capacity: int
    is_exempt: bool = False
    empty_ms: Fraction = Fraction(0)

    def held(self, now_ms: int) -> Fraction:
        """Requests in the bucket."""
        return max(Fraction(0), (self.empty_ms - now_ms) * self.rate / self.period_ms)

    def take(self, start_ms: int, requests: int) -> None:
        self.empty_ms = max(self.empty_ms, Fraction(start_ms)) + Fraction(requests * self.period_ms, self.rate)

    def change(self, rate: int, capacity: int, now_ms: int, *, is_exempt: bool) -> None:
        if (rate, capacity, is_exempt) == (self.rate, self.capacity, self.is_exempt):
            return
        held = self.held(now_ms) if is_exempt == self.is_exempt else Fraction(0)
        self.rate, self.capacity, self.is_exempt = rate, capacity, is_exempt
        if self.empty_ms:  # what never held anything may still be used from before now
            self.empty_ms = now_ms + held * self.period_ms / rate


@dataclass(slots=True)
class Organization:
    """Who pays, and all that it was put to, with the log time of each; ``last_offset`` is where the last one stands."""

    account_id: str
    last_offset: int
    puts: list[tuple[int, OrganizationPut]] = field(default_factory=list)


class ExpectedAccounts:
    """The accounts of one partition."""

    def __init__(self, partition: int, partitions: int, cards: Cards, rejects: dict[str, str]) -> None:
        self.now_ms = 0
        self.organizations: dict[str, Organization] = {}
        self.keys: dict[str, KeyPut] = {}
        self.revoked: set[str] = set()
        self.buckets: dict[str, tuple[Bucket, ...]] = {}
        """The second's, the minute's and those of the categories, in the order of ``BUCKETS``."""
        self.overrides = ExpectedOverrides()
        self.further: Callable[[AnyCommand], None] | None = None
        """Carries out what is no organization's or key's command. Raises RefusedError."""
        self.opened: dict[tuple[str, str], tuple[int, int]] = {}
        """When an account first had to do with a month, and behind how many of its puts."""
        self.commands = self.commands_repeated = 0
        self._partition = partition
        self._partitions = partitions
        self._cards = cards
        self._rejects = rejects
        self._done: dict[tuple[str, str], bytes] = {}
        self.acted: set[tuple[str, str]] = set()
        """(account, command id) of each command that acted."""

    def account_of(self, organization_id: str) -> str | None:
        """Who pays for an organization; None where it is not known."""
        organization = self.organizations.get(organization_id)
        return None if organization is None else organization.account_id

    def organization_of_key(self, api_key_id: str) -> str | None:
        """Whose a key is."""
        key = self.keys.get(api_key_id)
        return None if key is None else key.organization_id

    def is_test(self, api_key_id: str | None) -> bool:
        """Whether a key spends no credits."""
        return api_key_id in self.keys and self.keys[api_key_id].mode == "test"

    def rates_of(self, api_key_id: str) -> RateLimits | None:
        """A key's limits at the log's time."""
        organization_id = self.keys[api_key_id].organization_id
        put = self.organizations[organization_id].puts[-1][1]
        return self.overrides.raised_rates(organization_id, self._cards.at(self.now_ms).rates(put.tier, put.rates))

    def exempt(self, organization_id: str, api_key_id: str | None) -> list[str]:
        """The limits that are off for the organization (None), or for this key alone."""
        return self.overrides.exempt(organization_id, api_key_id)

    def entitlement(self, organization_id: str) -> dict[str, Any]:
        """What gates are told of an organization, as far as it is looked at; what is the plan's is null."""
        put = self.organizations[organization_id].puts[-1][1]
        rates = put.rates
        if any(boost.rates is not None for boost in self.overrides.boosts(organization_id)):
            rates = self._cards.at(self.now_ms).rates(put.tier, put.rates)
            rates = self.overrides.raised_rates(organization_id, rates)
        return {
            "account_id": put.account_id,
            "tier": put.tier,
            "credits_micro_per_month": put.credits_micro_per_month,
            "rates": None if rates is None else rates.model_dump(),
            "shares": None if put.shares is None else put.shares.model_dump(),
            "exempt": self.exempt(organization_id, None),
        }

    def quotas_of(self, organization_id: str) -> dict[str, int | None]:
        """How much of each resource the organization may hold; None, or not named: no limit."""
        put = self.organizations[organization_id].puts[-1][1]
        plan = self._cards.at(self.now_ms).plans[put.tier].quotas
        quotas = {str(name): limit for name, limit in {**plan, **(put.quotas or {})}.items()}
        off = self.exempt(organization_id, None)
        return {name: limit for name, limit in quotas.items() if f"quota_{name}" not in off}

    def concurrency_of(self, organization_id: str) -> int | None:
        """The requests of the organization at a time."""
        put = self.organizations[organization_id].puts[-1][1]
        plan = self._cards.at(self.now_ms).plans[put.tier]
        return plan.concurrency if put.concurrency is None else put.concurrency

    def keys_held(self, organization_id: str) -> int:
        """The organization's keys that are not revoked."""
        keys = [one for one, key in self.keys.items() if key.organization_id == organization_id]
        return len(set(keys) - self.revoked)

    def limits_of(self, api_key_id: str) -> list[tuple[int, int]]:
        """(rate, capacity) of each of a key's buckets; none where it has no limits."""
        rates = self.rates_of(api_key_id)
        if rates is None:
            return []
        put = self.organizations[self.keys[api_key_id].organization_id].puts[-1][1]
        shares = put.shares or self._cards.at(self.now_ms).plans[put.tier].shares
        minute = rates.requests_per_minute
        parts = [max(1, minute * getattr(shares, category) // 100) for category in CATEGORIES]
        return [(rates.requests_per_second, rates.burst), (minute, minute), *((part, part) for part in parts)]

    def open(self, account_id: str, month: str) -> None:
        """Something of an account happens that a month is about."""
        self.opened.setdefault((account_id, month), (self.now_ms, len(self.organizations[account_id].puts)))

    def rolls_over(self, account_id: str) -> bool:
        """Whether what a month leaves over is carried into the next one, by the account's plan at the log's time."""
        put = self.organizations[account_id].puts[-1][1]
        return self._cards.at(self.now_ms).plans[put.tier].rollover

    def obey(self, offset: int, value: bytes | None) -> None:
        """Takes in a record of the accounts topic."""
        try:
            command = self._decode(value)
            memory, body = (command.account_id, command.command_id), _SAME(command.model_dump(mode="json"))
            if partition_of(command.account_id, self._partitions) != self._partition:
                raise RefusedError("command_refused")
            before = self._done.get(memory)
            if before is not None:
                if before != body:
                    raise RefusedError("command_refused")
                self.commands_repeated += 1
                return
            match command:
                case OrganizationPut():
                    self._put_organization(command, offset)
                case KeyPut():
                    self._put_key(command)
                case KeyRevoke():
                    if self._owner(command).get(command.api_key_id) is None:
                        raise RefusedError("command_refused")
                    self.revoked.add(command.api_key_id)
                case _ if self.further is not None:
                    self.further(command)
            self._done[memory] = body
            self.acted.add(memory)
            self.commands += 1
        except RefusedError as refused:
            self._rejects[f"accounts/{self._partition}/{offset}/0"] = str(refused)

    def _decode(self, value: bytes | None) -> AnyCommand:
        if not value:
            raise RefusedError("empty")
        try:
            json.loads(value)
        except ValueError:
            raise RefusedError("not_json") from None
        try:
            return ACCOUNT_COMMAND.validate_json(value)
        except ValidationError as error:
            is_unknown = error.errors()[0]["type"] == "union_tag_invalid"
            raise RefusedError("unknown_command" if is_unknown else "invalid") from None

    def _put_organization(self, command: OrganizationPut, offset: int) -> None:
        known = self.organizations.get(command.organization_id)
        if known is None:
            if command.account_id not in (command.organization_id, *self.organizations):
                raise RefusedError("command_refused")
        elif known.account_id != command.account_id:
            raise RefusedError("command_refused")
        if command.based_on is not None and (known is None or known.last_offset != command.based_on):
            raise RefusedError("conflict")
        if known is None:
            known = self.organizations[command.organization_id] = Organization(command.account_id, offset)
        known.last_offset = offset
        if known.puts and command.account_id == command.organization_id:
            self.open(command.account_id, month_of(self.now_ms))
        known.puts.append((self.now_ms, command))
        self.limits_changed(command.organization_id)

    def limits_changed(self, organization_id: str) -> None:
        """The limits of an organization's keys may be others from now on."""
        for api_key_id in [one for one, key in self.keys.items() if key.organization_id == organization_id]:
            limits = self.limits_of(api_key_id)
            if not limits:
                self.buckets.pop(api_key_id, None)
            elif api_key_id in self.buckets:
                off = self._off(api_key_id)
                for name, bucket, (rate, capacity) in zip(BUCKETS, self.buckets[api_key_id], limits, strict=True):
                    bucket.change(rate, capacity, self.now_ms, is_exempt=name in off)

    def _off(self, api_key_id: str) -> set[str]:
        organization_id = self.keys[api_key_id].organization_id
        return {*self.exempt(organization_id, None), *self.exempt(organization_id, api_key_id)}

    def _owner(self, command: KeyPut | KeyRevoke) -> dict[str, KeyPut]:
        """The keys of the command's organization. Raises where that is not known under the command's account."""
        if self.account_of(command.organization_id) != command.account_id:
            raise RefusedError("command_refused")
        return {one: key for one, key in self.keys.items() if key.organization_id == command.organization_id}

    def _put_key(self, command: KeyPut) -> None:
        self._owner(command)
        known = self.keys.get(command.api_key_id)
        if known is None:
            if any(key.key_sha256 == command.key_sha256 for key in self.keys.values()):
                raise RefusedError("command_refused")
        elif (
            known.organization_id != command.organization_id
            or known.key_sha256 != command.key_sha256
            or command.api_key_id in self.revoked
        ):
            raise RefusedError("command_refused")
        self.keys[command.api_key_id] = command

    def take(self, api_key_id: str, started_at_ms: int, requests: int, category: str | None) -> None:
        """Requests of a key that started at ``started_at_ms``; that time is held between a minute ago and now."""
        buckets = self.buckets.get(api_key_id)
        if buckets is None:
            limits = self.limits_of(api_key_id)
            if not limits:
                return
            off = self._off(api_key_id)
            buckets = self.buckets[api_key_id] = tuple(
                Bucket(rate, SECOND_MS if name == "requests_per_second" else MINUTE_MS, capacity, name in off)
                for name, (rate, capacity) in zip(BUCKETS, limits, strict=True)
            )
        start_ms = min(max(started_at_ms, self.now_ms - MINUTE_MS + 1), self.now_ms)
        for name, bucket in zip(BUCKETS, buckets, strict=True):
            if name in ("requests_per_second", "requests_per_minute", f"{category}_per_minute"):
                bucket.take(start_ms, requests)

    def forget_resting(self) -> None:
        """Buckets that were full a minute ago are as good as new; a change of plan then finds none."""
        rest_ms = self.now_ms - MINUTE_MS
        for name in [name for name, pair in self.buckets.items() if all(one.empty_ms <= rest_ms for one in pair)]:
            del self.buckets[name]

    def total_micro(self, account_id: str, start_ms: int) -> int | None:
        """The credits of an account in the month that begins at ``start_ms``, which is the log's or the one before:
        the plan that it began with, or the largest of its time (None: no limit). A month of which nothing is known
        when it ends gets the plan of when that changes."""
        card = self._cards.at(self.now_ms)
        found: list[int | None] = []
        month = month_of(start_ms)
        puts = self.organizations[account_id].puts
        opened_ms, puts_before = self.opened.get((account_id, month), (self.now_ms, len(puts)))
        end_ms = month_span_ms(month)[1]
        for number, (put_at_ms, put) in enumerate(puts):
            if found and put_at_ms >= end_ms:
                if number >= puts_before or opened_ms < end_ms:
                    break
                found.clear()  # nothing had happened in the month: it is the plan's of when something did
            total = card.credits_micro_per_month(put.tier, put.credits_micro_per_month)
            if put_at_ms < start_ms:
                found = [total]
            else:
                found.append(total)
        limited = [total for total in found if total is not None]
        return max(limited) if len(limited) == len(found) else None
