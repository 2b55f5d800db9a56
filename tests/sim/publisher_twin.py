"""Twin of the SDK's publisher: events in envelopes, control records behind the events that came before them.

Like the real one's lanes it sends one record at a time and never out of order; its lanes are one. What it has not sent
is lost with its process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Unpack

from sluicegate.publisher import Control, EventFields
from sluicegate.publisher.batcher import Batcher, Identity, Waiting
from sluicegate.publisher.event import encode_event
from sluicegate.publisher.settings import PublisherSettings
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import USAGE

from .client import KafkaClient
from .log import NewRecord
from .world import World

_SETTINGS = PublisherSettings(node="gateway")


class SimPublisher:
    """The publisher of one process."""

    def __init__(self, world: World, identity: Identity, clock: Callable[[], int]) -> None:
        self._world = world
        self._identity = identity
        self._clock = clock
        self._waiting: deque[tuple[int, Waiting | Control]] = deque()
        """What is not on its way yet, with its partition."""
        self._under_way: deque[tuple[int, NewRecord, Control | None]] = deque()
        self._batchers: dict[int, Batcher] = {}
        self._arrived = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """All that it took is in the log."""
        return not self._waiting and not self._under_way

    def lose_all(self) -> None:
        """Its process died."""
        self._waiting.clear()
        self._under_way.clear()

    def publish(self, **fields: Unpack[EventFields]) -> bool:
        """See ``Publisher.publish``."""
        account, data = encode_event(fields)
        self._take(account, Waiting(account, data, 0.0))
        return True

    def send_control(self, account_id: str, value: bytes) -> Control | None:
        """See ``Publisher.send_control``."""
        control = Control(account_id.encode(), value, 0)
        self._take(account_id, control)
        return control

    def _take(self, account: str, one: Waiting | Control) -> None:
        self._waiting.append((partition_of(account, self._world.partitions), one))
        self._arrived.set()

    async def run(self) -> None:
        """Sends what it takes, until Kafka has it."""
        client = KafkaClient()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                self._seal()
                while self._under_way:
                    home, record, control = self._under_way[0]
                    await client.append(self._world.prefix + USAGE.name, home, [record])
                    self._under_way.popleft()
                    if control is not None:
                        control.is_sent = True

    def _seal(self) -> None:
        """All that came before the next control record, in an envelope a partition; else that record."""
        home, first = self._waiting[0]
        if isinstance(first, Control):
            self._waiting.popleft()
            self._under_way.append((home, NewRecord(first.key, first.value), first))
            return
        touched: dict[int, Batcher] = {}
        while self._waiting and isinstance(one := self._waiting[0][1], Waiting):
            home, _ = self._waiting.popleft()
            touched[home] = self._batchers.setdefault(home, Batcher(_SETTINGS, home, 0.0))
            touched[home].add(one)
        for home, batcher in touched.items():
            envelope = batcher.seal(batcher.take(0.0), self._identity, self._clock())
            self._under_way.append((home, NewRecord(envelope.key, envelope.value), None))
