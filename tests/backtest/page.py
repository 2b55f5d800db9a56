"""The page that a backtest writes."""

# ruff: noqa: E501 (the page has lines of its own)

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from .score import Score

_TEXT: Final = """\
# Projection

Written by `make backtest`.

Where each organization will stand at the month's end, and when it runs dry: `clickhouse/projection.py`, answered by
`GET /v1/organizations/projection` and told by the alert `credits_run_out` ([alerts.md](alerts.md)).

## How it forecasts

| history | level | what is taken to repeat |
|---|---|---|
| a week or more, up to eight | `hour_of_week` | the mean of each hour of the week; a week counts 0.6 as much as the one after it |
| a day to a week | `hour_of_day` | the mean of each hour of the day |
| less than a day | `mean` | the mean hour; the alert does not trust it |

The rest of the month is the sum of the hours to come; the hour that runs counts as far as it is still to come. The 80 %
interval comes from how far off past forecasts were: each day, for one to thirty days ahead, the sink compares what would
have been forecast with what came (`forecast_error`), and the interval is the span from the 10 % to the 90 % quantile of the
logarithm of that ratio, over all organizations, at the horizon nearest to the month's end. Below thirty known outcomes of a
horizon it is an assumption, 61 % to 165 % of the forecast, and says so (`interval_is_learnt`). The time of exhaustion is
the first hour at which the forecast, its lower and its upper path reach what is left.

## How good it would have been

{organizations} made-up organizations (`tests/backtest/series.py`: hours of the day, weekends, trends, luck that lasts for
days, bursts, late starts) in the months {months}, each forecast made with what was known on that day alone; how far
off forecasts are was learnt until the month's fifth day. Errors are means of |forecast / actual - 1|.

| day of the month | forecasts | error | straight line | 80 % interval held |
|---|---|---|---|---|
{rows}

## On real traffic

The recorded hour ([examples/data](../examples/data/README.md)) is all the real traffic that is here. An hour has neither an
hour of the day nor one of the week, so it can only say how far its mean carries:

| after | error of the hour's credits |
|---|---|
{trace}

What is not shown: how good the projection is on months of real customers. `forecast_error` holds that for every
installation, a row for each organization, day and horizon.
"""


def page(
    organizations: int,
    months: Sequence[tuple[datetime, datetime]],
    by_day: Mapping[int, Score],
    overall: Score,
    trace: Sequence[tuple[int, float]],
) -> str:
    """The text of docs/projection.md."""
    named = [(str(day), found) for day, found in by_day.items()] + [("all", overall)]
    rows = [
        f"| {name} | {one.forecasts:,} | {one.error_percent:.1f} % | {one.straight_line_error_percent:.1f} % "
        f"| {one.coverage_percent:.1f} % |"
        for name, one in named
    ]
    return _TEXT.format(
        organizations=organizations,
        months=", ".join(f"{start:%Y-%m}" for start, _ in months),
        rows="\n".join(rows),
        trace="\n".join(f"| {minute} minutes | {error:.1f} % |" for minute, error in trace),
    )
