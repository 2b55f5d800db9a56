"""What was told last of an organization that shares its account's credits is what its cap and the pool leave it."""

from __future__ import annotations

from collections.abc import Iterable

from ..expected import Expected, month_bounds
from ..plan import DAY_MS
from .outputs import TWICE, OutputWatch


def shares(expected: Expected, outputs: OutputWatch) -> Iterable[str]:
    """Of the log's month; also of a member that has used nothing, and whoever was the last to spend."""
    organizations, pools = expected.accounts.organizations, expected.commands.pools
    month, _, _ = month_bounds(expected.now_ms // DAY_MS)
    shared = {one.account_id for name, one in organizations.items() if one.account_id != name}

    def used_micro(organization_id: str) -> int:
        return expected.used_micro("organization", organization_id, month)

    for name, one in sorted(organizations.items()):
        if one.account_id not in shared or name.startswith(TWICE):
            continue
        credits_micro = expected.commands.credits.total_micro(one.account_id)
        spent_micro = expected.used_micro("account", one.account_id, month)
        remaining_micro = None if credits_micro is None else credits_micro - spent_micro
        left_micro, _ = pools.left_micro(name, remaining_micro, used_micro)
        must_be = used_micro(name), None if left_micro is None else used_micro(name) + left_micro
        said = outputs.newest.get(("balances", f"organization:{name}:{month}"))
        if said is None:
            yield f"{name} shares credits, and its balance of {month} was never said; must be {must_be} (used, total)"
        elif (is_ := (said[1]["used_micro"], said[1]["total_micro"])) != must_be:
            yield f"{name} shares credits, and its balance of {month} says {is_} (used, total), must say {must_be}"
