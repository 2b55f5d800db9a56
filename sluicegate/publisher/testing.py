"""Kafka's place in a service's tests: a log in memory that fails on demand.

::

    kafka = MemoryTransport(partitions=8)
    publisher = Publisher(PublisherSettings(node="test"), transport=kafka)
    ...
    await publisher.close()
    assert [event.operation for event in kafka.counted()] == ["search.knn"]
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from sluicegate_schemas.decode import UsageContent, decode_usage
from sluicegate_schemas.envelope import WireEnvelope, WireEvent

from .transport import TransportError

Fault = Literal["none", "lost", "unconfirmed", "late"]
"""What becomes of a send: it arrives; it is lost; it arrives without a confirmation; it is not confirmed and arrives
when the next one of any partition does."""


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """One record of the log."""

    partition: int
    key: bytes | None
    value: bytes

    @property
    def envelope(self) -> WireEnvelope:
        """What the publisher put into it, where that is events."""
        assert isinstance(self.content, WireEnvelope), "a record of events"
        return self.content

    @property
    def content(self) -> UsageContent:
        """What the publisher put into it."""
        return decode_usage(self.value)


class MemoryTransport:
    """A ``Transport`` whose topic is ``log``.

    Set ``away`` to make Kafka unreachable; put what shall happen to the next sends into ``faults``.
    """

    def __init__(self, partitions: int = 4) -> None:
        self.log: list[MemoryRecord] = []
        self.faults: deque[Fault] = deque()
        self.away = False
        self.closed = False
        self._partitions = partitions
        self._late: list[MemoryRecord] = []

    async def partitions(self) -> int:
        """See ``Transport``."""
        await asyncio.sleep(0)
        if self.away:
            raise TransportError("Kafka is away")
        return self._partitions

    async def send(self, partition: int, key: bytes | None, value: bytes) -> None:
        """See ``Transport``."""
        await asyncio.sleep(0)
        record = MemoryRecord(partition, key, value)
        fault: Fault = "lost" if self.away else self.faults.popleft() if self.faults else "none"
        if fault == "none":
            self.log += [*self._late, record]
            self._late.clear()
            return
        if fault == "unconfirmed":
            self.log.append(record)
        elif fault == "late":
            self._late.append(record)
        raise TransportError(f"the record was not confirmed ({fault})")

    async def close(self) -> None:
        """See ``Transport``."""
        self.closed = True

    def counted(self) -> list[WireEvent]:
        """The events that a worker counts, in the order of the log: an envelope counts where its sequence is higher
        than all before of its producer, epoch and partition."""
        highest: dict[tuple[int, str, int], int] = {}
        events: list[WireEvent] = []
        for record in self.log:
            envelope = record.content
            if not isinstance(envelope, WireEnvelope):
                continue
            origin = (record.partition, envelope.producer_id, envelope.producer_epoch)
            if envelope.sequence > highest.get(origin, 0):
                highest[origin] = envelope.sequence
                events += envelope.events
        return events
