"""What an API service calls: ``publish`` takes an event and never blocks, ``close`` sends what is left."""

import asyncio
import contextlib
import random
import secrets
import threading
from collections import deque
from itertools import islice
from time import monotonic
from typing import Final, Self, Unpack

from sluicegate_schemas.partitioning import partition_of

from ..clock import epoch_ms
from .batcher import Identity, Waiting
from .control import Control
from .event import EventFields, OnRefused, Refusal, encode_event
from .forks import renew_in_children
from .kafka import kafka_of
from .lane import Clock, Common, Lane, Tap
from .notices import Notices
from .room import Room
from .settings import PublisherSettings
from .spool import Spool
from .spooling import keep_spool
from .stats import PublisherStats
from .transport import Transport

_PLACED_AT_ONCE: Final = 500
_DISK_SECONDS: Final = 10.0


class Publisher:
    """Sends usage events to Kafka, in envelopes, from one event loop.

    ``publish`` may be called in any thread, before ``start`` too: events then wait in the bounded buffer. It never
    waits, and raises nothing: an event that cannot be taken is counted in ``stats()`` and said in the log, at most once
    a minute for each kind. A forked child starts with an empty buffer and a new producer id, and has to call ``start``
    itself; what was waiting is its parent's to send.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        *,
        transport: Transport | None = None,
        on_refused: OnRefused | None = None,
        tap: Tap | None = None,
    ) -> None:
        """``transport`` replaces Kafka (see ``sluicegate.publisher.testing``).

        ``on_refused`` is called in the publishing thread with each event that no worker would accept. ``tap`` is called
        on the event loop with each event that got its place in an envelope, before that is sent for the first time.
        """
        self.settings = settings
        self._given_transport = transport
        self._on_refused = on_refused
        self._tap = tap
        self._begin()
        renew_in_children(self)

    def _begin(self) -> None:
        settings = self.settings
        self._identity = Identity(secrets.token_hex(12))
        self._room = Room(settings.buffer_events_max, settings.buffer_bytes_max)
        self._notices = Notices(monotonic)
        self._unplaced: deque[Waiting] = deque()
        self._lanes: list[Lane] = []
        self._partitions = 0
        self._spool: Spool | None = None
        self._common: Common | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._spool_task: asyncio.Task[None] | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._settled: asyncio.Event | None = None
        self._stopping: asyncio.Event | None = None
        self._closed = False

    async def start(self) -> None:
        """Starts sending. Kafka need not be there: it is looked for in the background for as long as it takes.

        Raises OSError where the spool's directory cannot be used, RuntimeError where it was started or closed before.
        """
        if self._loop is not None or self._closed:
            raise RuntimeError("a publisher starts once; make a new one")
        settings = self.settings
        if settings.overflow == "spool" and settings.spool_directory is not None:
            self._spool = await asyncio.to_thread(
                Spool,
                settings.spool_directory,
                self._identity.producer_id,
                settings.spool_bytes_max,
                self._notices.warn,
            )
        self._common = Common(
            settings=settings,
            identity=self._identity,
            room=self._room,
            transport=self._given_transport or kafka_of(settings),
            clock=Clock(monotonic_ms=_monotonic_ms, epoch_ms=epoch_ms),
            notices=self._notices,
            spool=self._spool,
            tap=self._tap,
            progressed=self._progressed,
        )
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        if self._spool is not None:
            remembered = await asyncio.to_thread(self._spool.remembered_partitions)
            if remembered is not None:
                await self._open_lanes(remembered)
            self._spool_task = asyncio.create_task(
                keep_spool(self._common, self._spool, self._lanes, self._stopping, self._adopt)
            )
        self._tasks.append(asyncio.create_task(self._find_partitions(self._common.transport)))

    def publish(self, **fields: Unpack[EventFields]) -> bool:
        """Takes one usage event; True where it was taken, False where it was dropped or refused."""
        event = self._encoded(fields)
        if event is None:
            return False
        lane = None
        with self._room.lock:
            reason = self._admit(event)
            if reason is None:
                lane = self._place(event)
            else:
                self._room.dropped[reason] += 1
        if lane is not None:
            self._wake(lane)
        if reason is not None:
            self._notices.warn(reason, f"usage events are dropped: {reason}")
        return reason is None

    def send_control(self, account_id: str, value: bytes) -> Control | None:
        """Sends ``value``, a gauge or lease request, to the account's partition, behind all events of the account that
        were published before. In any thread; never waits.

        None where it is not taken: the topic's partitions are not known yet, too many wait (Kafka is away), or the
        publisher is closed. What it said is then to be said later, as it is by then.
        """
        with self._room.lock:
            if self._closed or not self._partitions:
                return None
            lane = self._lanes[partition_of(account_id, self._partitions)]
            control = lane.control(account_id.encode(), value)
        if control is not None:
            self._wake(lane)
        return control

    async def publish_wait(self, **fields: Unpack[EventFields]) -> bool:
        """The same as ``publish``, but waits for room instead of dropping; on the publisher's event loop only.

        False where the event was refused, or the publisher was closed meanwhile.
        """
        event = self._encoded(fields)
        if event is None:
            return False
        while True:
            lane = None
            with self._room.lock:
                reason = self._admit(event)
                if reason is None:
                    lane = self._place(event)
                elif self._closed:
                    self._room.dropped[reason] += 1
            if reason is None or self._closed:
                if lane is not None:
                    self._wake(lane)
                return reason is None
            room_made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(room_made)
            await room_made

    async def close(self, timeout_s: float = 10.0) -> PublisherStats:
        """Takes no more events, sends what is left, and returns the last ``stats()``.

        What Kafka has not acknowledged after ``timeout_s`` seconds goes to the spool, if there is one; the rest is
        counted in ``lost`` and said in the log. A second call does nothing.
        """
        with self._room.lock:
            was_closed, self._closed = self._closed, True
        common, settled, stopping = self._common, self._settled, self._stopping
        if common is None or settled is None or stopping is None:
            return self.close_unstarted()
        if was_closed:
            return self.stats()
        self._release_waiters(len(self._waiters))
        for lane in self._lanes:
            lane.flush()
        try:
            async with asyncio.timeout(timeout_s):
                while not self._is_settled():
                    settled.clear()
                    await settled.wait()
        except TimeoutError:
            pass
        finally:
            stopping.set()
            await self._stop(common)
        return self.stats()

    def close_unstarted(self) -> PublisherStats:
        """``close`` for a publisher that never started: what it holds is counted as lost."""
        with self._room.lock:
            self._closed = True
            self._room.give_up()
        return self.stats()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def stats(self) -> PublisherStats:
        """Where every event is. In any thread."""
        room, spool, common = self._room, self._spool, self._common
        with room.lock:
            oldest = [lane.oldest_ms for lane in self._lanes]
            oldest += [event.arrived_ms for event in islice(self._unplaced, 1)]
            return PublisherStats(
                accepted=room.accepted,
                recovered=room.recovered,
                published=room.published,
                buffered=room.buffered,
                in_flight=room.in_flight,
                spooled=room.spooled,
                dropped=dict(room.dropped),
                refused=room.refused,
                lost=dict(room.lost),
                retries=room.retries,
                envelopes=room.envelopes,
                oldest_ms=max((_monotonic_ms() - at for at in oldest if at is not None), default=0.0),
                spool_bytes=spool.budget.bytes_held if spool is not None else 0,
                spool_damaged_bytes=spool.budget.damaged_bytes if spool is not None else 0,
                connected=common is not None and common.connected,
                last_error=self._notices.last,
                producer_id=self._identity.producer_id,
            )

    def _encoded(self, fields: EventFields) -> Waiting | None:
        try:
            account_id, data = encode_event(fields)
        except Exception as error:
            # Whatever it is, the request that is being metered must not pay for it.
            with self._room.lock:
                self._room.refused += 1
            self._notices.warn("refused", f"a usage event was refused: {error}")
            self._say_refused(Refusal(str(error), dict(fields)))
            return None
        return Waiting(account_id, data, _monotonic_ms())

    def _say_refused(self, refusal: Refusal) -> None:
        if self._on_refused is not None:
            try:
                self._on_refused(refusal)
            except Exception as error:
                self._notices.warn("on_refused", f"on_refused raised {error!r}")

    def _admit(self, event: Waiting) -> str | None:
        """Why ``event`` is dropped, or None and it is counted in. With the room's lock held, like ``_place``."""
        if self._closed:
            return "closed"
        if self._room.admits(event.data):
            return None
        return "buffer_full" if self._spool is None or self._spool.has_room else "spool_full"

    def _place(self, event: Waiting) -> Lane | None:
        """Puts ``event`` into its lane, and returns the lane where that should look at it now."""
        if not self._partitions:
            self._unplaced.append(event)
            return None
        lane = self._lanes[partition_of(event.account_id, self._partitions)]
        return lane if lane.batcher.add(event) else None

    def _wake(self, lane: Lane) -> None:
        if threading.get_ident() == self._loop_thread:
            lane.wake()
        elif self._loop is not None:
            # A loop that was closed without close() takes nothing more; its events stay counted as buffered.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lane.wake)

    def _progressed(self, events: int) -> None:
        self._release_waiters(events)
        if self._settled is not None and self._closed:
            self._settled.set()

    def _release_waiters(self, count: int) -> None:
        for _ in range(min(count, len(self._waiters))):
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _is_settled(self) -> bool:
        return not self._unplaced and all(lane.idle for lane in self._lanes)

    async def _find_partitions(self, transport: Transport) -> None:
        """Asks until Kafka says how many partitions there are."""
        settings = self.settings
        wait_ms: float = settings.retry_ms_min
        while True:
            try:
                count = await transport.partitions()
            except Exception as error:
                self._notices.warn("partitions", f"{error}; usage events are kept and sent when Kafka is there")
            else:
                break
            await asyncio.sleep(wait_ms / 1000 * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            wait_ms = min(wait_ms * 2, settings.retry_ms_max)
        if self._common is not None:
            self._common.connected = True
        await self._open_lanes(count)
        if self._spool is not None:
            try:
                await asyncio.to_thread(self._spool.remember_partitions, count)
            except OSError as error:
                self._notices.warn("spool_write", f"the number of partitions cannot be written down: {error}")

    async def _open_lanes(self, count: int) -> None:
        """Makes the lanes, and places what waits: in its order, a few at a time, so that no ``publish`` has to wait."""
        assert self._common is not None, "started"
        if self._partitions and self._partitions != count:
            self._notices.warn("partitions", f"the topic has {count} partitions now, it had {self._partitions}")
        new = [Lane(self._common, partition) for partition in range(len(self._lanes), count)]
        self._lanes += new
        await self._adopt()
        while True:
            with self._room.lock:
                for _ in range(min(_PLACED_AT_ONCE, len(self._unplaced))):
                    event = self._unplaced.popleft()
                    self._lanes[partition_of(event.account_id, count)].batcher.add(event)
                if not self._unplaced:
                    self._partitions = count
                    break
            await asyncio.sleep(0)
        for lane in new:
            if self._closed:
                lane.flush()
            self._tasks.append(asyncio.create_task(lane.run()))

    async def _adopt(self) -> None:
        """Hands the queues of dead processes to the lanes."""
        if self._spool is None or not self._lanes:
            return
        try:
            queues = await asyncio.to_thread(self._spool.adopt)
        except OSError as error:
            self._notices.warn("spool_read", f"the spool's directory cannot be read: {error}")
            return
        for queue in queues:
            with self._room.lock:
                self._room.recovered += queue.events
                self._room.spooled += queue.events
            if queue.partition < len(self._lanes):
                self._lanes[queue.partition].adopt(queue)
            else:
                self._notices.warn("spool_read", f"the spool holds partition {queue.partition}, which the topic lacks")

    async def _stop(self, common: Common) -> None:
        """Ends all tasks; what is left goes to the spool, or is given up."""
        spool = self._spool
        disk_works = True
        if self._spool_task is not None:
            # It is not cancelled: a thread that is writing would go on, beside the next writer.
            disk_works = bool((await asyncio.wait({self._spool_task}, timeout=_DISK_SECONDS))[0])
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await common.transport.close()
        if spool is not None and disk_works:
            for lane in self._lanes:
                await lane.spool(spool, _monotonic_ms(), everything=True)
                await lane.sync()
            await asyncio.to_thread(spool.close)
        with self._room.lock:
            self._room.give_up()
            lost = dict(self._room.lost)
        if lost:
            self._notices.warn("lost", f"accepted usage events were given up: {lost}")

    def renew_after_fork(self) -> object:
        """Makes a fresh, unstarted publisher of the copy that a forked child got; returns what is its parent's."""
        if self._spool is not None:
            self._spool.leave_to_parent()
        of_the_parent = (self._common, self._tasks, self._spool_task, self._loop)
        self._begin()
        return of_the_parent


def _monotonic_ms() -> float:
    return monotonic() * 1000
