"""The answers' forms (requirements, section 4). Amounts are credits, times are in UTC."""

from sluicegate_schemas.catalogue import Tier

from .answers import Body, Credits, Instant


class Fresh(Body):
    """Every figure says how fresh it is: it holds all that was logged by ``as_of``, and came here ``lag_ms``
    milliseconds after that; ``final``: nothing can change it any more."""

    as_of: Instant
    lag_ms: int
    final: bool


class CreditsOfMonth(Body):
    """``total`` and ``remaining`` are null where there is no limit, and for a key; ``used`` beyond ``total`` is
    ``overage``. ``lent`` is how much of ``remaining`` gateway nodes hold (hard limits)."""

    total: Credits | None
    used: Credits
    remaining: Credits | None
    reset_date: Instant
    granted: Credits
    overage: Credits
    lent: Credits


class Usage(Fresh):
    """The credits of a month, by group of the breakdown: documents, inference, search, compute, storage, upload."""

    month: str
    credits: CreditsOfMonth
    breakdown: dict[str, Credits]
    requests: int
    corrections: dict[str, Credits]
    """How much of ``used`` belongs to months that were final when it came."""


class CategoryLimits(Body):
    """Requests a minute of each key by category; null: no limit."""

    metadata: int | None
    data: int | None
    search: int | None
    upload: int | None
    compute: int | None


class RequestLimits(Body):
    """Of each key. Null: no limit."""

    per_second: int | None
    burst: int | None
    per_minute: int | None
    by_category: CategoryLimits


class Quota(Body):
    """How much of a resource the organization has and may have; null: not known yet, no limit."""

    used: int | None
    limit: int | None


class Organization(Fresh):
    """What the organization's plan gives it, boosts and custom limits included."""

    id: str
    tier: Tier
    account_id: str
    credits_per_month: Credits | None
    limits: RequestLimits
    concurrency: int | None
    objects_per_batch: int | None
    quotas: dict[str, Quota]
    features: dict[str, bool | int | str | list[str]]
    plan_version: int
