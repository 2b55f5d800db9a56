"""Hours and days anew from finer rows, without a gap for who reads meanwhile.

A sum's version is the sum of the versions that it was made of, and the highest stands: a wrong sum with a higher one
has to go. The right one is there before, and is written once more afterwards, since a merge in between leaves the wrong
one alone. What a sink rolls meanwhile is no higher than what its rows sum to now, and stays.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from ..roll import roll_hours, roll_sums
from .differences import DAY_S

SYNC: Final = {"lightweight_deletes_sync": 2}


class _Level(NamedTuple):
    """A table of sums by ``time`` and ``names``, and the finer one that it is made of."""

    table: str
    time: str
    names: tuple[str, ...]
    fine: str
    fine_time: str

    def _range(self, column: str) -> str:
        return (
            f"org_id = {{org:String}} AND {column} >= toDateTime({{start:UInt32}}, 'UTC')"
            f" AND {column} < toDateTime({{end:UInt32}}, 'UTC')"
        )

    def standing(self) -> str:
        names = "".join(f", {name}" for name in self.names)
        return (
            f"SELECT DISTINCT toUnixTimestamp({self.time}), toString(version){names} "  # noqa: S608 (made of constants)
            f"FROM {self.table} WHERE {self._range(self.time)}"
        )

    def right(self) -> str:
        names = "".join(f", {name}" for name in self.names)
        start = {"hour": "toStartOfHour", "day": "toStartOfDay"}[self.time]
        return (
            f"SELECT toUnixTimestamp({start}({self.fine_time})) AS at, toString(sum(version)){names} "  # noqa: S608 (made of constants)
            f"FROM {self.fine} FINAL WHERE {self._range(self.fine_time)} GROUP BY at{names}"
        )

    def delete(self) -> str:
        names = "".join(f" AND {name} = {{{name}:String}}" for name in self.names)
        return (
            f"DELETE FROM {self.table} WHERE org_id = {{org:String}} "  # noqa: S608 (made of constants)
            f"AND {self.time} = toDateTime({{at:UInt32}}, 'UTC'){names} AND version = toUInt128({{version:String}})"
        )


_NAMES: Final = ("api_key_id", "operation")
_HOURS: Final = _Level("usage_hour", "hour", _NAMES, "usage_minute", "minute")
_ORGANIZATIONS: Final = _Level("usage_organization_hour", "hour", (), "usage_hour", "hour")
_DAYS: Final = _Level("usage_day", "day", _NAMES, "usage_hour", "hour")


def reroll(client: Client, sums: set[tuple[str, int, int]]) -> None:
    """Makes the sums (organization, first second, length: an hour or a day) and the days that they lie in equal to what
    they are made of. Raises clickhouse_connect's errors; repeat it then."""
    for day_s in sorted({start_s // DAY_S * DAY_S for _, start_s, _ in sums}):
        midnight = datetime.fromtimestamp(day_s, UTC)
        of_day = sorted(one for one in sums if one[1] // DAY_S * DAY_S == day_s)
        hours = [(org, start_s, start_s + length_s) for org, start_s, length_s in of_day if length_s < DAY_S]
        days = [(org, day_s, day_s + DAY_S) for org in sorted({org for org, _, _ in of_day})]
        _replace(
            client,
            partial(roll_hours, client, midnight, midnight - timedelta(days=1)),
            [(_HOURS, *one) for one in hours],
        )
        _replace(
            client,
            partial(roll_sums, client, midnight),
            [*((_ORGANIZATIONS, *one) for one in hours), *((_DAYS, *one) for one in days)],
        )


def _replace(client: Client, roll: Callable[[], None], ranges: list[tuple[_Level, str, int, int]]) -> None:
    wrong = [
        (level, row) for level, org, start_s, end_s in ranges for row in _wrong(client, level, org, start_s, end_s)
    ]
    roll()
    for level, row in wrong:
        client.command(level.delete(), parameters=row, settings=SYNC)
    if wrong:
        roll()


def _wrong(client: Client, level: _Level, org: str, start_s: int, end_s: int) -> list[dict[str, Any]]:
    """The rows with a version that is higher than that of the right sum; what stands is asked first, so that it can
    only be older."""
    parameters = {"org": org, "start": start_s, "end": end_s}
    standing = client.query(level.standing(), parameters=parameters).result_rows
    right = {
        (at, *names): int(version)
        for at, version, *names in client.query(level.right(), parameters=parameters).result_rows
    }
    return [
        {"org": org, "at": at, "version": version, **dict(zip(level.names, names, strict=True))}
        for at, version, *names in standing
        if int(version) > right.get((at, *names), -1)
    ]
