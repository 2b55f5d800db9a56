"""Organizations with so many credits, and what the ledger says that they spent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec

from sluicegate_schemas.accounts import AnyCommand, BudgetPut, KeyPut, OrganizationPut
from sluicegate_schemas.limits import LimitMode, RateLimits

MICRO: Final = 1_000_000
Rows = dict[bytes, bytes]
"""The workers' state, by key."""
_RATES: Final = RateLimits(requests_per_second=10_000, burst=10_000, requests_per_minute=600_000)


class Kind(NamedTuple):
    """How an organization is limited: its credits, or a budget of a month while its credits have no limit."""

    mode: LimitMode
    what: Literal["credits", "budget"]

    def __str__(self) -> str:
        return f"{self.mode} {self.what}"

    def organization(self, scenario: str) -> str:
        """The organization of this kind that plays in a scenario."""
        return f"org_{self.mode}-{self.what}-{scenario}"


KINDS: Final = tuple(Kind(mode, what) for mode in ("hard", "soft") for what in ("credits", "budget"))  # type: ignore[arg-type]  # the literals


class Booked(NamedTuple):
    """What there is of a limit, what is used of it, and how much is lent."""

    total_micro: int
    used_micro: int
    lent_micro: int

    @property
    def over_micro(self) -> int:
        """What was spent beyond the limit."""
        return max(0, self.used_micro - self.total_micro)


def secret_of(organization_id: str) -> str:
    """Its one key."""
    return f"sk_live_spending_{organization_id[4:].replace('-', '_')}"


def organization(organization_id: str, **fields: Any) -> list[AnyCommand]:
    """Makes an organization of tier enterprise and its one key; ``fields`` are its limits."""
    common = _common(organization_id)
    digest = hashlib.sha256(secret_of(organization_id).encode()).hexdigest()
    limits = {"rates": _RATES, **fields}
    return [
        OrganizationPut(
            kind="organization.put", command_id=f"put-{organization_id}", tier="enterprise", **limits, **common
        ),
        KeyPut(
            kind="key.put",
            command_id=f"key-{organization_id}",
            api_key_id=f"key_{organization_id[4:]}",
            key_sha256=digest,
            **common,
        ),
    ]


def limited(kind: Kind, organization_id: str, total_micro: int) -> list[AnyCommand]:
    """Makes an organization that has so many credits, by its account or by a budget."""
    if kind.what == "credits":
        return organization(organization_id, credits_micro_per_month=total_micro, credits_mode=kind.mode)
    budget = BudgetPut(
        kind="budget.put",
        command_id=f"budget-{organization_id}",
        period="month",
        credits_micro=total_micro,
        blocks=True,
        mode=kind.mode,
        **_common(organization_id),
    )
    made, key = organization(organization_id)
    return [made, budget, key]


def _common(organization_id: str) -> dict[str, Any]:
    return {
        "issued_at": datetime.now(UTC),
        "issued_by": "tests",
        "account_id": organization_id,
        "organization_id": organization_id,
    }


def booked(rows: Mapping[bytes, bytes], kind: Kind, organization_ids: Sequence[str]) -> dict[str, Booked]:
    """How the limits of organizations stand in the workers' state."""
    lent, limit_name = Counter[str](), "credits" if kind.what == "credits" else "budget_month"
    for key, payload in rows.items():
        if key.startswith(b"e|"):
            lease = msgspec.msgpack.decode(payload)
            lent[lease[0]] += lease[6] * (lease[1] == limit_name)
    return {name: Booked(*_used(rows, kind, name), lent[name]) for name in organization_ids}


def _used(rows: Mapping[bytes, bytes], kind: Kind, organization_id: str) -> tuple[int, int]:
    """(total, used)."""
    if kind.what == "credits":
        month = datetime.now(UTC).strftime("%Y-%m")
        payload = rows.get(f"l|account|{organization_id}|{month}".encode())
        ledger = [None, None, 0, 0] if payload is None else msgspec.msgpack.decode(payload)
        return ledger[2] or 0, ledger[3]
    budget = msgspec.msgpack.decode(rows[f"u|{organization_id}|month|organization|".encode()])
    return budget[0], budget[5]
