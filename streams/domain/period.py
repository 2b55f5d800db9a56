"""Months in UTC as plain integers: no datetime on the way of an event.

A month is its index since January 1970; the civil calendar is Howard Hinnant's ``days_from_civil`` in whole numbers.
"""

DAY_MS = 86_400_000
MINUTE_MS = 60_000
SECOND_MS = 1_000


class LogTime:
    """Where the log stands: its running maximum of time, the month that lies in and the catalogue version in force.

    One owner moves it (``partition.Partition``), the steps read it.
    """

    __slots__ = ("month", "now_ms", "version")

    def __init__(self) -> None:
        self.now_ms = self.month = self.version = 0

    def closed_month(self, grace_ms: int) -> int:
        """The newest month that takes no more late events: ``grace_ms`` after its end."""
        return self.month - (1 if self.now_ms >= month_start_ms(self.month) + grace_ms else 2)


def _days_before_month(index: int) -> int:
    """Days from 1970-01-01 to the first day of the month ``index``."""
    year, month = 1970 + index // 12, index % 12 + 1
    if month <= 2:
        year -= 1
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def month_index(time_ms: int) -> int:
    """The month that ``time_ms`` (UTC epoch milliseconds) lies in: 0 is January 1970."""
    days = time_ms // DAY_MS
    index = days * 12 // 365  # at most one too high before 2300: leap days only shorten the way
    while _days_before_month(index) > days:
        index -= 1
    while _days_before_month(index + 1) <= days:
        index += 1
    return index


def month_start_ms(index: int) -> int:
    """00:00 UTC on day 1 of the month ``index``, in epoch milliseconds."""
    return _days_before_month(index) * DAY_MS


def month_text(index: int) -> str:
    """The month ``index`` as ``2026-01``."""
    return f"{1970 + index // 12:04d}-{index % 12 + 1:02d}"


def parse_month(text: str) -> int:
    """The index of a month written as ``2026-01``."""
    return (int(text[:4]) - 1970) * 12 + int(text[5:7]) - 1
