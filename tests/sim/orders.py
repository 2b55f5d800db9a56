"""What operators order: grants, boosts, exemptions, budgets and corrections, drawn so that they meet each other.

Few names are used again and again, times lie around now and around the month's end, so that histories hold grants that
begin, burn and expire, boosts that end, budgets that are used up, and many orders that have to be refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from sluicegate_schemas.bounds import from_epoch_ms

from . import events, tenants
from .plan import DAY_MS, HOUR_MS, MINUTE_MS
from .tenants import TENANTS, Tenant

_AHEAD_MS: Final = (-HOUR_MS, 0, 0, 0, 700, 2_500, 6_000, 20 * MINUTE_MS)
_FOR_MS: Final = (500, 1_500, 4_000, 9_000, 21 * MINUTE_MS, 4 * HOUR_MS, 3 * DAY_MS, 40 * DAY_MS)
_LIMITS: Final = (
    "requests_per_second",
    "requests_per_minute",
    "search_per_minute",
    "compute_per_minute",
    "credits",
    "quota_collections",
)
_MICRO: Final = (1, 999_999, 20_000_000, 300_000_000, 2_000_000_000)
_RATES: Final = (
    {"requests_per_second": 50, "burst": 60, "requests_per_minute": 900},
    {"requests_per_second": 1, "burst": 2, "requests_per_minute": 5_000},
)

_WEIGHTS: Final = (14, 1, 1, 1, 8, 2, 1, 2, 3)
"""Of the tenants: most orders are about two of them, so that they meet."""

Fields = dict[str, Any]
Order = Callable[[random.Random, Tenant, int], tuple[str, Fields]]


def _time(at_ms: int) -> str:
    return from_epoch_ms(at_ms).isoformat().replace("+00:00", "Z")


def _span(draw: random.Random, now_ms: int) -> tuple[int, int]:
    """From when until when: now and then over the month's end, or right up to it."""
    start_ms = now_ms + draw.choice(_AHEAD_MS)
    if draw.random() < 0.25:
        return start_ms, max(start_ms + 1, events.edge_ms(draw, now_ms))
    return start_ms, start_ms + draw.choice(_FOR_MS)


def _grant(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    start_ms, end_ms = _span(draw, now_ms)
    fields: Fields = {
        "grant_id": f"g{draw.randrange(3)}",
        "credits_micro": draw.choice(_MICRO[1:]),
        "priority": draw.choice((0, 50, 50, 100, 100, 150)),
        "effective_at": _time(start_ms),
    }
    if draw.random() < 0.8:
        fields["expires_at"] = _time(end_ms)
    return "grant.put", fields


def _revoke(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    return "grant.revoke", {"grant_id": f"g{draw.randrange(3)}"}


def _boost(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    start_ms, end_ms = _span(draw, now_ms)
    fields: Fields = {"boost_id": f"b{draw.randrange(2)}", "effective_at": _time(start_ms), "until": _time(end_ms)}
    if draw.random() < 0.6:
        fields["rates"] = draw.choice(_RATES)
    if draw.random() < 0.5 or "rates" not in fields:
        fields["credits_micro"] = draw.choice(_MICRO)
    return "boost.put", fields


def _boost_end(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    return "boost.end", {"boost_id": f"b{draw.randrange(2)}"}


def _exemption(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    start_ms, end_ms = _span(draw, now_ms)
    fields: Fields = {
        "exemption_id": f"x{draw.randrange(2)}",
        "limit_name": draw.choice(_LIMITS),
        "effective_at": _time(start_ms),
        "until": _time(end_ms),
    }
    if draw.random() < 0.5:
        fields["api_key_id"] = events.some_key(draw, tenant)
    return "exemption.put", fields


def _exemption_end(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    return "exemption.end", {"exemption_id": f"x{draw.randrange(2)}"}


def _budget_scope(draw: random.Random, tenant: Tenant) -> Fields:
    period = draw.choice(("day", "month"))
    match draw.randrange(3):
        case 0:
            return {"period": period, "api_key_id": events.some_key(draw, tenant)}
        case 1:
            return {"period": "day", "label": {"name": "pipeline", "value": "nightly"}}
        case _:
            return {"period": period}


def _budget(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    fields = {**_budget_scope(draw, tenant), "credits_micro": draw.choice(_MICRO), "blocks": draw.random() < 0.8}
    fields["mode"] = "hard" if tenant.weight == 0 or draw.random() < 0.2 else "soft"
    return "budget.put", fields


def _budget_remove(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    return "budget.remove", _budget_scope(draw, tenant)


def _correction(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    months_ms = (now_ms, now_ms - 26 * HOUR_MS, now_ms - 26 * HOUR_MS, now_ms - 31 * DAY_MS, now_ms + 29 * DAY_MS)
    fields: Fields = {
        "month": from_epoch_ms(draw.choice(months_ms)).strftime("%Y-%m"),
        "direction": draw.choice(("charge", "charge", "credit")),
        "credits_micro": draw.choice(_MICRO[:4]),
        "breakdown": draw.choice(("compute", "search", "documents")),
    }
    if draw.random() < 0.3:
        fields["api_key_id"] = events.some_key(draw, tenant)
    return "correction.put", fields


def _reserve(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    micro = draw.choice((0, *_MICRO[2:]))
    return "capacity.reserve", {
        "category": draw.choice(("search", "search", "compute", "data")),
        "credits_micro": micro,
    }


def _recount(draw: random.Random, tenant: Tenant, now_ms: int) -> tuple[str, Fields]:
    resource = draw.choice(("collections", "collections", "buckets", "api_keys"))
    return "quota.recount", {"counts": {resource: draw.choice((0, 1, 4, 5, 51))}}


ORDERS: Final[tuple[tuple[Order, int], ...]] = (
    (_grant, 8),
    (_revoke, 4),
    (_boost, 3),
    (_boost_end, 3),
    (_exemption, 3),
    (_exemption_end, 2),
    (_budget, 5),
    (_budget_remove, 2),
    (_correction, 3),
    (_recount, 3),
    (_reserve, 5),
)
"""Each kind with its weight; a new kind is one more entry."""


Given = list[tuple[Order, Tenant, Fields]]
"""What was put, with its tenant, so that it can be ended, taken back or put anew."""

_ENDS: Final[dict[Order, tuple[Order, str]]] = {
    _revoke: (_grant, "grant_id"),
    _boost_end: (_boost, "boost_id"),
    _exemption_end: (_exemption, "exemption_id"),
}


def some_order(draw: random.Random, command_id: str, now_ms: int, given: Given) -> tuple[str, bytes]:
    """(account, command) of one order; a few are about a name that its organization does not have."""
    tenant = draw.choices(TENANTS, _WEIGHTS)[0]
    make = draw.choices([one[0] for one in ORDERS], [one[1] for one in ORDERS])[0]
    kind, fields = make(draw, tenant, now_ms)
    if make in _ENDS:
        put, name = _ENDS[make]
        if found := [one for one in given if one[0] is put]:
            _, tenant, standing = draw.choice(found)
            fields = {name: standing[name]}
    else:
        given.append((make, tenant, fields))
    organization = draw.choice(TENANTS).organization_id if draw.random() < 0.04 else tenant.organization_id
    if kind.startswith("grant."):
        return tenant.account_id, tenants.command(kind, command_id, now_ms, tenant.account_id, None, **fields)
    return tenant.account_id, tenants.command(kind, command_id, now_ms, tenant.account_id, organization, **fields)
