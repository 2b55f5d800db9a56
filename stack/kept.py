"""What must still be there of a data folder's earlier runs, so that a check over all of them can be exact."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Final

from sluicegate_schemas.bounds import CLOCK_BEHIND_MS_MAX
from sluicegate_schemas.topics import DECISIONS, PREFIX_DEFAULT, REJECTS, TOPICS, USAGE, Topic
from stack.errors import StackError
from stack.topic_log import first_offsets

_FOREVER: Final = {
    USAGE.name: {"retention.ms": "-1"},
    REJECTS.name: {"retention.ms": "-1"},
    DECISIONS.name: {"min.compaction.lag.ms": str(2**63 - 1)},
}
TOPICS_KEPT: Final[tuple[Topic, ...]] = tuple(
    replace(topic, settings={**topic.settings, **_FOREVER.get(topic.name, {})}) for topic in TOPICS
)
"""The topics as the launcher makes them: nothing of which the check needs every record ever goes."""

CLICKHOUSE_DAYS: Final = 45
"""How long ClickHouse keeps minutes (``clickhouse/migrations/001_usage.sql``)."""
AGE_MAX: Final = timedelta(days=CLICKHOUSE_DAYS - 1) - timedelta(milliseconds=CLOCK_BEHIND_MS_MAX)
"""How old the first usage may be: an event may lie ``CLOCK_BEHIND_MS_MAX`` before it was logged."""


async def require_whole(bootstrap: str, prefix: str = PREFIX_DEFAULT, *, now_ms: int | None = None) -> None:
    """Whether all that was ever logged can still be compared; ``now_ms`` is the clock's time where none is given.

    :raises StackError: it cannot; a check would blame the system for what was removed by plan.
    """
    for topic in (USAGE, REJECTS):
        if any((await first_offsets(bootstrap, prefix + topic.name)).values()):
            raise StackError(
                f"The log {prefix}{topic.name} of this data folder no longer begins at its first record, so its totals "
                "cannot be checked",
                kept="All data was kept",
                next_step="Use a fresh data folder with --for, or run without it",
            )
    since_ms = (time.time_ns() // 1_000_000 if now_ms is None else now_ms) - int(AGE_MAX.total_seconds() * 1000)
    if any((await first_offsets(bootstrap, prefix + USAGE.name, since_ms)).values()):
        raise StackError(
            f"The usage in this data folder is older than {AGE_MAX.days} days, and ClickHouse keeps minutes for "
            f"{CLICKHOUSE_DAYS}, so its totals cannot be checked",
            kept="All data was kept",
            next_step="Use a fresh data folder with --for, or run without it",
        )
