"""Where each organization will stand at the month's end, and when it runs dry (requirements, section 7)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import exp
from typing import Final, Literal, NamedTuple

from clickhouse_connect.driver.client import Client

from .forecast_sql import OUTCOMES, PROJECTION
from .queries import month_range

HORIZONS_DAYS: Final = (1, 2, 3, 5, 7, 10, 14, 18, 22, 26, 30)
WEEKS_BACK: Final = 4
HOURS_A_WEEK: Final = 168
HOURS_A_DAY: Final = 24
SAMPLES_MIN: Final = 30
"""Below so many known outcomes of a horizon nothing is learnt from them."""
LOG_RATIO_UNKNOWN: Final = 0.5
"""Until then the interval reaches from e⁻⁰·⁵ to e⁰·⁵ of the forecast: 61 % to 165 %."""
_SETTINGS: Final = {"do_not_merge_across_partitions_select_final": 1}
"""Versions of one row share its partition, which is made of its own hour."""


Level = Literal["hour_of_week", "hour_of_day", "mean"]
"""What is taken to repeat; less history, less detail."""


class Projection(NamedTuple):
    """Amounts are micro-credits; ``low`` and ``high`` bound 80 %. ``exhausted_at`` is None where there is no limit, or
    it holds until the month's end; ``exhausted_early`` and ``exhausted_late`` go with ``high`` and ``low``."""

    org_id: str
    used_micro: int
    projected_micro: int
    low_micro: int
    high_micro: int
    exhausted_at: datetime | None
    exhausted_early: datetime | None
    exhausted_late: datetime | None
    last_hour_micro: int
    """Burned in the last full hour."""
    last_day_micro: int
    """Burned in the last 24 full hours."""
    history_hours: int
    """How long ago the first usage was, at most eight weeks: what the forecast rests on."""
    interval_is_learnt: bool = False
    """Whether ``low`` and ``high`` come from how far off past forecasts were; else they are an assumption."""

    @property
    def level(self) -> Level:
        """What the forecast repeats, by how long a history there is."""
        if self.history_hours >= HOURS_A_WEEK:
            return "hour_of_week"
        return "hour_of_day" if self.history_hours >= HOURS_A_DAY else "mean"


def project(
    client: Client,
    now: datetime,
    left_micro: Mapping[str, int] | None = None,
    account_of: Mapping[str, str] | None = None,
) -> list[Projection]:
    """All organizations with usage in the last eight weeks. ``left_micro``: the credits that are left of those with a
    limit. With ``account_of``, the usage of those organizations is put to their accounts. Raises ValueError for a time
    without zone, and clickhouse_connect's errors."""
    origin, start, end = _times(now)
    hours = int((end - origin) / timedelta(hours=1))
    parameters = {
        "origin": origin,
        "month_hours": int((origin - start) / timedelta(hours=1)),
        "hours": hours,
        "first": 1 - (now - origin) / timedelta(hours=1),
        "samples_min": SAMPLES_MIN,
        "low": -LOG_RATIO_UNKNOWN,
        "high": LOG_RATIO_UNKNOWN,
        "limited": list(left_micro or ()),
        "left": list((left_micro or {}).values()),
        "members": ["", *(account_of or {})],  # never empty: that is no table to look up in
        "accounts": ["", *(account_of or {}).values()],
    }
    columns = "org_id, used, logs, remaining, exhausted, last_hour_micro, last_day_micro, history_hours, is_learnt"
    query = f"SELECT {columns} FROM ({PROJECTION})"  # noqa: S608 (made of constants)
    projections = []
    for org_id, used, logs, remaining, exhausted, hour, day, history, is_learnt in client.query(
        query, parameters=parameters, settings=_SETTINGS
    ).result_rows:
        low, middle, high = (int(used) + round(remaining * exp(log)) for log in logs)
        late, at, early = (None if not index else origin + timedelta(hours=index) for index in exhausted)
        projections.append(
            Projection(
                org_id,
                int(used),
                middle,
                low,
                high,
                at,
                early,
                late,
                int(hour),
                int(day),
                int(history),
                bool(is_learnt),
            )
        )
    return projections


class Learner:
    """Notes how far off the forecasts were whose outcome became known in the last weeks: a little at a time, all of it
    once a day, and safe to repeat."""

    def __init__(self) -> None:
        self._midnight: datetime | None = None
        self._due: list[tuple[datetime, int]] = []

    def step(self, client: Client, now: datetime) -> bool:
        """Notes the outcomes of one origin and horizon, if any are due; returns whether more are. Raises as
        ``project``, then the same is due again."""
        midnight = _times(now)[0].replace(hour=0)
        if midnight != self._midnight:
            self._midnight = midnight
            weeks = range(WEEKS_BACK)
            self._due = [(midnight - timedelta(days=days + 7 * week), days) for week in weeks for days in HORIZONS_DAYS]
        if self._due:
            origin, days = self._due[-1]
            client.command(OUTCOMES, parameters={"origin": origin, "days": days, "month_hours": 0}, settings=_SETTINGS)
            self._due.pop()
        return bool(self._due)


def _times(now: datetime) -> tuple[datetime, datetime, datetime]:
    """The full hour before ``now``, and its month's first instant and that of the next."""
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    origin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    start, end = month_range(f"{origin:%Y-%m}")
    return origin, start, end
