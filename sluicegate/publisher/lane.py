"""One partition's way to Kafka: strictly in the order of its sequences, one envelope at a time."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sluicegate_schemas.envelope import WireEvent

from .batcher import Batcher, Envelope, Identity
from .control import CONTROLS_MAX, Control
from .event import DECODE_EVENT
from .notices import Notices
from .room import Room
from .settings import PublisherSettings
from .spool import Spool, SpoolQueue
from .transport import Transport


@dataclass(frozen=True, slots=True)
class Position:
    """Where an event went: its envelope and its place in it. Sequences count for each partition."""

    partition: int
    producer_id: str
    producer_epoch: int
    sequence: int
    index: int


Tap = Callable[[WireEvent, Position], None]


@dataclass(slots=True, kw_only=True)
class Clock:
    """Milliseconds that never go back, and UTC epoch milliseconds."""

    monotonic_ms: Callable[[], float]
    epoch_ms: Callable[[], int]


@dataclass(slots=True, kw_only=True)
class Common:
    """What the lanes of a publisher share."""

    settings: PublisherSettings
    identity: Identity
    room: Room
    transport: Transport
    clock: Clock
    notices: Notices
    spool: Spool | None
    tap: Tap | None
    progressed: Callable[[int], None]
    """Called with the number of events that left memory."""
    connected: bool = False


class Lane:
    """Seals and sends one partition's envelopes.

    The next envelope is sent when the one before is acknowledged, so whatever happens to a send, a later sequence never
    reaches the log before an earlier one. Order from old to new: queues of dead processes, the own queue on disk,
    ``_sealed`` in memory, the batcher. ``_order`` is held wherever an envelope moves from one of them to another.
    A control record goes out when the events that were there before it are in the log; later ones may come first.
    """

    def __init__(self, common: Common, partition: int) -> None:
        self._common = common
        self._room = common.room
        self.partition = partition
        self.batcher = Batcher(common.settings, partition, common.clock.monotonic_ms())
        self._adopted: deque[SpoolQueue] = deque()
        self._own: SpoolQueue | None = None
        self._sealed: deque[Envelope] = deque()
        self._head: Envelope | None = None
        self._controls: deque[Control] = deque()
        self._passed = 0
        self._order = asyncio.Lock()
        self._wake = asyncio.Event()
        self._flushing = False

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self.busy and not len(self.batcher) and not self._controls

    @property
    def busy(self) -> bool:
        """Something is under way, so that a new event has to wait."""
        return self._head is not None or bool(self._sealed) or self._disk() is not None

    @property
    def oldest_ms(self) -> float | None:
        """When the oldest event that is in memory alone arrived."""
        head, sealed = self._head, list(self._sealed)
        if head is not None and head.source is None:
            return head.oldest_ms
        return sealed[0].oldest_ms if sealed else self.batcher.oldest_ms

    def wake(self) -> None:
        """Makes ``run`` look again. On the event loop only."""
        self._wake.set()

    def flush(self) -> None:
        """From now on nothing lingers."""
        self._flushing = True
        self._wake.set()

    def control(self, key: bytes, value: bytes) -> Control | None:
        """Takes a control record; None where too many wait. With the room's lock held; ``wake`` has to follow."""
        if len(self._controls) >= CONTROLS_MAX:
            return None
        control = Control(key, value, self.batcher.added)
        self._controls.append(control)
        return control

    def adopt(self, queue: SpoolQueue) -> None:
        """Sends what a dead process left in ``queue`` before anything newer."""
        self._adopted.append(queue)
        self._wake.set()

    async def run(self) -> None:
        """Sends for ever. An unforeseen error is noted and tried again: metering must outlive it."""
        while True:
            try:
                await self._step()
            except Exception as error:
                self._common.notices.warn("lane", f"partition {self.partition}: {error!r}; trying again")
                await asyncio.sleep(self._common.settings.retry_ms_max / 1000)

    async def _step(self) -> None:
        if self._head is None:
            await self._until_due()
            if (control := self._due_control()) is not None:
                await self._send(self.partition, control.key, control.value)
                self._controls.popleft()
                control.is_sent = True
                self._common.progressed(0)
                return
            async with self._order:
                self._head = await self._next()
            if self._head is None:
                return
        head = self._head
        await self._send(head.partition, head.key, head.value)
        async with self._order:
            self._head = None
            with self._room.lock:
                self._room.acknowledged(head)
            if head.source is None or head.source is self._own:
                self._passed += head.events
            if head.source is not None:
                head.source.pop()
        self._common.progressed(head.events)

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            if self._sealed or self._disk() is not None or self._due_control() is not None:
                return
            with self._room.lock:
                wait_ms = self.batcher.due_in_ms(self._common.clock.monotonic_ms())
            if wait_ms is not None and (self._flushing or wait_ms <= 0):
                return
            timer = None
            if wait_ms is not None:
                timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _due_control(self) -> Control | None:
        """The oldest control record, if all events before it are in the log, or lost for good."""
        return self._controls[0] if self._controls and self._controls[0].after <= self._passed else None

    async def _next(self) -> Envelope | None:
        while (queue := self._disk()) is not None:
            found, damaged_events = await asyncio.to_thread(queue.peek)
            if damaged_events:
                self._passed += damaged_events if queue is self._own else 0
                with self._room.lock:
                    self._room.damaged(damaged_events)
                self._common.progressed(0)
            if found is not None:
                return found
        if self._sealed:
            return self._sealed.popleft()
        return self._seal() if len(self.batcher) else None

    def _disk(self) -> SpoolQueue | None:
        """The oldest queue on disk that holds something."""
        while self._adopted:
            if len(self._adopted[0]):
                return self._adopted[0]
            self._adopted.popleft().close()
        return self._own if self._own is not None and len(self._own) else None

    def _seal(self) -> Envelope:
        common = self._common
        with self._room.lock:
            taken = self.batcher.take(common.clock.monotonic_ms())
        envelope = self.batcher.seal(taken, common.identity, common.clock.epoch_ms())
        with self._room.lock:
            self._room.sealed(envelope)
        if common.tap is not None:
            name = common.identity
            for index, event in enumerate(taken):
                try:
                    common.tap(
                        DECODE_EVENT(event.data),
                        Position(self.partition, name.producer_id, name.producer_epoch, envelope.sequence, index),
                    )
                except Exception as error:
                    common.notices.warn("tap", f"the tap raised {error!r}; the event goes out all the same")
        return envelope

    async def _send(self, partition: int, key: bytes, value: bytes) -> None:
        common = self._common
        wait_ms: float = common.settings.retry_ms_min
        while True:
            try:
                await common.transport.send(partition, key, value)
            except Exception as error:
                common.connected = False
                with self._room.lock:
                    self._room.retries += 1
                common.notices.warn("send", f"{error}; the record is kept and sent again")
            else:
                common.connected = True
                return
            await asyncio.sleep(wait_ms / 1000 * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            wait_ms = min(wait_ms * 2, common.settings.retry_ms_max)

    async def spool(self, spool: Spool, older_than_ms: float, *, everything: bool = False) -> None:
        """Writes to disk what is in memory alone and arrived before ``older_than_ms``, oldest first.

        Events are given a sequence only as far as the disk has room; the rest goes on waiting. Without ``everything``
        nothing is written while the way is free.
        """
        oldest_ms = self.oldest_ms
        if oldest_ms is None or oldest_ms > older_than_ms or not (self.busy or everything):
            return
        async with self._order:
            while (oldest := self.batcher.oldest_ms) is not None and oldest <= older_than_ms and spool.has_room:
                self._sealed.append(self._seal())
                if len(self._sealed) >= _ENVELOPES_A_WRITE:
                    await self._write(spool)
            await self._write(spool)

    async def _write(self, spool: Spool) -> None:
        batch = list(self._sealed)
        if self._head is not None and self._head.source is None:
            batch.insert(0, self._head)
        if not batch:
            return
        if self._own is None:
            self._own = await asyncio.to_thread(spool.own, self.partition)
        written = await asyncio.to_thread(self._own.append, batch)
        for envelope in batch[:written]:
            envelope.source = self._own
            if envelope is not self._head:
                self._sealed.popleft()
            with self._room.lock:
                self._room.written(envelope)
        self._common.progressed(sum(envelope.events for envelope in batch[:written]))

    async def sync(self) -> None:
        """Forces what was written to the device."""
        if self._own is not None:
            async with self._order:
                await asyncio.to_thread(self._own.sync)


_ENVELOPES_A_WRITE = 16
