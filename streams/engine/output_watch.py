"""Looks after the compacted outputs of one partition: what a former owner wrote there late is contradicted."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from sluicegate_schemas.topics import BALANCES, DECISIONS, ENTITLEMENTS

from ..settings import Settings
from .broker import Broker
from .machine import ForeignRecord
from .output_fence import OutputFence, Range

log = logging.getLogger(__name__)

TOPICS: Final = (DECISIONS.name, BALANCES.name, ENTITLEMENTS.name)
LOOK_EVERY_S: Final = 5.0


class _Sequence(msgspec.Struct):
    epoch: int


class _Sequenced(msgspec.Struct):
    sequence: _Sequence


_DECODE: Final = msgspec.json.Decoder(_Sequenced).decode


class OutputWatch:
    """See the module. ``epoch`` is asked when something foreign is found, ``found`` is told of it."""

    def __init__(
        self,
        partition: int,
        broker: Broker,
        settings: Settings,
        *,
        epoch: Callable[[], int],
        found: Callable[[Sequence[ForeignRecord]], None],
    ) -> None:
        self._partition = partition
        self._broker = broker
        self._settings = settings
        self._epoch = epoch
        self._found = found
        self._fence = OutputFence({})

    async def begin(self) -> None:
        """Before anything is sent. Raises KafkaError."""
        self._fence = OutputFence({topic: await self._end(topic) for topic in TOPICS})

    def sent(self, topic: str) -> None:
        """A record is on its way."""
        self._fence.sent(topic)

    def acknowledged(self, topic: str, offset: int) -> Coroutine[Any, Any, None] | None:
        """The broker has it; returns what is to be awaited then, if anything."""
        foreign = self._fence.acknowledged(topic, offset)
        return None if foreign is None else self._contradict(topic, foreign)

    async def run(self) -> None:
        """Looks at the ends of the quiet topics, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with suppress(KafkaError, OSError):
                for topic in self._fence.quiet():
                    foreign = self._fence.end_seen(topic, await self._end(topic))
                    if foreign is not None:
                        await self._contradict(topic, foreign)

    async def _end(self, topic: str) -> int:
        return await self._broker.end(self._settings.topic(topic), self._partition)

    async def _contradict(self, topic: str, foreign: Range) -> None:
        while True:
            try:
                late = await self._late(topic, foreign)
            except (KafkaError, OSError):
                await asyncio.sleep(LOOK_EVERY_S)  # nobody looks at this range again, so it has to be read
            else:
                break
        if late:
            log.warning(
                "partition %d: %d records of a former owner came late to %s; what is true is said again",
                self._partition, len(late), topic,
            )  # fmt: skip
            self._found(late)

    async def _late(self, topic: str, foreign: Range) -> list[ForeignRecord]:
        epoch = self._epoch()
        late: dict[bytes, ForeignRecord] = {}

        def take(run: Iterable[ConsumerRecord]) -> None:
            for record in run:
                if record.key is None or record.value is None:
                    continue
                with suppress(msgspec.MsgspecError, RecursionError):
                    if _DECODE(record.value).sequence.epoch < epoch:
                        late[record.key] = (topic, record.key, record.value)

        await self._broker.read(self._settings.topic(topic), self._partition, *foreign, take)
        return list(late.values())
