"""Records as the workers publish them, and a view that holds them: where tests of follower and gate begin."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sluicegate.follower import View
from sluicegate.follower.lags import Lags
from sluicegate.gate import Answer, Gate, GateSettings
from sluicegate.gate.verdicts import MONEY
from sluicegate_schemas.accounts import KeyMode, KeyScope
from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.catalogue import CatalogueRecord, Tier
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.http import ErrorBody
from sluicegate_schemas.limits import Category, LimitName, RateLimits
from sluicegate_schemas.outputs import (
    Decision,
    KeyEntitlement,
    OrganizationEntitlement,
    Scope,
    ScopeKind,
    Sequence,
    decision_key,
    entitlement_key,
)

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NOW_MS = to_epoch_ms(NOW)
MONTH_END_MS = to_epoch_ms(datetime(2026, 4, 1, tzinfo=UTC))
SECRET = "sk_live_demo_key_heron_1"
CATALOGUE = load_catalogue((Path(__file__).parents[1] / "catalogue/default.toml").read_text("utf-8"))

TopicRecord = tuple[str, bytes, bytes | None]
"""(topic without prefix, key, value)."""


def catalogue_record() -> TopicRecord:
    """The default catalogue."""
    record = CatalogueRecord(catalogue=CATALOGUE, published_at=NOW, published_by="test")
    return "catalog", str(CATALOGUE.version).encode(), record.model_dump_json().encode()


def key_record(
    secret: str = SECRET,
    *,
    name: str = "key_heron_1",
    organization: str = "org_heron",
    account: str | None = None,
    mode: KeyMode = "live",
    revoked: bool = False,
    rank: tuple[int, int] = (1, 1),
    exempt: tuple[LimitName, ...] = (),
    scopes: tuple[KeyScope, ...] | None = None,
) -> TopicRecord:
    """A key's entitlement."""
    record = KeyEntitlement(
        key_sha256=hashlib.sha256(secret.encode()).hexdigest(),
        api_key_id=name,
        organization_id=organization,
        account_id=account or organization,
        mode=mode,
        revoked=revoked,
        exempt=exempt,
        scopes=scopes,
        sequence=Sequence(epoch=rank[0], counter=rank[1]),
    )
    return "entitlements", entitlement_key(record).encode(), record.model_dump_json().encode()


def organization_record(
    name: str = "org_heron",
    *,
    tier: Tier = "pro",
    rates: RateLimits | None = None,
    rank: tuple[int, int] = (1, 1),
    **limits: Any,
) -> TopicRecord:
    """An organization's entitlement; ``limits`` are further fields of it."""
    record = OrganizationEntitlement(
        organization_id=name,
        tier=tier,
        rates=rates,
        **({"account_id": name, "credits_micro_per_month": None} | limits),
        sequence=Sequence(epoch=rank[0], counter=rank[1]),
    )
    return "entitlements", entitlement_key(record).encode(), record.model_dump_json().encode()


def decision_record(
    *,
    kind: ScopeKind = "key",
    name: str = "key_heron_1",
    verdict: str = "block",
    limit_name: LimitName = "requests_per_minute",
    limit: int = 600,
    observed: int = 600,
    until_ms: int | None = None,
    rank: tuple[int, int] = (1, 1),
    decision_id: str = "d-1",
    operation: str | None = None,
    subject: str | None = None,
    label: str | None = None,
    category: Category | None = None,
) -> TopicRecord:
    """A decision."""
    record = Decision(
        decision_id=decision_id,
        scope=Scope(kind=kind, id=name, operation=operation, subject=subject, label=label, category=category),
        verdict="block" if verdict == "block" else "allow",
        limit_name=limit_name,
        limit=limit,
        observed=observed,
        until=None if until_ms is None else from_epoch_ms(until_ms),
        tier="pro",
        plan_version=1,
        cause=None,
        decided_at=NOW,
        sequence=Sequence(epoch=rank[0], counter=rank[1]),
    )
    return "decisions", decision_key(record.scope.text(), record.limit_name).encode(), record.model_dump_json().encode()


def used_record(limit_name: LimitName, limit: int, observed: int, **more: Any) -> TopicRecord:
    """A decision that only says how much of an organization's limit is used; of money it is so until a window ends."""
    given = {"kind": "organization", "name": "org_heron", "verdict": "allow", "decision_id": f"d-{limit_name}"}
    until_ms = MONTH_END_MS if limit_name in MONEY else None
    return decision_record(
        limit_name=limit_name, limit=limit, observed=observed, **({"until_ms": until_ms} | given | more)
    )


def credit_block(name: str = "org_heron", **fields: object) -> TopicRecord:
    """The account of ``name`` has used up 500 credits."""
    given: dict[str, object] = {
        "kind": "account",
        "name": name,
        "limit_name": "credits",
        "limit": 500_000_000,
        "observed": 500_100_000,
        "until_ms": MONTH_END_MS,
        "decision_id": "d-credits",
    }
    return decision_record(**(given | fields))  # type: ignore[arg-type]  # the fields of decision_record


@dataclass
class Known:
    """A gate's knowledge without a broker."""

    view: View = field(default_factory=View)
    ready: bool = True
    contact_ms: int | None = None
    lags: Lags = field(default_factory=Lags)

    def learn(self, *records: TopicRecord) -> Known:
        for record in records:
            self.view.apply(*record)
        return self


def heron(*more: TopicRecord) -> Known:
    """Knows the default catalogue, a pro organization and its key, and ``more``."""
    return Known().learn(catalogue_record(), organization_record(), key_record(), *more)


WIDE = RateLimits(requests_per_second=10_000, burst=10_000, requests_per_minute=10_000)


def organization(**limits: Any) -> Any:
    """The organization's entitlement, with room for many requests a minute."""
    return organization_record(**({"rates": WIDE, "rank": (2, 0)} | limits))


def error(answer: Answer) -> dict[str, Any]:
    """The body's error, of the published form."""
    ErrorBody.model_validate_json(answer.body or b"")
    found: dict[str, Any] = json.loads(answer.body or b"")["error"]
    return found


class Serving:
    """A gate whose requests run until they are ended."""

    def __init__(self, *records: Any, settings: GateSettings | None = None) -> None:
        self.known = heron(*records)
        self.gate = Gate(self.known, settings)
        self.running: list[Any] = []

    def ask(self, operation: str, now_ms: int = NOW_MS, **described: Any) -> Answer:
        answer = self.gate.check(SECRET, operation, now_ms=now_ms, **described)
        if answer.allowed:
            self.running.append(self.gate.begin(answer, now_ms))
        return answer

    def end(self, status: int = 200, now_ms: int = NOW_MS, **quantities: int) -> None:
        running = self.running.pop(0)
        charge = WireCharge(running.admission.asked.operation, quantities or None)
        self.gate.end(running, status, [charge], now_ms)
