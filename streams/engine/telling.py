"""Tells what is current of one partition (``Machine.take_current``), by the clock.

So a worker that has much to catch up with tells no more than another one, and what it tells is the newest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import groupby
from time import monotonic
from typing import Any, Final

from sluicegate_schemas.state import OutboxRecord

from ..settings import Settings
from .broker import Broker
from .core import PartitionCore
from .figures import Figures
from .output_watch import OutputWatch
from .phase import Phase

_AT_ONCE_MAX: Final = 1_000
_PAUSE_S: Final = 0.0005
"""How long each record that was told lets the next ones wait: a partition tells no more than 2,000 a second."""

_STEP_S: Final = 0.001
"""A wait that any clock can tell from none."""


def until_turn_s(now_s: float, least_s: float, pause_s: float) -> float:
    """How long to wait at ``now_s``: at least ``pause_s``, and until a multiple of ``least_s``, so that all partitions
    tell together, in one request to the broker, and who reads is woken once."""
    return max(_STEP_S, pause_s + least_s - (now_s + pause_s) % least_s)


class Telling:
    """See the module. ``may_send`` is awaited before anything goes out, ``spawn`` takes what follows from a reply."""

    def __init__(
        self,
        core: PartitionCore,
        broker: Broker,
        settings: Settings,
        watch: OutputWatch,
        figures: Figures,
        may_send: Callable[[], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._core: Final = core
        self._broker: Final = broker
        self._settings: Final = settings
        self._watch: Final = watch
        self._figures: Final = figures
        self._may_send: Final = may_send
        self._spawn: Final = spawn

    async def run(self) -> None:
        """Tells until it is cancelled: the next records once the last ones stand. Raises KafkaError."""
        least_s, told = self._settings.balance_interval_ms / 1000, 0
        while True:
            await asyncio.sleep(until_turn_s(monotonic(), least_s, told * _PAUSE_S))
            await self._may_send()
            running = self._core.phase is Phase.RUNNING
            records = self._core.machine.take_current(_AT_ONCE_MAX, int(monotonic() * 1000)) if running else []
            told = len(records)
            for topic, same in groupby(records, lambda record: record.topic):
                await self._send(topic, list(same))

    async def _send(self, topic: str, records: Sequence[OutboxRecord]) -> None:
        began_at = monotonic()
        for _ in records:
            self._watch.sent(topic)
        for offset in await self._broker.send_together(self._settings.topic(topic), self._core.partition, records):
            if (contradiction := self._watch.acknowledged(topic, offset)) is not None:
                self._spawn(contradiction)
        self._figures.published[topic] += len(records)
        self._figures.publish[topic].observe(monotonic() - began_at)
