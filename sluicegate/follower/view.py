"""What a gate knows, folded from three compacted topics: catalogues, entitlements and standing verdicts.

Pure: no clock and no I/O. The fold is a join: only a higher sequence of a record key replaces what is there, so
records may come late, twice or in any order and the view ends the same (requirements, section 3). Every table has a
limit; ``Limits`` says what its overflow means.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

from pydantic import ValidationError

from sluicegate_schemas import topics
from sluicegate_schemas.bounds import EPOCH_MS_MAX, RECORD_BYTES_MAX, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.limits import LimitName, quota_limit
from sluicegate_schemas.outputs import (
    ENTITLEMENT,
    KeyEntitlement,
    Lease,
    OrganizationEntitlement,
    decision_key,
    entitlement_key,
    lease_key,
)
from sluicegate_schemas.usage import ResourceName
from sluicegate_schemas.wire_checks import Malformed
from sluicegate_schemas.wire_decision import WireDecision, decode_decision

from .entries import Key, Organization, Verdict, organization_of, verdict_of
from .ranked import KeyTable, Outcome, Rank, put
from .stamps import Stamps

SMALL_RECORD_BYTES_MAX: Final = 64 * 1024
"""Largest entitlement or decision that is read; a larger one is malformed."""

USE_MATTERS: Final = frozenset(
    {"credits", "budget_day", "budget_month", "concurrency"}
    | {quota_limit(resource) for resource in get_args(ResourceName)}
)
"""The limits of which a gate wants to know how much is used, too, while they allow."""

_UNCHANGED: Final = frozenset({Outcome.STALE, Outcome.MALFORMED, Outcome.OTHERS})
FollowedRecord = CatalogueRecord | KeyEntitlement | OrganizationEntitlement | WireDecision | Lease


class Change(NamedTuple):
    """The outcome of one record, with the record itself where it was applied."""

    outcome: Outcome
    record: FollowedRecord | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a view holds.

    A key or organization above its limit is not kept and the view is no longer ``complete``: the gate then cannot
    tell an unknown key from one it had no room for, and answers 503 for it. A block above ``decisions_max`` displaces
    the oldest "allow"; where there is none it is not kept, so that scope stays open. Of the catalogues the newest
    stay.
    """

    keys_max: int = 200_000
    organizations_max: int = 100_000
    decisions_max: int = 500_000
    catalogues_max: int = 256


class View:
    """The folded state. Read its tables freely; only ``apply`` changes them."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.node: str | None = None
        """Whose leases are read; those of other nodes are none of this process's business."""
        self.complete = True
        self.stamps = Stamps()
        """What was read out of the view about somebody may be over once his stamps, or that of all, are others."""
        self.outcomes: Counter[Outcome] = Counter()
        self._keys = KeyTable(self.limits.keys_max)
        self._organizations: dict[str, tuple[Rank, Organization]] = {}
        self._verdicts: dict[str, tuple[Rank, Verdict | None]] = {}
        self._on_scope: dict[str, dict[LimitName, Verdict]] = {}
        self._allows: dict[str, None] = {}
        self._catalogues: dict[int, tuple[int, Catalogue]] = {}
        self._effective: list[tuple[int, Catalogue]] = []
        self._folds: dict[str, tuple[Callable[[str, bytes], Change], Callable[[str], bool], int]] = {
            topics.CATALOG.name: (self._fold_catalogue, self._drop_catalogue, RECORD_BYTES_MAX),
            topics.ENTITLEMENTS.name: (self._fold_entitlement, self._drop_entitlement, SMALL_RECORD_BYTES_MAX),
            topics.DECISIONS.name: (self._fold_decision, self._drop_decision, SMALL_RECORD_BYTES_MAX),
        }

    def key(self, key_sha256: str) -> Key | None:
        """The key whose secret has this SHA-256 (lower-case hex)."""
        return self._keys.get(key_sha256)

    def organization(self, organization_id: str) -> Organization | None:
        """The organization's entitlement."""
        held = self._organizations.get(organization_id)
        return None if held is None else held[1]

    def block(self, record_key: str) -> Verdict | None:
        """The block under ``decision_key(scope_text, limit_name)``, also one that time has cleared since."""
        held = self._verdicts.get(record_key)
        return held[1] if held is not None and held[1] is not None and held[1].blocks else None

    def blocks_at(self, now_ms: int) -> list[Verdict]:
        """All blocks that hold at ``now_ms``."""
        verdicts = [verdict for on_scope in self._on_scope.values() for verdict in on_scope.values()]
        return [one for one in verdicts if one.blocks and (one.until_ms is None or one.until_ms > now_ms)]

    def verdicts_on(self, scope: str) -> Mapping[LimitName, Verdict] | None:
        """What stands on a scope (its text), by limit, also what time has cleared since: blocks, and of the limits of
        ``USE_MATTERS`` allows. None: nothing."""
        return self._on_scope.get(scope)

    def catalogues_within(self, from_ms: int, until_ms: int) -> list[Catalogue]:
        """The catalogues that are in force at some time from ``from_ms`` to ``until_ms``, the last first."""
        found = []
        for effective_at_ms, catalogue in self._effective:
            if effective_at_ms <= until_ms:
                found.append(catalogue)
                if effective_at_ms <= from_ms:
                    break
        return found

    def catalogue_at(self, now_ms: int) -> Catalogue | None:
        """The catalogue in force: of those that take effect at or before ``now_ms`` the last to do so; of two at the
        same instant the higher version."""
        for effective_at_ms, catalogue in self._effective:
            if effective_at_ms <= now_ms:
                return catalogue
        return None

    def catalogue_until_ms(self, now_ms: int) -> int:
        """When a catalogue takes effect next."""
        return min((at_ms for at_ms, _ in self._effective if at_ms > now_ms), default=EPOCH_MS_MAX)

    def apply(self, topic: str, key: bytes | None, value: bytes | None) -> Change:
        """Folds one record of ``topic`` (name without prefix). Never raises for what a record holds."""
        change = self._apply(topic, key, value)
        self.outcomes[change.outcome] += 1
        if change.outcome not in _UNCHANGED and not isinstance(change.record, Lease):
            self.stamps.changed(change.record)
        return change

    def _apply(self, topic: str, key: bytes | None, value: bytes | None) -> Change:
        fold, drop, bytes_max = self._folds[topic]
        if key is None or len(key) > 1024 or not key.isascii():
            return Change(Outcome.MALFORMED)
        name = key.decode("ascii")
        if value is None:
            return Change(Outcome.REMOVED if drop(name) else Outcome.STALE)
        if len(value) > bytes_max:
            return Change(Outcome.MALFORMED)
        try:
            return fold(name, value)
        except (ValidationError, Malformed):
            return Change(Outcome.MALFORMED)

    def _fold_catalogue(self, name: str, value: bytes) -> Change:
        record = CatalogueRecord.model_validate_json(value)
        version = record.catalogue.version
        if name != str(version):
            return Change(Outcome.MALFORMED)
        held = self._catalogues.get(version)
        if held is not None and held[0] >= record.sequence:
            return Change(Outcome.STALE)
        self._catalogues[version] = (record.sequence, record.catalogue)
        overflowed = len(self._catalogues) > self.limits.catalogues_max
        if overflowed:
            del self._catalogues[min(self._catalogues)]
        self._order_catalogues()
        return Change(Outcome.OVERFLOWED if overflowed else Outcome.APPLIED, record)

    def _drop_catalogue(self, name: str) -> bool:
        version = next((version for version in self._catalogues if str(version) == name), None)
        found = version is not None and self._catalogues.pop(version, None) is not None
        self._order_catalogues()
        return found

    def _order_catalogues(self) -> None:
        catalogues = sorted(
            (catalogue for _, catalogue in self._catalogues.values()),
            key=lambda catalogue: (catalogue.effective_at, catalogue.version),
            reverse=True,
        )
        self._effective = [(to_epoch_ms(catalogue.effective_at), catalogue) for catalogue in catalogues]

    def _fold_entitlement(self, name: str, value: bytes) -> Change:
        record = ENTITLEMENT.validate_json(value)
        if name != entitlement_key(record):
            return Change(Outcome.MALFORMED)
        if isinstance(record, KeyEntitlement):
            outcome = self._keys.put(record)
        else:
            rank, organization = (record.sequence.epoch, record.sequence.counter), organization_of(record)
            limit = self.limits.organizations_max
            outcome = put(self._organizations, record.organization_id, rank, organization, limit)
        if outcome is Outcome.OVERFLOWED:
            self.complete = False
        return Change(outcome, record if outcome is Outcome.APPLIED else None)

    def _drop_entitlement(self, name: str) -> bool:
        kind, _, identifier = name.partition(":")
        if kind == "key":
            return self._keys.drop(identifier)
        return kind == "organization" and self._organizations.pop(identifier, None) is not None

    def _fold_lease(self, name: str, value: bytes) -> Change:
        """A lease is not kept: it answers a request, and only who asked can tell whether it is news."""
        if self.node is None or not name.startswith(f"lease|{self.node}|"):
            return Change(Outcome.OTHERS)
        record = Lease.model_validate_json(value)
        if name != lease_key(record.scope, record.limit_name, record.node):
            return Change(Outcome.MALFORMED)
        return Change(Outcome.APPLIED, record)

    def _fold_decision(self, name: str, value: bytes) -> Change:
        if name.startswith("lease|"):
            return self._fold_lease(name, value)
        record = decode_decision(value)
        if name != decision_key(record.scope.text(), record.limit_name):
            return Change(Outcome.MALFORMED)
        rank = (record.sequence.epoch, record.sequence.counter)
        blocks = record.verdict == "block"
        verdict = verdict_of(record) if blocks or record.limit_name in USE_MATTERS else None
        if blocks and name not in self._verdicts and len(self._verdicts) >= self.limits.decisions_max:
            self._forget_oldest_allow()
        outcome = put(self._verdicts, name, rank, verdict, self.limits.decisions_max)
        if outcome is not Outcome.APPLIED:
            return Change(outcome)
        if blocks:
            self._allows.pop(name, None)
        else:
            self._allows[name] = None
        if verdict is None:
            self._clear(name)
        else:
            self._on_scope.setdefault(verdict.scope, {})[verdict.limit_name] = verdict
        return Change(outcome, record)

    def _drop_decision(self, name: str) -> bool:
        self._allows.pop(name, None)
        self._clear(name)
        return self._verdicts.pop(name, None) is not None

    def _forget_oldest_allow(self) -> None:
        oldest = next(iter(self._allows), None)
        if oldest is not None:
            self._drop_decision(oldest)
            self.stamps.changed(None)

    def _clear(self, name: str) -> None:
        limit_name, _, scope = name.partition(":")
        on_scope = self._on_scope.get(scope)
        if on_scope is not None and on_scope.pop(limit_name, None) is not None and not on_scope:  # type: ignore[call-overload]  # any text may be asked for
            del self._on_scope[scope]
