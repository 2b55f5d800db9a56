"""Limits that fired, told as the contract tells them: the one that clears last first, all of them listed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.limits import LimitName
from sluicegate_schemas.money import credits_text

from . import bodies
from .answer import JSON, Admission, Answer
from .headers import Header, Shown, ceil_s, refused_headers, shown_level
from .limiter import MINUTE_MS, SECOND_MS, Level
from .reserve import Shortfall
from .verdicts import LIMITS, MONEY, Refusal

_STATUS: Final[dict[Refusal, int]] = {
    "bucket": 429, "slots": 429, "interval": 429, "credits": 403, "budget": 403, "quota": 403, "request": 400,
}  # fmt: skip
_MESSAGES: Final[dict[LimitName, str]] = {
    "concurrency": "Concurrency limit exceeded",
    "operation_concurrency": "Concurrency limit exceeded",
    "operation_results": "Too many results requested",
    "credits": "Credit quota exceeded",
    "budget_day": "Daily budget exceeded",
    "budget_month": "Monthly budget exceeded",
    "objects_per_batch": "Batch object quota exceeded",
    "quota_namespaces": "Namespace quota exceeded",
    "quota_collections": "Collection quota exceeded",
    "quota_buckets": "Bucket quota exceeded",
    "quota_documents": "Document quota exceeded",
    "quota_retrievers": "Retriever quota exceeded",
    "quota_taxonomies": "Taxonomy quota exceeded",
    "quota_clusters": "Cluster quota exceeded",
    "quota_api_keys": "API key quota exceeded",
}
"""The others answer "Rate limit exceeded"."""
SLOT_RETRY_MS: Final = SECOND_MS
"""When to try again where so many run at a time (requirements, section 9)."""


class Fired(NamedTuple):
    """A limit that refuses a request. Micro-credits for limits on money."""

    limit_name: LimitName
    scope: str
    limit: int
    observed: int | None
    """None: not known."""
    clears_at_ms: int | None
    """None: not by time."""
    decision_id: str | None = None
    window_ms: int | None = None
    requested: int | None = None
    reserved: int | None = None
    full_at_ms: int | None = None
    """When a bucket is full again."""

    @property
    def status(self) -> int:
        """The answer."""
        return _STATUS[LIMITS[self.limit_name].refusal]


def fired_by_level(level: Level, scope: str, now_ms: int) -> Fired:
    """A bucket of the gate's own that is empty."""
    bucket = level.bucket
    return Fired(
        bucket.name,
        scope,
        bucket.limit,
        bucket.limit,
        now_ms + level.wait_ms,
        window_ms=bucket.period_ms,
        full_at_ms=now_ms + level.full_in_ms,
    )


def fired_by_shortfall(shortfall: Shortfall) -> Fired:
    """A limit on money that does not pay for a request's worst case."""
    return Fired(
        shortfall.limit_name,
        shortfall.scope,
        shortfall.limit,
        shortfall.observed,
        shortfall.until_ms,
        shortfall.decision_id,
        reserved=shortfall.reserved_micro or None,
    )


def refuse(admission: Admission, fired: Sequence[Fired], levels: Sequence[Level], now_ms: int,
           headers: list[Header] | None = None) -> Answer:  # fmt: skip
    """The answer to a request that ``fired`` refuse: the highest of their statuses, so that 429 comes before 403 and
    that before 400. ``headers`` are those that an admitted request has, needed for what is no 429."""
    status = max(one.status for one in fired)
    ordered = sorted(fired, key=_clears_last, reverse=True)
    told = next(one for one in ordered if one.status == status)
    details = _details(told, admission, now_ms)
    if len(ordered) > 1:
        details["limits"] = [_listed(one) for one in ordered]
    message = _MESSAGES.get(told.limit_name, "Rate limit exceeded")
    if status == 429:
        own: dict[str, Shown] = {level.bucket.name: shown_level(level, now_ms) for level in levels}
        by_name: dict[str, Shown] = {
            one.limit_name: _shown(one, own, now_ms) for one in reversed(ordered) if one.status == 429
        }
        limits = [by_name.pop(item.name, item) for item in own.values()] + list(by_name.values())
        retry = ("Retry-After", str(details["retry_after"]))
        answer_headers = [*JSON, retry, *refused_headers(limits, _shown(told, own, now_ms), now_ms)]
        body = bodies.too_many_requests(message, details)
    else:
        answer_headers = [*JSON, *(headers or ())]
        body = (bodies.quota_exceeded if status == 403 else bodies.bad_request)(message, details)
    return Answer(False, status, answer_headers, body, admission.key, told.decision_id, admission)


def _clears_last(fired: Fired) -> tuple[bool, int, bool]:
    """A worker's block goes before the gate's own bucket, since it knows more."""
    return fired.clears_at_ms is None, fired.clears_at_ms or 0, fired.decision_id is not None


def _details(fired: Fired, admission: Admission, now_ms: int) -> dict[str, Any]:
    names = {"scope": fired.scope, "limit_name": fired.limit_name, "decision_id": fired.decision_id}
    match LIMITS[fired.limit_name].refusal:
        case "bucket" | "slots" | "interval":
            wait_ms = SLOT_RETRY_MS if fired.clears_at_ms is None else fired.clears_at_ms - now_ms
            return {
                "limit": fired.limit,
                "window": None if fired.window_ms is None else _window(fired.window_ms),
                "retry_after": max(1, ceil_s(wait_ms)),
            } | names
        case "credits" | "budget" as kind:
            reset_ms = fired.clears_at_ms
            reset_at = _next_month(from_epoch_ms(now_ms)) if reset_ms is None else from_epoch_ms(reset_ms)
            return {
                "resource": kind,
                "current": _amount(fired, fired.observed),
                "limit": _amount(fired, fired.limit),
                "reserved": _amount(fired, fired.reserved),
                "tier": admission.terms.tier,
                "reset_date": _date(reset_at),
            } | names
        case "quota":
            return {
                "resource": fired.limit_name.removeprefix("quota_"),
                "current": fired.observed,
                "limit": fired.limit,
                "requested": fired.requested,
                "tier": admission.terms.tier,
            } | names
        case "request":
            return {"limit": fired.limit, "requested": fired.requested, "limit_name": fired.limit_name}


def _listed(fired: Fired) -> Mapping[str, Any]:
    listed = {
        "limit_name": fired.limit_name,
        "scope": fired.scope,
        "limit": _amount(fired, fired.limit),
        "current": _amount(fired, fired.observed),
        "clears_at": None if fired.clears_at_ms is None else _date(from_epoch_ms(fired.clears_at_ms)),
        "decision_id": fired.decision_id,
    }
    return {name: value for name, value in listed.items() if value is not None}


def _amount(fired: Fired, amount: int | None) -> Any:
    """An amount as JSON has it: credits exactly, the rest as whole numbers."""
    if amount is None or fired.limit_name not in MONEY:
        return amount
    return msgspec.Raw(credits_text(amount).encode())


def _shown(fired: Fired, own: Mapping[str, Shown], now_ms: int) -> Shown:
    """What the headers say of a limit that answers 429."""
    clears_at_ms = now_ms + SLOT_RETRY_MS if fired.clears_at_ms is None else fired.clears_at_ms
    if fired.window_ms is None:  # so many at a time
        return Shown(fired.limit_name, fired.limit, 1, fired.limit, 1, 0, clears_at_ms, "concurrent-requests")
    full_at_ms = max(clears_at_ms, fired.full_at_ms or 0)
    mine = own.get(fired.limit_name)
    if mine is not None:
        return mine._replace(remaining=0, full_at_ms=max(full_at_ms, mine.full_at_ms))
    window_s = ceil_s(fired.window_ms)
    return Shown(fired.limit_name, fired.limit, window_s, fired.limit, window_s, 0, full_at_ms)


def _window(window_ms: int) -> str:
    """A period as bodies write it: "1s", "1m"."""
    return f"{window_ms // MINUTE_MS}m" if window_ms % MINUTE_MS == 0 else f"{ceil_s(window_ms)}s"


def _date(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _next_month(now: datetime) -> datetime:
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
