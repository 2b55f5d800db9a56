"""Where the logs end that a process works on, asked of the broker once a second, and how long it has been behind them.

The ends that come with fetched records say nothing once fetching is stuck, so they are asked for on a connection of
their own. That the broker answers here is also what tells a partition that is stuck from a broker that is away.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Collection
from operator import itemgetter
from time import monotonic
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from sluicegate.brokers import Brokers
from sluicegate.consumers import is_cancelled, stop_consumer

log = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
ANSWER_LIMIT_S: Final = 10.0
SILENT_AFTER_S: Final = 5.0
_MARKS_MAX: Final = 512


class End:
    """The end of one partition, and when each end was first seen, so that a position in it has an age."""

    def __init__(self) -> None:
        self.offset = -1
        self._marks: list[tuple[int, float]] = []

    def seen(self, offset: int, now: float) -> None:
        """The log ends at ``offset``."""
        if offset > self.offset:
            if len(self._marks) >= _MARKS_MAX:  # far behind: half as fine will do
                self._marks = self._marks[1::2]
            self._marks.append((offset, now))
        self.offset = offset

    def behind_since(self, next_offset: int) -> float | None:
        """Since when the log has had a record at or behind ``next_offset``, as far as was seen; None if it has none."""
        if self.offset <= next_offset:
            return None
        marks = list(self._marks)
        return marks[min(bisect_right(marks, next_offset, key=itemgetter(0)), len(marks) - 1)][1]


class LogEnds:
    """Asks for the ends of ``wanted()`` until cancelled. What is no longer wanted is forgotten."""

    def __init__(self, brokers: Brokers, wanted: Callable[[], Collection[TopicPartition]]) -> None:
        self._brokers = brokers
        self._wanted = wanted
        self._ends: dict[TopicPartition, End] = {}
        self.answered_at: float | None = None
        """When the broker last answered (monotonic seconds)."""

    def of(self, topic: str, partition: int) -> End | None:
        """The end of one partition; None before it was answered."""
        return self._ends.get(TopicPartition(topic, partition))

    def is_silent(self, now: float) -> bool:
        """The broker has not answered lately."""
        return self.answered_at is None or now - self.answered_at > SILENT_AFTER_S

    async def run(self) -> None:
        """Asks once a second; a broker that is away is asked again."""
        while True:
            consumer = AIOKafkaConsumer(**self._brokers.options(), enable_auto_commit=False)
            try:
                await consumer.start()
                while True:
                    await self.ask(consumer)
                    await asyncio.sleep(INTERVAL_S)
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("the ends of the logs cannot be asked for: %s", error)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
            finally:
                await stop_consumer(consumer)
            await asyncio.sleep(INTERVAL_S)

    async def ask(self, consumer: AIOKafkaConsumer) -> None:
        """Asks once. Raises KafkaError, TimeoutError."""
        wanted = list(self._wanted())
        async with asyncio.timeout(ANSWER_LIMIT_S):
            found = await consumer.end_offsets(wanted) if wanted else {}
        now = monotonic()
        ends = {tp: self._ends.get(tp) or End() for tp in found}
        for tp, offset in found.items():
            ends[tp].seen(offset, now)
        self._ends = ends
        if wanted:
            self.answered_at = now
