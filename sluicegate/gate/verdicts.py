"""Which of the standing verdicts concern a request, and how each limit refuses (requirements, section 3).

A table says of each limit on which scopes it may be blocked, and which answer that is.
"""

from typing import Final, Literal, NamedTuple

from sluicegate_schemas.limits import CATEGORIES, LimitName, category_limit
from sluicegate_schemas.outputs import ScopeKind

from ..follower.entries import Key, Verdict
from ..follower.view import View
from .asked import Asked
from .terms import Terms

Refusal = Literal["bucket", "slots", "interval", "credits", "budget", "quota", "request"]
"""How a limit answers: "bucket", "slots" (so many at a time) and "interval" with 429, "credits", "budget" and "quota"
with 403, "request" (the request itself asks for too much) with 400."""


class Rule(NamedTuple):
    """How a limit refuses, and where workers may block it."""

    refusal: Refusal
    scopes: frozenset[ScopeKind]


_BUCKET: Final = Rule("bucket", frozenset({"key", "organization", "operation"}))
_BUDGET: Final = Rule("budget", frozenset({"key", "organization", "label"}))
_QUOTA: Final = Rule("quota", frozenset({"organization"}))
LIMITS: Final[dict[LimitName, Rule]] = {
    "requests_per_second": _BUCKET,
    "requests_per_minute": _BUCKET,
    **{category_limit(category): _BUCKET for category in CATEGORIES},
    "concurrency": Rule("slots", frozenset({"organization"})),
    "credits": Rule("credits", frozenset({"account", "organization", "key", "category"})),
    "budget_day": _BUDGET,
    "budget_month": _BUDGET,
    "operation_interval": Rule("interval", frozenset({"operation"})),
    "operation_concurrency": Rule("slots", frozenset({"operation"})),
    "operation_quantity": Rule("bucket", frozenset({"operation"})),
    "operation_results": Rule("request", frozenset()),
    "objects_per_batch": Rule("quota", frozenset()),
    "quota_namespaces": _QUOTA,
    "quota_collections": _QUOTA,
    "quota_buckets": _QUOTA,
    "quota_documents": _QUOTA,
    "quota_retrievers": _QUOTA,
    "quota_taxonomies": _QUOTA,
    "quota_clusters": _QUOTA,
    "quota_api_keys": _QUOTA,
}
_CATEGORY: Final = {category_limit(category): category for category in CATEGORIES}
MONEY: Final = frozenset(name for name, rule in LIMITS.items() if rule.refusal in ("credits", "budget"))


def verdicts_about(view: View, key: Key, asked: Asked, terms: Terms, now_ms: int) -> list[Verdict]:
    """What stands at ``now_ms`` on the scopes of the request, blocks and allows; not of limits that are off."""
    on = view.verdicts_on
    found = [verdicts for scope in terms.scopes if (verdicts := on(scope)) is not None]
    if (verdicts := on(f"key:{key.api_key_id}")) is not None:
        found.append(verdicts)
    if asked.subject is not None or asked.labels or asked.charges:
        described = _described_scopes(key.organization_id, asked)
        found += [verdicts for scope in described if (verdicts := on(scope)) is not None]
    if not found:
        return []
    return [
        verdict
        for verdicts in found
        for verdict in verdicts.values()
        if (verdict.until_ms is None or now_ms < verdict.until_ms)
        and verdict.limit_name not in terms.exempt
        and verdict.scope.partition(":")[0] in LIMITS[verdict.limit_name].scopes
        and _CATEGORY.get(verdict.limit_name, terms.priced.category) == terms.priced.category
    ]


def _described_scopes(organization_id: str, asked: Asked) -> list[str]:
    scopes = [f"label:{organization_id}:{name}={value}" for name, value in asked.labels.items()]
    scopes += [
        f"operation:{organization_id}:{charge if isinstance(charge, str) else charge.operation}"
        for charge in asked.charges
        if isinstance(charge, str) or not charge.cached
    ]
    if asked.subject is not None:
        scopes.append(f"operation:{organization_id}:{asked.operation}:{asked.subject}")
    return scopes
