"""The answers' forms (requirements, section 4). Amounts are credits, times are in UTC."""

from typing import Annotated, Final

from pydantic import Field

from sluicegate_schemas.catalogue import Tier

from .answers import Amount, Body, Credits, Instant


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


GROUPS: Final = ("inference", "search", "storage", "documents")
"""The groups that every breakdown of a month holds (requirements, section 4)."""


class Usage(Fresh):
    """The credits of a month, by group of the breakdown: inference, search, storage, documents, and where they were
    used compute, upload or other."""

    month: str
    credits: CreditsOfMonth
    breakdown: Annotated[dict[str, Credits], Field(json_schema_extra={"required": list(GROUPS)})]
    requests: int
    corrections: dict[str, Credits]
    """How much of ``used`` belongs to months that were final when it came."""


class LabelUsage(Body):
    """What requests with a label, as ``pipeline=nightly``, used in a month; ``as_of`` is when it was used last. The
    label ``…`` is all that found no place of its own."""

    label: str
    used: Credits
    breakdown: dict[str, Credits]
    requests: int
    as_of: Instant


class UsageByLabel(Fresh):
    """The labels of a month, the costliest first. A request with several labels counts for each: they do not sum up."""

    month: str
    labels: list[LabelUsage]


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
    features: dict[str, bool | int | str | tuple[str, ...]]
    plan_version: int


class Scope(Body):
    """What a limit or decision is about; see ``sluicegate_schemas.outputs.Scope``."""

    kind: str
    id: str
    operation: str | None
    subject: str | None
    label: str | None
    category: str | None


class LimitInForce(Body):
    """A limit that the workers speak of. Money is in credits, all else a count. ``used`` is as of ``told_at``: it is
    told when it crosses a band, not with each request; ``utilization`` is its share of the limit."""

    limit_name: str
    scope: Scope
    limit: Amount
    used: Amount
    utilization: float | None
    told_at: Instant


class Place(Body):
    """Where in the usage log an event stands."""

    topic: str
    partition: int
    offset: int
    index: int


class Cause(Body):
    """The event that made a decision."""

    event_id: str
    ts: Instant
    logged_at: Instant
    position: Place


class Decision(Body):
    """A block, or an allow that ends one or says how much of a limit is used. ``until`` is when it ends by itself;
    null: not by time. ``cause`` is null where no event of the organization made it."""

    decision_id: str
    scope: Scope
    verdict: str
    limit_name: str
    limit: Amount
    observed: Amount
    reason: str | None
    until: Instant | None
    tier: Tier
    plan_version: int
    cause: Cause | None
    decided_at: Instant


class Limits(Fresh):
    """What limits the organization now, and the blocks that stand."""

    limits: list[LimitInForce]
    decisions: list[Decision]


class Alert(Body):
    """An alert that fired, and when it cleared. ``observed`` and ``limit`` are in ``unit``; ``limit`` is null where the
    rule counts only."""

    alert_id: str
    state: str
    rule: str
    severity: str
    sentence: str
    advice: str
    scope: Scope
    threshold: int
    observed: Amount
    limit: Amount | None
    unit: str
    fired_at: Instant
    at: Instant
    cleared_at: Instant | None
    reset_at: Instant | None
    costliest: list[str]


class Alerts(Fresh):
    """A page of alerts, the newest first; ``next_cursor`` leads to the page behind it."""

    alerts: list[Alert]
    next_cursor: str | None


class Point(Body):
    """The usage of a minute, hour or day that begins ``at``, of one ``group`` or, without a grouping (""), of all.
    Storage has the group "" too (by key and category). ``requests`` holds errors and throttled ones too; by label these
    are not known apart, nor are units."""

    at: Instant
    group: str
    requests: int
    errors: int | None
    throttled: int | None
    units: int | None
    credits: Credits


class Series(Fresh):
    """Usage over time, the oldest first; times without usage are left out. ``next_cursor`` leads to the page behind."""

    start: Instant
    end: Instant
    interval: str
    group_by: str | None
    points: list[Point]
    next_cursor: str | None


class SeenEvent(Body):
    """One of the organization's own usage events."""

    id: str
    ts: Instant
    operation: str
    status: int
    api_key_id: str | None
    cached: bool
    quantities: dict[str, int]


class Why(Fresh):
    """Why a decision was made: it with its limit, plan version and numbers; the event that caused it (null where no
    event did, or it is gone) and the last ``events`` of its scope before that, the oldest first. ``stands``: it is in
    force now; ``notes`` say what is no longer there."""

    decision: Decision
    stands: bool
    event: SeenEvent | None
    events: list[SeenEvent]
    notes: list[str]


class Projection(Fresh):
    """Where the month ends, from ``history_hours`` of usage, as of ``made_at``; ``low`` and ``high`` hold it four times
    of five, ``interval_is_learnt`` from how far off past forecasts were, else by assumption; ``level`` is what the
    forecast repeats. ``exhausted_at`` is null where the credits last, or there is no limit. ``last_hour`` and
    ``last_day`` are what the last full hour and the last 24 burned."""

    made_at: Instant
    used: Credits
    projected: Credits
    low: Credits
    high: Credits
    exhausted_at: Instant | None
    exhausted_early: Instant | None
    exhausted_late: Instant | None
    last_hour: Credits
    last_day: Credits
    history_hours: int
    level: str
    interval_is_learnt: bool


class MonthOnPlan(Body):
    """What the month's use would have come to on the plan of ``tier``: ``paid`` is what its credits would have paid
    for, ``beyond`` what was used besides and would have been refused from the hour ``ran_out_at`` on. Of the
    ``requests`` at least ``throttled`` would have been answered 429 by a key's limits a minute. ``total`` null: no
    limit; ``throttled`` null: the plan's limits are agreed with each organization."""

    tier: Tier
    total: Credits | None
    paid: Credits
    beyond: Credits
    ran_out_at: Instant | None
    requests: int
    throttled: int | None


class MonthOnPlans(Fresh):
    """The organization's own month on each plan of version ``plan_version``, by size; ``tier`` is the plan that it has.
    Never ``final``: the next version of the plans tells it anew."""

    month: str
    tier: Tier
    plan_version: int
    plans: list[MonthOnPlan]


class ServiceLevel(Fresh):
    """How a month's requests were served: ``requests`` were not throttled, ``failures`` of them were answered 5xx, and
    ``availability`` is the share of the others; null before the first request. Latencies are at most an eighth too
    high."""

    month: str
    requests: int
    failures: int
    availability: float | None
    latency_p50_ms: int | None
    latency_p99_ms: int | None
