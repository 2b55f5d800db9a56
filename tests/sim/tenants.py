"""Who uses the simulated product: organizations of all tiers, their keys, and the commands that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from sluicegate_schemas.bounds import EPOCH_MS_MIN, from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.files import load_catalogue


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization, who pays for it, and how much of the traffic is its own: with the weight 0 all of it comes
    through gateways."""

    organization_id: str
    tier: str
    weight: int
    account_id: str
    own: Mapping[str, Any]
    keys: tuple[str, ...]


def _tenant(name: str, tier: str, weight: int, account: str | None = None, *, keys: int = 1, **own: Any) -> Tenant:
    names = [f"key_{name}_{number}" for number in range(keys)] + [f"key_{name}_test"]
    return Tenant(f"org_{name}", tier, weight, f"org_{account or name}", own, tuple(names))


POOLS: Final = (
    {"cap_micro": 120_000_000},
    {"cap_micro": 30_000_000, "reserved_micro": 30_000_000},
    {"reserved_micro": 250_000_000},
    None,
)
"""What an organization may have of the credits of the account that it shares."""
TENANTS: Final = (
    _tenant("ash", "free", 8),
    _tenant("birch", "free", 3),
    _tenant("cedar", "pro", 5, keys=3),
    _tenant("dogwood", "team", 2),
    _tenant(
        "elm",
        "enterprise",
        4,
        credits_micro_per_month=400_000_000,
        rates={"requests_per_second": 5, "burst": 8, "requests_per_minute": 40},
    ),
    _tenant(
        "fir",
        "enterprise",
        3,
        "elm",
        pool=POOLS[0],
        rates={"requests_per_second": 20, "burst": 30, "requests_per_minute": 300},
    ),
    _tenant("gorse", "enterprise", 2),
    _tenant("iris", "enterprise", 2, "elm", pool={"cap_micro": 150_000_000, "reserved_micro": 60_000_000}),
    _tenant("hazel", "pro", 0, keys=2, credits_micro_per_month=240_000_000, credits_mode="hard"),
)
TWICE: Final = (
    _tenant("twice", "pro", 0),
    _tenant("twice", "enterprise", 0, "elm"),
)
"""One organization that two partitions may know: once for itself, once in the pool of another."""
ALL: Final = (*TENANTS, *TWICE)
TIERS: Final = ("free", "pro", "team", "enterprise")


def is_test_key(api_key_id: str | None) -> bool:
    """Whether a key was made as a test key."""
    return api_key_id is not None and api_key_id.endswith("_test")


def secret_of(api_key_id: str) -> str:
    """The secret of a key."""
    return f"sk_{'test' if is_test_key(api_key_id) else 'live'}_{api_key_id}"


def command(
    kind: str, command_id: str, issued_at_ms: int, account: str, organization: str | None, **fields: Any
) -> bytes:
    """A record of the accounts topic; ``organization`` None: about the account."""
    base = {
        "command_id": command_id,
        "issued_at": from_epoch_ms(issued_at_ms).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "issued_by": "operator",
        "account_id": account,
        "kind": kind,
    }
    if organization is not None:
        base["organization_id"] = organization
    return json.dumps(base | fields).encode()


def put_organization(
    tenant: Tenant, command_id: str, issued_at_ms: int, tier: str | None = None, **fields: Any
) -> bytes:
    """The command that makes an organization, or gives it another tier, or other ``fields``."""
    own = (dict(tenant.own) if tier in (None, tenant.tier) else {}) | fields
    names = tenant.account_id, tenant.organization_id
    return command("organization.put", command_id, issued_at_ms, *names, tier=tier or tenant.tier, **own)


def put_key(tenant: Tenant, api_key_id: str, command_id: str, issued_at_ms: int) -> bytes:
    """The command that makes a key."""
    fields = {
        "api_key_id": api_key_id,
        "key_sha256": hashlib.sha256(secret_of(api_key_id).encode()).hexdigest(),
        "mode": "test" if is_test_key(api_key_id) else "live",
    }
    return command("key.put", command_id, issued_at_ms, tenant.account_id, tenant.organization_id, **fields)


def first_commands(issued_at_ms: int) -> list[tuple[str, bytes]]:
    """(account, command) of all that stands before the first event."""
    commands = []
    for tenant in ALL:
        word = f"{tenant.account_id}-{tenant.organization_id}"
        commands.append((tenant.account_id, put_organization(tenant, f"put-{word}", issued_at_ms)))
        commands += [
            (tenant.account_id, put_key(tenant, key, f"put-{word}-{key}", issued_at_ms)) for key in tenant.keys
        ]
    return commands


@cache
def default_catalogue() -> Catalogue:
    """The catalogue that the project ships."""
    return load_catalogue((Path(__file__).parents[2] / "catalogue" / "default.toml").read_text())


@cache
def _prices(version: int) -> Mapping[str, Any]:
    """The rate card of a version: each has prices of its own, and the last one lacks an operation."""
    operations = dict(default_catalogue().operations)
    for name, step in (("storage", 7_000_000), ("search.knn", 33_333), ("search.web", 1_234_567)):
        entry = operations[name]
        price = entry.price.model_copy(update={"credits_micro": entry.price.credits_micro + version * step})
        operations[name] = entry.model_copy(update={"price": price})
    if version % 3 == 0:
        del operations["search.hybrid"]
    return operations


def catalogue(version: int, effective_at_ms: int) -> Catalogue:
    """A version of the catalogue; the first is the one that the project ships, with rollover in some plans."""
    first = default_catalogue()
    plans = {
        name: plan.model_copy(update={"rollover": name in ("free", "enterprise")}) for name, plan in first.plans.items()
    }
    first = first.model_copy(update={"plans": plans})
    if version == first.version:
        return first
    at = datetime.fromtimestamp(effective_at_ms // 1000, UTC)
    return first.model_copy(update={"version": version, "effective_at": at, "operations": _prices(version)})


@cache
def _catalogue_bytes(version: int, effective_at_ms: int) -> bytes:
    content = catalogue(version, effective_at_ms)
    at = from_epoch_ms(max(effective_at_ms, EPOCH_MS_MIN) // 1000 * 1000)
    return CatalogueRecord(catalogue=content, published_at=at, published_by="operator").model_dump_json().encode()


def catalogue_record(version: int, effective_at_ms: int) -> tuple[bytes, bytes]:
    """(key, value) of a record of the catalog topic."""
    return str(version).encode(), _catalogue_bytes(version, effective_at_ms)
