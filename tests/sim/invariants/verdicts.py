"""Standing verdicts agree with what is used: credit blocks with the ledger, rate blocks with the buckets' debt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from sluicegate_schemas.usage import ResourceName

from .. import rows as state
from ..expected import Expected, month_bounds
from ..expected_accounts import BUCKETS
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
