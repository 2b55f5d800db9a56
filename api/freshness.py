"""How fresh answers are: up to which log time balances, or ClickHouse, hold an account's usage, and how long that
took."""

from typing import Any

from clickhouse.queries import reached
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import STATE

from .balances import Held
from .parts import Parts


async def history_reached(parts: Parts, account_id: str) -> tuple[int, int]:
    """(as of, in UTC epoch ms; how many ms after that it was visible). Raises ProblemError."""
    topic = parts.system.topic(STATE)
    found = await parts.history.ask(reached, topic, partition_of(account_id, parts.partitions))
    if found is None:
        return 0, 0
    log_ms, shown_ms = found
    return log_ms, max(0, shown_ms - log_ms)


def balances_reached(parts: Parts, held: Held | None) -> dict[str, Any]:
    """``as_of``, ``lag_ms`` and ``final`` of what is answered from a balance; without one, of nothing used so far."""
    stale_ms = parts.balances_from.staleness_ms or 0
    if held is None:
        return {"as_of": from_epoch_ms(parts.clock() - stale_ms), "lag_ms": stale_ms, "final": False}
    return {"as_of": held.balance.as_of, "lag_ms": held.lag_ms + stale_ms, "final": held.balance.final}
