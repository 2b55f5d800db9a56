"""Which of the standing decisions concern a request (requirements, section 3).

A table says on which scopes each limit may be blocked; looking a scope up is looking up its record key.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.limits import LimitName

from ..follower.view import Block, Key, View

ScopeText = Callable[[Key, str], str]


def _key(key: Key, operation: str) -> str:
    return f"key:{key.api_key_id}"


def _organization(key: Key, operation: str) -> str:
    return f"organization:{key.organization_id}"


def _account(key: Key, operation: str) -> str:
    return f"account:{key.account_id}"


def _operation(key: Key, operation: str) -> str:
    return f"operation:{key.organization_id}:{operation}"


RATE_LIMITS: Final[tuple[LimitName, ...]] = ("requests_per_second", "requests_per_minute")
SCOPES_OF_RATES: Final[tuple[tuple[LimitName, ScopeText], ...]] = tuple(
    (limit_name, scope) for scope in (_key, _organization, _operation) for limit_name in RATE_LIMITS
)
SCOPES_OF_CREDITS: Final[tuple[tuple[LimitName, ScopeText], ...]] = tuple(
    ("credits", scope) for scope in (_account, _organization, _key)
)


class Asked(NamedTuple):
    """What a request would do: its operation, and the operations it is going to be charged for besides."""

    operation: str
    charges: tuple[str, ...] = ()
    cached: bool = False
    """Known before the gate to be a cache hit: it costs nothing."""


def rate_blocks(view: View, key: Key, asked: Asked, now_ms: int) -> list[Block]:
    """The rate blocks that stand against the request at ``now_ms``."""
    return _standing(view, SCOPES_OF_RATES, key, asked.operation, now_ms)


def credit_block(view: View, key: Key, asked: Asked, catalogue: Catalogue, now_ms: int) -> Block | None:
    """The credit block that stands against the request; None if there is none, or if the request costs nothing.

    Test keys spend no credits, and a cache hit that is known before the gate costs none (requirements, section 9).
    """
    if key.mode == "test" or asked.cached:
        return None
    if not any(costs(catalogue, operation) for operation in (asked.operation, *asked.charges)):
        return None
    blocks = _standing(view, SCOPES_OF_CREDITS, key, asked.operation, now_ms)
    return blocks[0] if blocks else None


def costs(catalogue: Catalogue, operation: str) -> bool:
    """Whether the rate card prices ``operation``; what the card lacks is charged 0 (requirements, section 2)."""
    entry = catalogue.operations.get(operation)
    return entry is not None and entry.price.kind != "free"


def _standing(
    view: View, table: tuple[tuple[LimitName, ScopeText], ...], key: Key, operation: str, now_ms: int
) -> list[Block]:
    found = (view.block(f"{limit_name}:{scope(key, operation)}") for limit_name, scope in table)
    return [block for block in found if block is not None and (block.until_ms is None or now_ms < block.until_ms)]
