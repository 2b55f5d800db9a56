"""``GET /v1/organizations/usage/series``: usage over time, as JSON or CSV, a page at a time."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from clickhouse.label_usage import label_series
from clickhouse.queries import Grouping, Interval, UsagePoint, usage_series
from sluicegate_schemas.bounds import CLOCK_BEHIND_MS_MAX, from_epoch_ms, to_epoch_ms
from sluicegate_schemas.money import credits_text

from ..accepting import preferred
from ..answers import answer, encode, in_credits, shown_as
from ..auth import ReadsUsage
from ..cursors import CURSOR_SIGNS_MAX, cursor, place
from ..entity_tags import tagged
from ..freshness import history_reached
from ..headers import FRESH, IF_NONE_MATCH, KEPT, NOT_CHANGED, PAGED
from ..models import Point, Series
from ..parts import Parts
from ..problems import ProblemError

router = APIRouter(tags=["usage"])

SPAN_MAX: Final = {"minute": timedelta(days=7), "hour": timedelta(days=100), "day": timedelta(days=760)}
SPAN_DEFAULT: Final = timedelta(days=1)
POINTS_MAX: Final = 10_000
FORMS: Final = ("application/json", "text/csv")
COLUMNS: Final = ("at", "group", "requests", "errors", "throttled", "units", "credits")
_EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_GROUPINGS: Final[dict[str, Grouping]] = {"api_key": "api_key_id", "category": "category", "operation": "operation"}


@router.get(
    "/v1/organizations/usage/series",
    openapi_extra={"parameters": [IF_NONE_MATCH]},
    **shown_as(
        Series,
        also_200={"text/csv": {"schema": {"type": "string"}}},
        headers=KEPT | PAGED | FRESH,
        also=NOT_CHANGED,
    ),
)
async def series(
    request: Request,
    caller: ReadsUsage,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="Its first instant; a day ago")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="Its end, not in it; now")] = None,
    interval: Interval = "hour",
    group_by: Literal["api_key", "category", "operation", "label"] | None = None,
    after: Annotated[str | None, Query(alias="cursor", max_length=CURSOR_SIGNS_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=POINTS_MAX)] = 1_000,
    form: Annotated[Literal["json", "csv"] | None, Query(alias="format", description="Or by Accept")] = None,
) -> Response:
    """The organization's usage by minute, hour or day. Beyond forty days back, and by label, an hour is the finest
    there is; by label it is the hour in which usage was counted, and a request with two labels is in both groups."""
    parts: Parts = request.app.state.parts
    start, end = _span(from_epoch_ms(parts.clock()), since, until, interval)
    if group_by == "label" and interval == "minute":
        raise ProblemError(422, "By label, an hour is the finest interval.")
    behind = (0, "") if after is None else _behind(after)
    with parts.shares.taken(caller.organization_id):
        as_of_ms, lag_ms = await history_reached(parts, caller.account_id)  # before the figures, which may be newer
        points = await _points(parts, caller.organization_id, interval, group_by, start, end, behind, limit + 1)
    last = points[limit - 1] if len(points) > limit else None
    final = _last_counted_ms(end, interval) + CLOCK_BEHIND_MS_MAX <= as_of_ms
    following = None if last is None else cursor(int(last.at.timestamp()), last.name)
    by_label = group_by == "label"
    shown = [_point(point, by_label=by_label) for point in points[:limit]]
    wanted = preferred(request.headers.get("accept", ""), FORMS)
    is_csv = form == "csv" or (form is None and wanted == "text/csv")
    if is_csv:
        freshness = {
            "X-As-Of": _text(from_epoch_ms(as_of_ms)),
            "X-Lag-Ms": str(lag_ms),
            "X-Final": "true" if final else "false",
        }
        response = Response(_as_csv(points[:limit], by_label=by_label), media_type="text/csv", headers=freshness)
        response.headers["Content-Disposition"] = 'attachment; filename="usage.csv"'
    else:
        response = answer(
            Series.model_construct(
                as_of=from_epoch_ms(as_of_ms),
                lag_ms=lag_ms,
                final=final,
                start=start,
                end=end,
                interval=interval,
                group_by=group_by,
                points=shown,
                next_cursor=following,
            )
        )
    if following is not None:
        url = request.url.include_query_params(cursor=following)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return tagged(request, response, (b"csv" if is_csv else b"json") + encode([shown, following, final]))


def _last_counted_ms(end: datetime, interval: Interval) -> int:
    """When the last of the minutes or hours ends that are counted: all that begin before ``end``."""
    cell_ms = 60_000 if interval == "minute" else 3_600_000
    return -(-to_epoch_ms(end) // cell_ms) * cell_ms


async def _points(
    parts: Parts, organization_id: str, interval: Interval, group_by: str | None, start: datetime, end: datetime,
    after: tuple[int, str], rows_max: int,
) -> list[UsagePoint]:  # fmt: skip
    if group_by == "label" and interval != "minute":
        return await parts.history.ask(
            label_series, organization_id, interval, start, end, after=after, rows_max=rows_max
        )
    grouping = None if group_by is None else _GROUPINGS[group_by]
    return await parts.history.ask(
        usage_series, organization_id, interval, grouping, start, end, after=after, rows_max=rows_max
    )


def _span(
    now: datetime, since: datetime | None, until: datetime | None, interval: Interval
) -> tuple[datetime, datetime]:
    end = now if until is None else until.astimezone(UTC)
    start = end - SPAN_DEFAULT if since is None else since.astimezone(UTC)
    if not _EARLIEST <= start < end <= _LATEST:
        raise ProblemError(422, "from must lie before to, and both between 2020 and 2100.")
    if end - start > SPAN_MAX[interval]:
        raise ProblemError(422, f"By {interval}, at most {SPAN_MAX[interval].days} days are answered at once.")
    return start, end


def _behind(text: str) -> tuple[int, str]:
    at, name = place(text)
    if at >= 2**32:
        raise ProblemError(422, "The cursor is none that this API gave out.")
    return at, name


def _point(point: UsagePoint, *, by_label: bool) -> Point:
    requests, errors, throttled, units = _counts(point, by_label=by_label)
    return Point.model_construct(
        at=point.at,
        group=point.name,
        requests=requests,
        errors=errors,
        throttled=throttled,
        units=units,
        credits=in_credits(point.usage.credits_micro),
    )


def _counts(point: UsagePoint, *, by_label: bool) -> tuple[int, int | None, int | None, int | None]:
    usage = point.usage
    return (usage.requests, None, None, None) if by_label else usage[:4]


def _as_csv(points: list[UsagePoint], *, by_label: bool) -> str:
    """RFC 4180. No cell begins with a sign that a spreadsheet would take for a formula: names begin with a letter or
    are "…"."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    for point in points:
        counts = _counts(point, by_label=by_label)
        rows.writerow((_text(point.at), point.name, *counts, credits_text(point.usage.credits_micro)))
    return out.getvalue()


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
