"""How finely time is summed: by minutes while usage flows into them, then by hours, then by days."""

from typing import Final, NamedTuple, Self

from .differences import DAY_S, HOUR_S, MINUTE_S

REACH_DAYS: Final = 43
"""Minutes expire in ClickHouse after 45 days; whole days younger than that are compared."""
HOURS_DAYS: Final = 1
"""So many days before today are summed by hours, older ones by days."""


class Spans(NamedTuple):
    """The borders (UTC epoch seconds): days from ``reach_s``, hours from ``hours_s``, minutes from ``minutes_s`` on."""

    reach_s: int
    hours_s: int
    minutes_s: int

    @classmethod
    def at(cls, now_s: int) -> Self:
        """The borders at ``now_s``; the last one or two hours are summed by minutes."""
        today_s = now_s // DAY_S * DAY_S
        return cls(today_s - REACH_DAYS * DAY_S, today_s - HOURS_DAYS * DAY_S, now_s // HOUR_S * HOUR_S - HOUR_S)

    def length_s(self, time_s: int) -> int:
        """How long the span is that ``time_s`` lies in."""
        if time_s >= self.minutes_s:
            return MINUTE_S
        return HOUR_S if time_s >= self.hours_s else DAY_S

    def start_s(self, time_s: int) -> int:
        """When the span begins that ``time_s`` lies in."""
        length_s = self.length_s(time_s)
        return time_s // length_s * length_s
