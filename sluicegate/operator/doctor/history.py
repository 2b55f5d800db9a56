"""Looks at ClickHouse: it answers, and its tables are those of this release."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from ...errors import ClickHouseError
from .finding import Finding, broken, warning, well

SCHEMA_VERSION: Final = 11
"""The newest migration of this release."""
_MIGRATE: Final = "python -m clickhouse.migrate"
Select = Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
"""The rows that a statement selects. Raises ClickHouseError."""


async def check_clickhouse(url: str, select: Select) -> list[Finding]:
    """Reachable, and at which migration."""
    try:
        version = str((await select("SELECT version() AS version"))[0].get("version", "?"))
    except (ClickHouseError, IndexError) as error:
        remedy = "decisions do not wait for it; start it, and see SLUICEGATE_CLICKHOUSE_URL, _USER and _PASSWORD"
        return [broken("clickhouse", f"{url} {error}", remedy)]
    found = well("clickhouse", f"{url} answers, version {version}")
    try:
        rows = await select("SELECT max(number) AS number FROM schema_migration FINAL")
        number = int(rows[0]["number"])
    except (ClickHouseError, LookupError, TypeError, ValueError) as error:
        return [found, broken("schema", f"the tables cannot be seen: {error}", f"run {_MIGRATE}")]
    return [found, judge(number)]


def judge(number: int) -> Finding:
    """What the newest applied migration means."""
    if number == SCHEMA_VERSION:
        return well("schema", f"version {number}, this release's")
    if number < SCHEMA_VERSION:
        return broken("schema", f"version {number}, this release's is {SCHEMA_VERSION}", f"run {_MIGRATE}")
    return warning(
        "schema",
        f"version {number}, newer than this release's {SCHEMA_VERSION}",
        "use the newest release of this command",
    )
