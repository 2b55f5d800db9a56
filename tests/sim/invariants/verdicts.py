"""Standing verdicts agree with what is used: credit blocks with the ledger, rate blocks with the buckets' debt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from sluicegate_schemas.usage import ResourceName

from .. import rows as state
from ..expected import Expected, month_bounds
from ..expected_accounts import BUCKETS
from ..expected_pools import CLOSED
from ..expected_quotas import API_KEYS
from ..plan import DAY_MS


def _standing(rows: Mapping[bytes, bytes], name: str, now_ms: int) -> bool:
    payload = rows.get(f"d|{name}".encode())
    if payload is None:
        return False
    row = state.standing_row(payload)
    return row.verdict == "block" and (row.until_ms is None or row.until_ms > now_ms)


def credit_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """An account is blocked exactly while it has used all credits of the log's month."""
    month, _, _ = month_bounds(expected.now_ms // DAY_MS)
    accounts = {one.account_id for one in expected.accounts.organizations.values()}
    for account in sorted(accounts & expected.accounts.organizations.keys()):
        total = expected.commands.credits.total_micro(account)
        ledger = expected.ledgers.get(("account", account, month))
        used = 0 if ledger is None else ledger.used_micro
        must_be = ledger is not None and total is not None and used >= total
        if _standing(rows, f"credits:account:{account}", expected.now_ms) != must_be:
            yield f"{account} has used {used} of {total} micro-credits in {month}, and is{' not' * must_be} blocked"


def pool_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """A member of a pool is blocked exactly while its cap or the others' reserves leave it nothing; a category, while
    all that is left is kept for others. Reserves of all that there is close the others with the month's first cost.
    """
    now_ms, pools = expected.now_ms, expected.commands.pools
    month, _, _ = month_bounds(now_ms // DAY_MS)

    def used(organization_id: str) -> int:
        return expected.used_micro("organization", organization_id, month)

    for name, one in sorted(expected.accounts.organizations.items()):
        spent = expected.used_micro("account", one.account_id, month)
        total = expected.commands.credits.total_micro(one.account_id)
        has_ledger = f"l|account|{one.account_id}|{month}".encode() in rows
        is_limited = has_ledger and total is not None
        remaining = (total or 0) - spent if is_limited else None
        left, is_closed = pools.left_micro(name, remaining, used)
        if one.account_id != name or pools.members(name):
            must_be = is_closed and bool(pools.members(one.account_id))
            if _standing(rows, f"credits:organization:{name}", now_ms) != must_be and (spent or not must_be):
                yield f"{name} has used {used(name)} of its pool, {left} are left, and is{' not' * must_be} blocked"
        closed = pools.closed_categories(name, left, month)
        for category in CLOSED:
            must_be = category in closed
            if _standing(rows, f"credits:category:{name}:{category}", now_ms) != must_be and (spent or not must_be):
                yield f"{left} are left to {name}, and its {category} is{' not' * must_be} blocked ({pools.reserves})"


def budget_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """What a budget is about is blocked exactly while its window's credits are used up and it asks for that."""
    budgets = expected.commands.budgets
    for place, budget in budgets.all.items():
        used, most = budgets.used_micro(place), budget.put.credits_micro
        must_be = budget.put.blocks and used >= most
        if _standing(rows, place.decision_key, expected.now_ms) != must_be:
            yield f"{place.decision_key} has used {used} of {most} micro-credits, and is{' not' * must_be} blocked"


def quota_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """Creating more of a resource is blocked exactly while the organization holds what it may."""
    accounts, quotas = expected.accounts, expected.commands.quotas
    for name in sorted(accounts.organizations):
        limits = accounts.quotas_of(name)
        for resource in get_args(ResourceName):
            count = accounts.keys_held(name) if resource == API_KEYS else quotas.counts.get((name, resource), 0)
            limit = limits.get(resource)
            must_be = limit is not None and count >= limit
            if _standing(rows, f"quota_{resource}:organization:{name}", expected.now_ms) != must_be:
                yield f"{name} holds {count} of {limit} {resource}, and is{' not' * must_be} blocked"


def concurrency_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """An organization is blocked exactly while its nodes serve as many requests as it may have at a time."""
    for name in sorted(expected.accounts.organizations):
        count, limit = expected.gauges.in_flight(name), expected.accounts.concurrency_of(name)
        must_be = limit is not None and count >= limit
        if _standing(rows, f"concurrency:organization:{name}", expected.now_ms) != must_be:
            yield f"{name} has {count} of {limit} requests in flight, and is{' not' * must_be} blocked"


def rate_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """A key that is in debt is blocked."""
    for key, buckets in sorted(expected.accounts.buckets.items()):
        for limit_name, bucket in zip(BUCKETS, buckets, strict=True):
            held = bucket.held(expected.now_ms)
            if (
                held > bucket.capacity
                and not bucket.is_exempt
                and not _standing(rows, f"{limit_name}:key:{key}", expected.now_ms)
            ):
                yield f"{key} is in debt by {limit_name} ({float(held):.2f} of {bucket.capacity}), and is not blocked"


def subject_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """A subject is blocked exactly while as many requests are about it as may be, or one was a short while ago."""
    now_ms, operations = expected.now_ms, expected.operations
    counts = expected.gauges.subjects()
    full = {place for place, count in counts.items() if count >= (operations.at_a_time(place[1], now_ms) or count + 1)}
    closed = {place for place, until_ms in operations.closed.items() if until_ms > now_ms}
    for limit_name, wanted in (("operation_concurrency", full), ("operation_interval", closed)):
        prefix = f"{limit_name}:operation:"
        names = [key.decode()[2:] for key in rows if key.startswith(f"d|{prefix}".encode())]
        standing = {tuple(name.removeprefix(prefix).split(":")) for name in names if _standing(rows, name, now_ms)}
        for place in sorted(wanted ^ standing):
            yield f"{limit_name} of {'/'.join(place)}: {'not ' * (place in wanted)}blocked at {now_ms}"


def operation_blocks(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """An operation of which more was used than a minute's quantity is blocked."""
    for (organization_id, operation, quantity), bucket in sorted(expected.operations.buckets.items()):
        held = bucket.held(expected.now_ms)
        name = f"operation_quantity:operation:{organization_id}:{operation}"
        if held > bucket.capacity and not _standing(rows, name, expected.now_ms):
            yield f"{organization_id} used {float(held):.2f} {quantity} of {operation}, and is not blocked"
