"""Usage in a range of time, as SQL: exact as of the sink's position, from as few rows as can be.

Hours are the sums of minutes as of ``usage_rolled``; an hour of which a minute was written later is taken from its
minutes, and so are hours that the range cuts. Which hours those are is asked once in a question, so that none is
counted from both or from neither. Minutes are kept for forty-five days; what is older than forty comes from hours,
which no event can change any more. Where nothing was ever rolled, every hour that has minutes is open.
"""

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from clickhouse_connect.driver.client import Client

SETTINGS: Final = {"do_not_merge_across_partitions_select_final": 1}
"""Versions of one row share its partition, which is made of its own time."""
ONE_THREAD: Final = {**SETTINGS, "max_threads": 1}
"""For what is asked of one organization: a few thousand rows, so that threads cost more than they read."""
ROLLED_KNOWN_S: Final = 60.0
"""How long it is taken for known how far hours are: as often as they are rolled."""
MINUTES_DAYS: Final = 40
"""So many days before today usage comes from minutes, which are kept for a little longer."""
_COLUMNS: Final = "org_id, api_key_id, operation, category, requests, errors, throttled, units, credits_micro, events"
_ROLLED: Final = "SELECT toUnixTimestamp(max(rolled_until)) FROM usage_rolled WHERE name = 'usage_hour'"
_OPEN_HOURS: Final = """(
    SELECT arrayConcat(groupUniqArray(hour), {cut_hours:Array(DateTime('UTC'))}) FROM usage_written
    WHERE hour >= {start:DateTime('UTC')} AND hour < {end:DateTime('UTC')}
        AND written_at >= {rolled_until:DateTime('UTC')})"""
_FROM_HOURS: Final = """(
    WITH $OPEN_HOURS AS open_hours
    SELECT minute AS at, $COLUMNS FROM usage_minute FINAL
    WHERE $WHERE AND minute >= {minutes_start:DateTime('UTC')} AND minute < {end:DateTime('UTC')}
        AND minute >= arrayMin(open_hours) AND minute < arrayMax(open_hours) + INTERVAL 1 HOUR
        AND has(open_hours, toStartOfHour(minute))
    UNION ALL
    SELECT hour AS at, $COLUMNS FROM usage_hour FINAL
    WHERE $WHERE AND hour >= {start:DateTime('UTC')} AND hour < {end:DateTime('UTC')}
        AND (hour < {minutes_start:DateTime('UTC')} OR NOT has(open_hours, hour))
)"""
_FROM_MINUTES: Final = """(
    SELECT minute AS at, $COLUMNS FROM usage_minute FINAL
    WHERE $WHERE AND minute >= {minutes_start:DateTime('UTC')} AND minute < {end:DateTime('UTC')}
    UNION ALL
    SELECT hour AS at, $COLUMNS FROM usage_hour FINAL
    WHERE $WHERE AND hour >= {start:DateTime('UTC')} AND hour < {end:DateTime('UTC')}
        AND hour < {minutes_start:DateTime('UTC')}
)"""


_NEVER: Final = datetime.fromtimestamp(0, UTC)
_known: Final[WeakKeyDictionary[Client, tuple[float, datetime]]] = WeakKeyDictionary()


def minutes_start(now: datetime) -> datetime:
    """From when on usage comes from minutes; what is older comes from hours."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=MINUTES_DAYS)


def rolled_until(client: Client) -> datetime:
    """Until when all that was written is in the hours. What is known may be older than what is so, and no less right:
    more hours are taken from their minutes then. Raises clickhouse_connect's errors."""
    known, asked_s = _known.get(client), monotonic()
    if known is not None and asked_s - known[0] < ROLLED_KNOWN_S:
        return known[1]
    rolled = datetime.fromtimestamp(int(client.query(_ROLLED).result_rows[0][0]), UTC)
    if rolled != _NEVER:
        _known[client] = asked_s, rolled
    return rolled


def range_parameters(client: Client, start: datetime, end: datetime) -> dict[str, object]:
    """The parameters that say which usage: from ``start`` to before ``end``. Raises ValueError for a time without
    zone, and clickhouse_connect's errors."""
    for name, value in (("start", start), ("end", end)):
        if value.tzinfo is None:
            raise ValueError(f"{name} has no time zone")
    hours = [(edge, edge.replace(minute=0, second=0, microsecond=0)) for edge in (start, end)]
    return {
        "start": start,
        "end": end,
        "rolled_until": rolled_until(client),
        "minutes_start": max(start, minutes_start(datetime.now(UTC))),
        "cut_hours": [hour for edge, hour in hours if hour != edge],
    }


def from_hours(where: str) -> str:
    """A table to select from: usage of the range where ``where`` (SQL) holds, with times ``at`` that are no finer than
    an hour."""
    return _filled(_FROM_HOURS.replace("$OPEN_HOURS", _OPEN_HOURS), where)


def from_minutes(where: str) -> str:
    """The same by the minute, as far as minutes are kept."""
    return _filled(_FROM_MINUTES, where)


def _filled(query: str, where: str) -> str:
    return query.replace("$WHERE", where).replace("$COLUMNS", _COLUMNS)
