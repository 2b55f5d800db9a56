"""A plain Kafka client for the simulator's own processes: gateways, the sink's twin, followers."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError

from .kafka_twin import FETCH_WAIT_S, FETCHED_RECORDS_MAX, RETRY_S
from .log import Fetched, NewRecord
from .network import REQUEST_TIMEOUT_S, connect


class KafkaClient:
    """Made in a process, it speaks over that process's connection. All it is asked for it tries until it is answered.

    Topics are full names. Nothing is appended twice: the client has a producer id, and retries keep their sequence.
    """

    def __init__(self) -> None:
        self._connection = connect()
        self._id = 0
        self._sequences: dict[tuple[str, int], int] = {}

    async def append(self, topic: str, partition: int, records: Sequence[NewRecord]) -> int:
        """Appends one batch; returns its first offset. One call at a time for a partition."""
        if not self._id:
            self._id = await self._try(self._connection.broker.new_producer_id)
        first = self._sequences.get((topic, partition), 0)
        self._sequences[topic, partition] = first + len(records)
        produce = partial(self._connection.broker.produce, topic, partition, list(records), self._id, first)
        base, _ = await self._try(produce)
        return int(base)

    async def fetch(
        self,
        positions: dict[tuple[str, int], int],
        records_max: int = FETCHED_RECORDS_MAX,
        wait_s: float = FETCH_WAIT_S,
    ) -> dict[tuple[str, int], Fetched]:
        """What stands in each partition from its position on; waits up to ``wait_s`` while there is nothing."""
        fetch = partial(self._connection.broker.fetch, dict(positions), records_max, wait_s)
        found: dict[tuple[str, int], Fetched] = await self._try(fetch, wait_s + REQUEST_TIMEOUT_S)
        return found

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(first offset, end)."""
        broker = self._connection.broker
        start = await self._try(partial(broker.start, topic, partition))
        return start, await self._try(partial(broker.end, topic, partition))

    async def end(self, topic: str, partition: int) -> int:
        """The offset that comes next."""
        return int(await self._try(partial(self._connection.broker.end, topic, partition)))

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """All that the group has committed."""
        found: dict[tuple[str, int], int] = await self._try(lambda: dict(self._connection.group(group).committed))
        return found

    async def commit(self, group: str, offsets: Iterable[tuple[tuple[str, int], int]]) -> None:
        """Commits for a group without members."""
        new = dict(offsets)
        await self._try(lambda: self._connection.group(group).committed.update(new))

    async def _try(self, operation: Callable[[], Any], timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        while True:
            try:
                return await self._connection.request(operation, timeout_s)
            except KafkaError as error:
                if not error.retriable or self._connection.is_over:
                    raise
            await asyncio.sleep(RETRY_S)
