"""The forecast of each organization's next hours, as SQL (requirements, section 7).

The hour of the week is what repeats: of the eight weeks before the origin each hour of the week is averaged, every week
counting 0.6 as much as the one after it. Who has less than a week of history is forecast by the hour of the day, with
less than a day by the mean.
"""

from collections.abc import Iterable
from typing import Final


def _added(slices: Iterable[str], weights: Iterable[str], *, then: str = "") -> str:
    """SQL: the arrays ``slices`` of one length, each times its weight, added element by element. An element's number is
    ``i`` in ``then``, which is done to the sum."""
    arrays = list(slices)
    names = [f"x{number}" for number in range(len(arrays))]
    terms = " + ".join(f"{name} * {weight}" for name, weight in zip(names, weights, strict=False))
    return f"arrayMap(({', '.join(names)}, i) -> ({terms}){then}, {', '.join(arrays)}, range(length({arrays[0]})))"


_WEIGHED: Final = _added(
    (f"arraySlice(micros, {1 + 168 * week}, 168)" for week in range(8)), (f"pow(0.6, {week})" for week in range(8))
)
_DAY: Final = _added(
    (f"arraySlice(weighed_hours, {1 + 24 * day}, 24)" for day in range(7)),
    ["1"] * 7,
    then=" / intDiv(history_hours + i, 24)",
)
_PROFILES: Final = """
hours AS (
    SELECT org_id, toUInt32(intDiv({origin:DateTime('UTC')} - hour, 3600) - 1) AS back, credits_micro AS micro
    FROM usage_organization_hour FINAL
    WHERE hour >= {origin:DateTime('UTC')} - INTERVAL 8 WEEK AND hour < {origin:DateTime('UTC')}),
histories AS (
    SELECT org_id, max(hours.back) + 1 AS oldest, sumResample(0, 1344, 1)(micro, hours.back) AS micros
    FROM hours GROUP BY org_id),
organizations AS (
    SELECT org_id, oldest, arraySum(micros) AS total, arraySum(arraySlice(micros, 1, {month_hours:UInt32})) AS used,
           arraySum(arraySlice(micros, 1, 24)) AS day, micros[1] AS hour, arrayReverse($WEIGHED) AS weighed
    FROM histories),
accounts AS (
    SELECT $WHOSE AS org_id, toUInt32(max(oldest)) AS history_hours, sum(used) AS used_micro,
           sum(day) AS last_day_micro, sum(hour) AS last_hour_micro, sum(total) / history_hours AS mean_micro,
           sumForEach(weighed) AS weighed_hours
    FROM organizations GROUP BY org_id),
profiles AS (
    SELECT org_id, history_hours, used_micro, last_day_micro, last_hour_micro,
        multiIf(
            history_hours >= 168,
            arrayMap((x, i) -> x * 0.4 / (1 - pow(0.6, intDiv(history_hours + i, 168))), weighed_hours, range(168)),
            history_hours >= 24,
            arrayFlatten(arrayWithConstant(7, $DAY)),
            arrayWithConstant(168, mean_micro)) AS next_week
    FROM accounts)
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
    GROUP BY org_id)
SELECT profiles.org_id AS org_id, history_hours, used_micro + begun.micro AS used, last_hour_micro, last_day_micro,
    known > 0 AS is_learnt, if(is_learnt, known_logs, ({low:Float64}, 0., {high:Float64})) AS logs,
    arrayConcat([next_week[1] * {first:Float64}],
                arraySlice(arrayFlatten(arrayWithConstant(5, next_week)), 2, {hours:UInt32} - 1)) AS coming,
    arrayCumSum(coming) AS sums,
    arraySum(coming) AS remaining,
    transform(org_id, {limited:Array(String)}, {left:Array(Int64)}, toInt64(-1)) AS left_micro,
    [arrayFirstIndex(s -> left_micro >= 0 AND s * exp(logs.1) >= left_micro, sums),
     arrayFirstIndex(s -> left_micro >= 0 AND s * exp(logs.2) >= left_micro, sums),
     arrayFirstIndex(s -> left_micro >= 0 AND s * exp(logs.3) >= left_micro, sums)] AS exhausted
FROM profiles LEFT JOIN begun ON begun.org_id = profiles.org_id CROSS JOIN nearest
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


def _filled(query: str, whose: str) -> str:
    profiles = _PROFILES.replace("$WEIGHED", _WEIGHED).replace("$DAY", _DAY)
    return query.replace("$PROFILES", profiles).replace("$WHOSE", whose)


_WHOSE: Final = "transform(org_id, {members:Array(String)}, {accounts:Array(String)}, org_id)"
PROJECTION: Final = _filled(_PROJECTION, _WHOSE)
"""One row for each organization, or for the account that a member's usage is put to: what it used this month, and the
forecast up to the month's end."""
OUTCOMES: Final = _filled(_OUTCOMES, "org_id")
"""Writes how far off the forecasts of one origin and horizon were."""
