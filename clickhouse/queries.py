"""What ClickHouse is asked about usage and decisions: each question a function, values bound by the server.

Usage is exact as of the sink's position, see ``usage_sql``. Times are aware and in UTC, ranges hold their start and not
their end; counts and credits are integers (micro-credits).
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from clickhouse_connect.driver.client import Client

from sluicegate_schemas.bounds import from_epoch_ms

from .usage_sql import ONE_THREAD, SETTINGS, from_hours, from_minutes, range_parameters

_SUMS: Final = "sum(requests), sum(errors), sum(throttled), sum(units), sum(credits_micro), sum(events)"
_OF_ORGANIZATION: Final = "org_id = {org:String}"
_OF_KEY: Final = _OF_ORGANIZATION + " AND api_key_id = {api_key_id:String}"
_TRUNCATIONS: Final = {"minute": "toStartOfMinute(at)", "hour": "toStartOfHour(at)", "day": "toStartOfDay(at)"}

_REACHED: Final = """
    SELECT log_ms, shown_ms FROM (
        SELECT toUnixTimestamp64Milli(newest_log_at) AS log_ms, toUnixTimestamp64Milli(visible_at) AS shown_ms,
               1 AS best
        FROM sink_freshness WHERE topic = {topic:String} AND partition = {partition:UInt32}
        UNION ALL
        SELECT toUnixTimestamp64Milli(written_at), toUnixTimestamp64Milli(written_at), 0
        FROM sink_position FINAL WHERE topic = {topic:String} AND partition = {partition:UInt32}
    ) ORDER BY best DESC, shown_ms DESC LIMIT 1
"""
"""A partition that the freshness (kept for a day) knows nothing of has been idle since its position was written."""

Interval = Literal["minute", "hour", "day"]
Grouping = Literal["api_key_id", "operation", "category"]


class Usage(NamedTuple):
    """Sums; ``requests`` holds errors and throttled ones too."""

    requests: int = 0
    errors: int = 0
    throttled: int = 0
    units: int = 0
    credits_micro: int = 0
    events: int = 0


class UsageOf(NamedTuple):
    """The usage of one key, operation or category; ``name`` is empty for storage."""

    name: str
    usage: Usage


class Consumer(NamedTuple):
    """The usage of one organization."""

    organization_id: str
    usage: Usage


class UsageAt(NamedTuple):
    """The usage of one minute, hour or day, which begins ``at``."""

    at: datetime
    usage: Usage


class UsagePoint(NamedTuple):
    """The usage of one group (empty: all, or storage) in the minute, hour or day that begins ``at``."""

    at: datetime
    name: str
    usage: Usage


class StandingDecision(NamedTuple):
    """The newest verdict on a scope and limit; see ``sluicegate_schemas.outputs.Decision``."""

    decision_id: str
    scope_kind: str
    scope_id: str
    operation: str
    subject: str
    label: str
    category: str
    limit_name: str
    verdict: str
    limit_value: int
    observed: int
    until: datetime | None
    tier: str
    decided_at: datetime


class Freshness(NamedTuple):
    """How long the usage in an insert had waited since the log held it, in ms, over ``inserts``; the wait of an
    insert's first flush, so the longest. None without inserts."""

    inserts: int
    p50_ms: int | None
    p99_ms: int | None
    max_ms: int | None


def month_range(month: str) -> tuple[datetime, datetime]:
    """The first instant of ``month`` (``2026-03``) and of the next. Raises ValueError."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return start, start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)


def usage(client: Client, org_id: str, start: datetime, end: datetime) -> Usage:
    """The usage of an organization."""
    return _sums(_rows(client, _select(where=_OF_ORGANIZATION), org_id, start, end)[0])


def usage_by(
    client: Client, org_id: str, grouping: Grouping, start: datetime, end: datetime, *, api_key_id: str = ""
) -> list[UsageOf]:
    """The usage of an organization, or of its key ``api_key_id`` alone, by key, operation or category; the costliest
    first."""
    _check(grouping)
    query = _select(grouping, where=_OF_KEY if api_key_id else _OF_ORGANIZATION, order="sum(credits_micro) DESC, name")
    rows = _rows(client, query, org_id, start, end, api_key_id=api_key_id)
    return [UsageOf(str(row[0]), _sums(row[1:])) for row in rows]


def usage_by_each(
    client: Client, org_id: str, groupings: Sequence[Grouping], start: datetime, end: datetime
) -> dict[Grouping, list[UsageOf]]:
    """``usage_by`` for each of ``groupings``, of one moment and with one question."""
    for grouping in groupings:
        _check(grouping)
    names, sets = ", ".join(groupings), ", ".join(f"({grouping})" for grouping in groupings)
    query = (
        f"SELECT grouping({names}), {names}, {_SUMS} FROM {from_hours(_OF_ORGANIZATION)} "  # noqa: S608 (constants)
        f"GROUP BY GROUPING SETS ({sets}) HAVING sum(events) > 0 ORDER BY sum(credits_micro) DESC, {names}"
    )
    found: dict[Grouping, list[UsageOf]] = {grouping: [] for grouping in groupings}
    last = len(groupings) - 1
    for absent, *row in _rows(client, query, org_id, start, end):
        at = next(number for number in range(last + 1) if not absent >> last - number & 1)
        found[groupings[at]].append(UsageOf(str(row[at]), _sums(row[last + 1 :])))
    return found


def usage_over_time(client: Client, org_id: str, interval: Interval, start: datetime, end: datetime) -> list[UsageAt]:
    """The usage of an organization by minute, hour or day, oldest first; times without usage are left out.

    Beyond forty days back an hour is the finest there is.
    """
    source = from_minutes if interval == "minute" else from_hours
    query = _select(f"toUnixTimestamp({_TRUNCATIONS[interval]})", where=_OF_ORGANIZATION, source=source)
    rows = _rows(client, query, org_id, start, end)
    return [UsageAt(datetime.fromtimestamp(row[0], UTC), _sums(row[1:])) for row in rows]


def usage_series(
    client: Client,
    org_id: str,
    interval: Interval,
    grouping: Grouping | None,
    start: datetime,
    end: datetime,
    *,
    after: tuple[int, str] = (0, ""),
    rows_max: int,
) -> list[UsagePoint]:
    """The usage of an organization by time and, with a grouping, by name, in that order: the first ``rows_max`` behind
    ``after`` (a point's time in seconds since the epoch, and its name)."""
    if grouping is not None:
        _check(grouping)
    name = grouping or "''"
    source = from_minutes if interval == "minute" else from_hours
    query = (
        f"SELECT toUnixTimestamp({_TRUNCATIONS[interval]}) AS bucket, {name} AS name, {_SUMS} "  # noqa: S608 (made of constants)
        f"FROM {source(_OF_ORGANIZATION)} GROUP BY bucket, name HAVING sum(events) > 0 "
        "AND (bucket, name) > ({after_at:UInt32}, {after_name:String}) "
        "ORDER BY bucket, name LIMIT {rows_max:UInt32}"
    )
    rows = _rows(client, query, org_id, start, end, after_at=after[0], after_name=after[1], rows_max=rows_max)
    return [UsagePoint(datetime.fromtimestamp(at, UTC), str(name), _sums(sums)) for at, name, *sums in rows]


def reached(client: Client, topic: str, partition: int) -> tuple[int, int] | None:
    """How far usage of one partition of the state topic ``topic`` is shown: the log time (UTC epoch ms) up to which it
    is whole, and when that was made visible. None: nothing is shown yet."""
    rows = client.query(_REACHED, parameters={"topic": topic, "partition": partition}).result_rows
    return (int(rows[0][0]), int(rows[0][1])) if rows else None


def top_consumers(client: Client, start: datetime, end: datetime, limit: int) -> list[Consumer]:
    """The ``limit`` organizations that used most credits, the costliest first."""
    query = _select("org_id", order=f"sum(credits_micro) DESC, name LIMIT {int(limit)}")
    return [Consumer(str(row[0]), _sums(row[1:])) for row in _rows(client, query, "", start, end)]


def total_usage(client: Client, start: datetime, end: datetime) -> Usage:
    """The usage of all organizations together, to be held against the ledger."""
    return _sums(_rows(client, _select(), "", start, end)[0])


def standing_decisions(
    client: Client, scope_ids: Sequence[str], now: datetime, *, blocks_only: bool = True
) -> list[StandingDecision]:
    """The newest decision on each scope and limit of ``scope_ids`` (keys and organizations) that still holds at
    ``now``; with ``blocks_only`` those that block."""
    query = """
        SELECT decision_id, scope_kind, scope_id, operation, subject, label, category, limit_name, verdict,
               limit_value, observed, toUnixTimestamp64Milli(until), tier, toUnixTimestamp64Milli(decided_at)
        FROM decision FINAL
        WHERE scope_id IN {scopes:Array(String)}
        ORDER BY version DESC
        LIMIT 1 BY scope_id, scope_kind, limit_name, operation, subject, label, category
    """
    rows = client.query(query, parameters={"scopes": list(scope_ids)}).result_rows
    decisions = [
        StandingDecision._make((*seen, _instant(until), tier, from_epoch_ms(decided_at_ms)))
        for *seen, until, tier, decided_at_ms in rows
    ]
    return [
        decision
        for decision in decisions
        if (decision.until is None or decision.until > now) and (not blocks_only or decision.verdict == "block")
    ]


def decision_row(client: Client, decision_id: str, scope_ids: Sequence[str] | None) -> dict[str, Any] | None:
    """The decision of that id, if it is on one of ``scope_ids`` (keys and organizations; None: on any), with its times
    as text; None where there is none."""
    query = """
        SELECT * REPLACE (toString(until) AS until, toString(cause_ts) AS cause_ts, toString(version) AS version,
                          toString(cause_logged_at) AS cause_logged_at, toString(decided_at) AS decided_at)
        FROM decision FINAL
        WHERE ({any:Bool} OR scope_id IN {scopes:Array(String)}) AND decision_id = {id:String} LIMIT 1
    """
    scopes = {"any": scope_ids is None, "scopes": list(scope_ids or ())}
    found = client.query(query, parameters={"id": decision_id, **scopes})
    return next(iter(found.named_results()), None)


def freshness(client: Client, since: datetime) -> Freshness:
    """How fresh usage became visible since ``since`` (kept for a day)."""
    query = """
        SELECT count(), quantileExact(0.5)(waited), quantileExact(0.99)(waited), max(waited)
        FROM (SELECT toUnixTimestamp64Milli(visible_at) - toUnixTimestamp64Milli(oldest_log_at) AS waited
              FROM sink_freshness WHERE visible_at >= {since:DateTime64(3, 'UTC')})
    """
    inserts, *waits = client.query(query, parameters={"since": since}).result_rows[0]
    return Freshness(int(inserts), *(int(wait) if inserts else None for wait in waits))


def _select(
    name: str | None = None, *, where: str = "true", order: str = "name", source: Callable[[str], str] = from_hours
) -> str:
    """The sums of usage, one row for each ``name``; made of constants of this package alone."""
    if name is None:
        return f"SELECT {_SUMS} FROM {source(where)}"  # noqa: S608 (see above)
    return (
        f"SELECT {name} AS name, {_SUMS} FROM {source(where)} "  # noqa: S608 (see above)
        f"GROUP BY name HAVING sum(events) > 0 ORDER BY {order}"
    )


def _check(grouping: str) -> None:
    if grouping not in get_args(Grouping):
        raise ValueError(f"usage is not grouped by {grouping!r}")


def _rows(
    client: Client, query: str, org_id: str, start: datetime, end: datetime, **more: object
) -> Sequence[Sequence[Any]]:
    parameters = {"org": org_id, **range_parameters(client, start, end), **more}
    settings = ONE_THREAD if org_id else SETTINGS
    return client.query(query, parameters=parameters, settings=settings).result_rows


def _sums(row: Sequence[Any]) -> Usage:
    return Usage(*(int(value) for value in row))


def _instant(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else from_epoch_ms(epoch_ms)
