"""How fresh history is: up to which log time ClickHouse holds an account's usage, and how long that took."""

from clickhouse.queries import reached
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import STATE

from .parts import Parts


async def history_reached(parts: Parts, account_id: str) -> tuple[int, int]:
    """(as of, in UTC epoch ms; how many ms after that it was visible). Raises ProblemError."""
    topic = parts.system.topic(STATE)
    found = await parts.history.ask(reached, topic, partition_of(account_id, parts.partitions))
    if found is None:
        return 0, 0
    log_ms, shown_ms = found
    return log_ms, max(0, shown_ms - log_ms)
