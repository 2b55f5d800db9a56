"""What gates are told of organizations and keys is what the commands came to, boosts and exemptions included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..expected import Expected
from .outputs import OutputWatch

SHOWN = 3


def entitlements(expected: Expected, outputs: OutputWatch) -> Iterable[str]:
    """Of all organizations and keys of a partition but the one that two partitions know."""
    accounts = expected.accounts
    for name in sorted(accounts.organizations):
        if not name.startswith("org_twice"):
            yield from _differs(f"organization:{name}", accounts.entitlement(name), outputs)
    for name, key in sorted(accounts.keys.items()):
        if not name.startswith("key_twice"):
            wanted = {
                "api_key_id": name,
                "organization_id": key.organization_id,
                "account_id": key.account_id,
                "mode": key.mode,
                "revoked": name in accounts.revoked,
                "exempt": accounts.exempt(key.organization_id, name),
            }
            yield from _differs(f"key:{key.key_sha256}", wanted, outputs)


def _differs(name: str, wanted: dict[str, Any], outputs: OutputWatch) -> Iterable[str]:
    said = outputs.entitlement(name)
    if said is None:
        yield f"the entitlement {name} was never said"
        return
    wrong = {field: (said.get(field), value) for field, value in wanted.items() if said.get(field) != value}
    if wrong:
        yield f"the entitlement {name} says (is, must be) {dict(sorted(wrong.items())[:SHOWN])}"
