"""Looks after the compacted outputs of one partition: what a former owner wrote and the state does not know is
contradicted."""

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
from .publishing import COMPARED

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
        self._unread: dict[str, list[Range]] = {topic: [] for topic in TOPICS}

    async def begin(self, since: Sequence[int]) -> None:
        """Before anything is sent; ``since`` is the recovered header's ``outputs_next``. Raises KafkaError."""
        bounds = {topic: await self._broker.bounds(self._settings.topic(topic), self._partition) for topic in TOPICS}
        for topic, known in zip(COMPARED, since, strict=False):
            start, end = bounds[topic]
            if known != end and start < end:
                self._unread[topic].append((max(start, known if known < end else start), end))
        self._fence = OutputFence({topic: end for topic, (_, end) in bounds.items()})

    def compared(self) -> list[int]:
        """A header's ``outputs_next`` as of now; after ``begin``."""
        return [
            min([self._fence.next_offset(topic), *(start for start, _ in self._unread[topic])]) for topic in COMPARED
        ]

    def sent(self, topic: str) -> None:
        """A record is on its way."""
        self._fence.sent(topic)

    def acknowledged(self, topic: str, offset: int) -> Coroutine[Any, Any, None] | None:
        """The broker has it; returns what is to be awaited then, if anything."""
        return self._foreign(topic, self._fence.acknowledged(topic, offset))

    async def run(self) -> None:
        """Reads what the last owner wrote after its last flush, then looks at the ends of the quiet topics, until
        cancelled."""
        for topic, unread in self._unread.items():
            for before in list(unread):
                await self._compare(topic, before)
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with suppress(KafkaError, OSError):
                for topic in self._fence.quiet():
                    late = self._foreign(topic, self._fence.end_seen(topic, await self._end(topic)))
                    if late is not None:
                        await late

    async def _end(self, topic: str) -> int:
        return await self._broker.end(self._settings.topic(topic), self._partition)

    def _foreign(self, topic: str, where: Range | None) -> Coroutine[Any, Any, None] | None:
        if where is None:
            return None
        self._unread[topic].append(where)  # now, not when somebody gets to it: a flush may come first
        return self._late(topic, where)

    async def _late(self, topic: str, where: Range) -> None:
        if count := await self._compare(topic, where):
            log.warning(
                "partition %d: %d records of a former owner came late to %s; what is true is said again",
                self._partition, count, topic,
            )  # fmt: skip

    async def _compare(self, topic: str, where: Range) -> int:
        while True:
            try:
                found = await self._read(topic, where)
            except (KafkaError, OSError):
                await asyncio.sleep(LOOK_EVERY_S)  # nobody looks at this range again, so it has to be read
            else:
                break
        self._unread[topic].remove(where)
        if found:
            self._found(found)
        return len(found)

    async def _read(self, topic: str, where: Range) -> list[ForeignRecord]:
        epoch = self._epoch()
        found: dict[bytes, ForeignRecord] = {}

        def take(run: Iterable[ConsumerRecord]) -> None:
            for record in run:
                if record.key is None or record.value is None:
                    continue
                with suppress(msgspec.MsgspecError, RecursionError):
                    if _DECODE(record.value).sequence.epoch < epoch:
                        found[record.key] = (topic, record.key, record.value)

        await self._broker.read(self._settings.topic(topic), self._partition, *where, take)
        return list(found.values())
