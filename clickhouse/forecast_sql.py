"""The forecast of each organization's next hours, as SQL (requirements, section 7).

The hour of the week is what repeats: of the eight weeks before the origin each hour of the week is averaged, every week
counting 0.6 as much as the one after it. Who has less than a week of history is forecast by the hour of the day, with
less than a day by the mean.
"""

from typing import Final

_PROFILES: Final = """
hours AS (
    SELECT $WHOSE AS org_id, dateDiff('hour', hour, {origin:DateTime('UTC')}) AS ago, credits_micro AS micro
    FROM usage_organization_hour FINAL
    WHERE hour >= {origin:DateTime('UTC')} - INTERVAL 8 WEEK AND hour < {origin:DateTime('UTC')}),
slots AS (
    SELECT org_id, (ago - 1) % 168 AS slot, max(ago) AS oldest, sum(micro * pow(0.6, intDiv(ago - 1, 168))) AS weighed,
           sum(micro) AS total, sumIf(micro, ago <= {month_hours:UInt32}) AS used, sumIf(micro, ago <= 24) AS day,
           sumIf(micro, ago <= 1) AS hour
    FROM hours GROUP BY org_id, slot),
weeks AS (
    SELECT org_id, toUInt32(max(oldest)) AS history_hours, sum(used) AS used_micro, sum(day) AS last_day_micro,
           sum(hour) AS last_hour_micro, sum(total) / history_hours AS mean_micro,
           groupArrayInsertAt(0., 168)(weighed, toUInt32(167 - slot)) AS weighed_hours
    FROM slots GROUP BY org_id),
profiles AS (
    SELECT org_id, history_hours, used_micro, last_day_micro, last_hour_micro,
        multiIf(
            history_hours >= 168,
            arrayMap((x, i) -> x * 0.4 / (1 - pow(0.6, intDiv(history_hours + i, 168))), weighed_hours, range(168)),
            history_hours >= 24,
            arrayMap(i -> arraySum(d -> weighed_hours[1 + i % 24 + 24 * d], range(7))
                          / intDiv(history_hours + i % 24, 24), range(168)),
            arrayMap(i -> mean_micro, range(168))) AS next_week
    FROM weeks)
"""
"""Tables of a WITH clause. ``profiles.next_week``: micro-credits of the 168 hours from ``origin`` on, which is a full
hour; ``used_micro``: of the last ``month_hours`` hours before it. An hour that lies i after the origin was seen
(history + i) / 168 times in a history of so many hours."""

_PROJECTION: Final = """
WITH $PROFILES,
errors AS (
    SELECT horizon_days, quantileExact(0.1)(log_ratio) AS low, quantileExact(0.5)(log_ratio) AS middle,
           quantileExact(0.9)(log_ratio) AS high
    FROM forecast_error FINAL
    WHERE origin + toIntervalDay(horizon_days) <= {origin:DateTime('UTC')}
        AND origin >= {origin:DateTime('UTC')} - INTERVAL 100 DAY
    GROUP BY horizon_days HAVING count() >= {samples_min:UInt32}),
nearest AS (
    SELECT argMin((low, middle, high), abs(toInt32(horizon_days) * 24 - toInt32({hours:UInt32}))) AS known_logs,
           count() AS known
    FROM errors),
begun AS (
    SELECT $WHOSE AS org_id, sum(credits_micro) AS micro FROM usage_minute FINAL
    WHERE minute >= {origin:DateTime('UTC')} AND minute < {origin:DateTime('UTC')} + INTERVAL 1 HOUR
    GROUP BY org_id),
limits AS (SELECT mapFromArrays({limited:Array(String)}, {left:Array(Int64)}) AS left_by_org)
SELECT profiles.org_id AS org_id, history_hours, used_micro + begun.micro AS used, last_hour_micro, last_day_micro,
    known > 0 AS is_learnt, if(is_learnt, known_logs, ({low:Float64}, 0., {high:Float64})) AS logs,
    arrayMap(i -> next_week[1 + i % 168] * if(i = 0, {first:Float64}, 1.), range({hours:UInt32})) AS coming,
    arrayCumSum(coming) AS sums,
    arraySum(coming) AS remaining,
    if(mapContains(left_by_org, org_id), left_by_org[org_id], -1) AS left_micro,
    arrayMap(x -> if(left_micro < 0, 0, arrayFirstIndex(s -> s * exp(x) >= left_micro, sums)),
             [logs.1, logs.2, logs.3]) AS exhausted
FROM profiles LEFT JOIN begun ON begun.org_id = profiles.org_id CROSS JOIN nearest CROSS JOIN limits
ORDER BY org_id
"""
_OUTCOMES: Final = """
INSERT INTO forecast_error (horizon_days, origin, org_id, history_hours, log_ratio)
WITH $PROFILES,
forecasts AS (
    SELECT org_id, history_hours,
        arraySum((x, i) -> x * (intDiv({days:UInt16} * 24, 168) + (i < {days:UInt16} * 24 % 168)),
                 next_week, range(168)) AS micro
    FROM profiles WHERE history_hours >= 24),
actual AS (
    SELECT org_id, sum(credits_micro) AS micro FROM usage_organization_hour FINAL
    WHERE hour >= {origin:DateTime('UTC')} AND hour < {origin:DateTime('UTC')} + toIntervalDay({days:UInt16})
    GROUP BY org_id)
SELECT {days:UInt16}, {origin:DateTime('UTC')}, forecasts.org_id, history_hours,
    log((actual.micro + 1) / (forecasts.micro + 1))
FROM forecasts LEFT JOIN actual ON actual.org_id = forecasts.org_id
WHERE forecasts.micro >= 1000000
"""
_WHOSE: Final = "transform(org_id, {members:Array(String)}, {accounts:Array(String)}, org_id)"
PROJECTION: Final = _PROJECTION.replace("$PROFILES", _PROFILES).replace("$WHOSE", _WHOSE)
"""One row for each organization, or for the account that a member's usage is put to: what it used this month, and the
forecast up to the month's end."""
OUTCOMES: Final = _OUTCOMES.replace("$PROFILES", _PROFILES).replace("$WHOSE", "org_id")
"""Writes how far off the forecasts of one origin and horizon were."""
