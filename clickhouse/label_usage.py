"""What ClickHouse is asked about the usage of labels: by the hour in which it was counted.

A row of ``usage_label`` holds what the month had used so far; an hour's own is what it holds beyond the row before. So
the hours of a month add up to its ledger, whatever the sink missed in between; what came late is in the hour in which
it came.
"""

from datetime import UTC, datetime
from typing import Final, Literal

from clickhouse_connect.driver.client import Client

from .queries import Usage, UsagePoint
from .usage_sql import ONE_THREAD

LabelInterval = Literal["hour", "day"]
_TRUNCATIONS: Final[dict[str, str]] = {"hour": "hour", "day": "toStartOfDay(hour)"}
_REACH_DAYS: Final = 40
"""A ledger changes from its month's begin until a day after its end: no row of one lies further before another."""
_SERIES: Final = """
    SELECT toUnixTimestamp($BUCKET) AS bucket, label, sum(hour_requests) AS counted, sum(hour_micro) AS cost
    FROM (
        SELECT hour, label,
               toInt64(requests) - lagInFrame(toInt64(requests)) OVER earlier AS hour_requests,
               credits_micro - lagInFrame(credits_micro) OVER earlier AS hour_micro
        FROM usage_label FINAL
        WHERE org_id = {org:String} AND month >= toYYYYMM({start:DateTime('UTC')} - INTERVAL $REACH DAY)
            AND hour >= {start:DateTime('UTC')} - INTERVAL $REACH DAY AND hour < {end:DateTime('UTC')}
        WINDOW earlier AS (
            PARTITION BY label, month ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    WHERE hour >= {start:DateTime('UTC')}
    GROUP BY bucket, label
    HAVING (counted != 0 OR cost != 0) AND (bucket, label) > ({after_at:UInt32}, {after_name:String})
    ORDER BY bucket, label LIMIT {rows_max:UInt32}
"""


def label_series(
    client: Client,
    org_id: str,
    interval: LabelInterval,
    start: datetime,
    end: datetime,
    *,
    after: tuple[int, str] = (0, ""),
    rows_max: int,
) -> list[UsagePoint]:
    """The usage of an organization's labels by hour or day and by label, in that order: the first ``rows_max`` behind
    ``after``, as ``queries.usage_series`` has it. An hour counts where it begins in the range. Of the sums, requests
    and credits are known."""
    query = _SERIES.replace("$BUCKET", _TRUNCATIONS[interval]).replace("$REACH", str(_REACH_DAYS))
    parameters = {"org": org_id, "start": start, "end": end, "after_at": after[0], "after_name": after[1]}
    rows = client.query(query, parameters={**parameters, "rows_max": rows_max}, settings=ONE_THREAD).result_rows
    return [
        UsagePoint(datetime.fromtimestamp(at, UTC), str(label), Usage(requests=int(counted), credits_micro=int(cost)))
        for at, label, counted, cost in rows
    ]
