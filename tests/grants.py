"""Commands about credits, as an operator would write them."""

import json
from datetime import UTC, datetime
from typing import Any

CREDIT = 1_000_000


def time_text(time_ms: int) -> str:
    """``time_ms`` as RFC 3339."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def command(kind: str, command_id: str, account: str = "org_a", **fields: Any) -> bytes:
    """A record of the accounts topic."""
    base = {
        "command_id": command_id,
        "issued_at": "2026-01-01T00:00:00Z",
        "issued_by": "tests",
        "account_id": account,
        "kind": kind,
    }
    return json.dumps(base | {name: value for name, value in fields.items() if value is not None}).encode()


def grant_put(
    grant_id: str = "g1",
    credits_micro: int = 100 * CREDIT,
    from_ms: int = 0,
    until_ms: int | None = None,
    priority: int | None = None,
    account: str = "org_a",
    command_id: str | None = None,
) -> bytes:
    """The command that gives an account credits; from long ago unless ``from_ms`` says otherwise."""
    return command(
        "grant.put",
        command_id or f"put-{grant_id}",
        account,
        grant_id=grant_id,
        credits_micro=credits_micro,
        priority=priority,
        effective_at=time_text(from_ms or 1_577_836_800_000),
        expires_at=None if until_ms is None else time_text(until_ms),
    )


def grant_revoke(grant_id: str = "g1", account: str = "org_a", command_id: str | None = None) -> bytes:
    """The command that takes back what is left of a grant."""
    return command("grant.revoke", command_id or f"revoke-{grant_id}", account, grant_id=grant_id)


def budget_put(
    credits_micro: int = 10 * CREDIT,
    period: str = "day",
    *,
    blocks: bool = True,
    api_key_id: str | None = None,
    label: tuple[str, str] | None = None,
    mode: str = "soft",
    command_id: str = "budget",
) -> bytes:
    """The command that gives org_a, or a key or label of it, a budget."""
    return command(
        "budget.put",
        command_id,
        organization_id="org_a",
        api_key_id=api_key_id,
        label=None if label is None else {"name": label[0], "value": label[1]},
        period=period,
        credits_micro=credits_micro,
        thresholds_percent=[80],
        blocks=blocks,
        mode=mode,
    )


def budget_remove(period: str = "day", *, api_key_id: str | None = None) -> bytes:
    """The command that ends a budget of org_a."""
    return command("budget.remove", "remove-budget", organization_id="org_a", api_key_id=api_key_id, period=period)
