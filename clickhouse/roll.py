"""Keeps the tables of hours and days equal to the sums of usage_minute; safe to repeat and to run twice at once."""

from datetime import UTC, datetime, timedelta
from typing import Final

from clickhouse_connect.driver.client import Client

INSERT_MARGIN: Final = timedelta(minutes=10)
"""A row's ``ingested_at`` is taken when its insert begins; it is seen when that ends, well within this."""
REACH: Final = timedelta(days=44)
"""Minutes expire after 45 days; what is older was rolled long before, since no event counts that late."""

_DAYS_TOUCHED: Final = """
SELECT DISTINCT toStartOfDay(minute) AS day FROM usage_minute
WHERE minute >= {reach:DateTime('UTC')} AND ingested_at >= {since:DateTime('UTC')} ORDER BY day
"""
_ROLL_HOURS: Final = """
INSERT INTO usage_hour
    (org_id, hour, api_key_id, operation, category, requests, errors, throttled, units, credits_micro, events, version)
SELECT org_id, toStartOfHour(minute) AS hour, api_key_id, operation, argMax(category, (minute, version)),
       sum(requests), sum(errors), sum(throttled), sum(units), sum(credits_micro), sum(events), sum(version)
FROM usage_minute FINAL
WHERE minute >= {day:DateTime('UTC')} AND minute < {day:DateTime('UTC')} + INTERVAL 1 DAY
    AND toStartOfHour(minute) IN (
        SELECT toStartOfHour(minute) FROM usage_minute
        WHERE minute >= {day:DateTime('UTC')} AND minute < {day:DateTime('UTC')} + INTERVAL 1 DAY
            AND ingested_at >= {since:DateTime('UTC')})
GROUP BY org_id, hour, api_key_id, operation
"""
_ROLL_ORGANIZATIONS: Final = """
INSERT INTO usage_organization_hour (org_id, hour, credits_micro, version)
SELECT org_id, hour, sum(credits_micro), sum(version) FROM usage_hour FINAL
WHERE hour >= {day:DateTime('UTC')} AND hour < {day:DateTime('UTC')} + INTERVAL 1 DAY
GROUP BY org_id, hour
"""
_ROLL_DAY: Final = """
INSERT INTO usage_day
    (org_id, day, api_key_id, operation, category, requests, errors, throttled, units, credits_micro, events, version)
SELECT org_id, toStartOfDay(hour) AS day, api_key_id, operation, argMax(category, (hour, version)),
       sum(requests), sum(errors), sum(throttled), sum(units), sum(credits_micro), sum(events), sum(version)
FROM usage_hour FINAL
WHERE hour >= {day:DateTime('UTC')} AND hour < {day:DateTime('UTC')} + INTERVAL 1 DAY
GROUP BY org_id, day, api_key_id, operation
"""


_NOTE: Final = """
INSERT INTO usage_rolled (name, rolled_until) SELECT 'usage_hour', {until:DateTime('UTC')}
"""


def roll(client: Client, since: datetime | None = None) -> datetime:
    """Rolls the hours and days whose minutes were written since ``since`` (None: all that minutes reach back to), and
    notes in ``usage_rolled`` how far they are.

    Returns when it began, by ClickHouse's clock: the ``since`` of the next call. Raises clickhouse_connect's errors; a
    roll that broke off is made good by calling again with the same ``since``.
    """
    began = datetime.fromtimestamp(int(client.query("SELECT toUnixTimestamp(now())").result_rows[0][0]), UTC)
    reach = began - REACH
    touched_since = reach if since is None else since - INSERT_MARGIN
    days = client.query(_DAYS_TOUCHED, parameters={"reach": reach, "since": touched_since}).result_rows
    for (day,) in days:
        roll_day(client, day.replace(tzinfo=UTC), touched_since)
    client.command(_NOTE, parameters={"until": began - INSERT_MARGIN})
    return began


def roll_day(client: Client, midnight: datetime, since: datetime) -> None:
    """Rolls those hours of the day that have minutes written since ``since``, and the day. Raises as ``roll``."""
    roll_hours(client, midnight, since)
    roll_sums(client, midnight)


def roll_hours(client: Client, midnight: datetime, since: datetime) -> None:
    """Those hours of the day that have minutes written since ``since``. Raises as ``roll``."""
    client.command(_ROLL_HOURS, parameters={"day": midnight, "since": since})


def roll_sums(client: Client, midnight: datetime) -> None:
    """The day, and what its hours come to by organization, from its hours. Raises as ``roll``."""
    for statement in (_ROLL_DAY, _ROLL_ORGANIZATIONS):
        client.command(statement, parameters={"day": midnight})
