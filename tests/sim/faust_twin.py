"""Twin of a Faust app with one consumer, as ``streams.engine.batching`` makes it on Faust and aiokafka.

The order of things is theirs: revoke (flow stopped, queues cleared, hook), join, sync, assign, then in a task of its
own the hook ``on_rebalance_complete``, positions, seeks, flow. A rebalance may come over any of these. What was fetched
before may be delivered after, or never; acknowledgements of lost partitions come late and are dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition
from faust.types import TP

from streams.engine.batching import Batch, Positions

from .group import Tp
from .kafka_twin import Consumer
from .membership import Membership
from .network import connect

COMMIT_INTERVAL_S = 1.0
STOP_LIMIT_S = 15.0
_GETMANY_S = 1.0
_PAUSED_WAIT_S = 0.05
Take = Callable[[Batch, "Event"], Any]


class Signal:
    """Faust's signal: those connected are awaited in turn."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., Awaitable[None]]] = []

    def connect(self, listener: Callable[..., Awaitable[None]]) -> None:
        self._listeners.append(listener)

    async def send(self, *values: Any) -> None:
        for listener in self._listeners:
            await listener(*values)


class Event:
    """Faust's event: acknowledges a batch."""

    __slots__ = ("_consumer", "_offset", "_tp")

    def __init__(self, consumer: "GroupConsumer", tp: TP, offset: int) -> None:
        self._consumer = consumer
        self._tp = tp
        self._offset = offset

    def ack(self) -> bool:
        return self._consumer.acknowledge(self._tp, self._offset)


class _RebalanceAgainError(Exception):
    """Another rebalance came."""


class App:
    """See the module. ``take`` gets each batch with its event, as an agent would; if it returns a coroutine, that is
    awaited before the next batch."""

    def __init__(
        self, group: str, topics: tuple[str, ...], *, name: str, positions: Positions, take: Take, session_s: float
    ) -> None:
        self.group = group
        self.topics = topics
        self.name = name
        self.positions = positions
        self.take = take
        self.session_s = session_s
        self.on_rebalance_complete = Signal()
        self.on_partitions_revoked = Signal()
        self.on_before_shutdown = Signal()
        self.consumer_generation_id = 0
        self.should_stop = False
        self.crashed: BaseException | None = None
        self.consumer = GroupConsumer(self)
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Works until it is stopped or has crashed."""
        await self.consumer.start()
        await self._stopped.wait()

    async def crash(self, error: BaseException) -> None:
        """Ends the app, as Faust does when something of it raised."""
        if self.crashed is None:
            self.crashed = error
            await self.stop()

    async def stop(self) -> None:
        """Flushes and leaves the group; gives up after ``STOP_LIMIT_S``."""
        if self.should_stop:
            return
        self.should_stop = True
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT_S):
                await self.consumer.stop_fetching()
                await self.on_before_shutdown.send()
                await self.consumer.leave()
        self._stopped.set()


class GroupConsumer:
    """Twin of ``BatchConsumer`` with its thread."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._connection = connect()
        self._member = Membership(
            self._connection,
            app.group,
            name=app.name,
            topics=app.topics,
            session_s=app.session_s,
            revoke=self._revoke,
            assigned=self._was_assigned,
            assign=self._assign,
        )
        self._reader = Consumer()
        self._assigned: frozenset[TP] = frozenset()
        self._active: set[TP] = set()
        self._paused: set[TP] = set()
        self._sought: dict[TP, int] = {}
        self._read_offset: dict[TP, int | None] = {}
        self._acked: dict[TP, list[int]] = {}
        self._committed: dict[TP, int] = {}
        self._queue: asyncio.Queue[tuple[Batch, Event]] = asyncio.Queue(16)
        self._room = asyncio.Event()
        self._flow = asyncio.Event()
        self._recover = asyncio.Event()
        self._recover_generation = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Starts what Faust runs for a consumer."""
        works = {
            "coordinate": self._member.run, "recover": self._recover_forever, "fetch": self._fetch_forever,
            "deliver": self._deliver_forever, "commit": self._commit_forever,
        }  # fmt: skip
        for name, work in works.items():
            self._tasks[name] = asyncio.ensure_future(self._guard(work))

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await self.app.crash(error)

    # What the engine asks.

    @property
    def heartbeat_sent_at(self) -> float:
        """When the last heartbeat that the group accepted was sent."""
        return self._member.heartbeat_sent_at

    def assignment(self) -> frozenset[TP]:
        return self._assigned

    def rejoin(self) -> None:
        """Gives all partitions back and asks the group for a new assignment."""
        self._member.rejoin()

    def pause_partitions(self, tps: Any) -> None:
        self._active.difference_update(tps)
        self._paused.update(tps)

    def resume_partitions(self, tps: Any) -> None:
        self._active.update(tps)
        self._paused.difference_update(tps)

    async def seek_wait(self, positions: Mapping[TP, int]) -> None:
        """Seeks; what is being fetched from elsewhere is thrown away. Raises IllegalStateError, see ``_seek``."""
        await self._cross_threads()
        for tp, offset in positions.items():
            self._sought[tp] = offset
            self._seek(tp, offset)
            self._read_offset[tp] = offset or None

    def _seek(self, tp: TP, offset: int) -> None:
        if tp not in self._assigned:  # taken away since it was asked for
            raise IllegalStateError(f"No current assignment for partition {tp}")
        self._reader.seek(TopicPartition(*tp), offset)

    async def seek(self, tp: TP, offset: int) -> None:
        await self.seek_wait({tp: offset})

    def acknowledge(self, tp: TP, offset: int) -> bool:
        """Marks a batch as dealt with; what is not assigned any more is kept, and dropped at the next commit."""
        if offset < self._committed.get(tp, 0):
            return False
        self._acked.setdefault(tp, []).append(offset)
        return True

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        """Raises KafkaError."""
        return {tp: await self._reader._ask(partial(self._connection.broker.start, *tp)) for tp in tps}

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        """Raises KafkaError."""
        return {tp: await self._reader._ask(partial(self._connection.broker.end, *tp)) for tp in tps}

    async def _cross_threads(self) -> None:
        """Faust's consumer lives in a thread of its own: what one asks of the other takes a moment."""
        await asyncio.sleep(self._connection.draw.random() * 0.002)

    # The group.

    def _was_assigned(self, generation: int, partitions: list[Tp]) -> None:
        self._assigned = frozenset(TP(*tp) for tp in partitions)
        self._reader.assign(TopicPartition(*tp) for tp in partitions)

    async def _revoke(self) -> None:
        await self._cross_threads()
        revoked = self._assigned
        self._active -= revoked
        self._paused -= revoked
        for tp in revoked:
            self._acked.pop(tp, None)
            self._read_offset.pop(tp, None)
            self._committed.pop(tp, None)
        if self.app.should_stop:
            return
        if revoked:
            self._flow.clear()
            self.pause_partitions(revoked)
            self._clear_queue()
            await asyncio.sleep(0)
        await self.app.on_partitions_revoked.send(revoked)

    async def _assign(self, generation: int) -> None:
        self.app.consumer_generation_id = generation
        await self._cross_threads()
        self._paused &= self._assigned
        self._active = set(self._assigned) - self._paused
        if self.app.should_stop:
            return
        await asyncio.sleep(0)
        self.pause_partitions(self._assigned)
        await asyncio.sleep(0)
        if generation == self.app.consumer_generation_id:
            self._recover_generation = generation
            self._recover.set()

    # After an assignment.

    async def _recover_forever(self) -> None:
        draw = self._connection.draw
        while True:
            await self._recover.wait()
            self._recover.clear()
            generation = self._recover_generation
            try:
                await self._or_rebalance(asyncio.sleep(0.3 * draw.random() if draw.random() < 0.1 else 0))
                await self._resume(generation)
            except (_RebalanceAgainError, IllegalStateError):
                continue

    async def _resume(self, generation: int) -> None:
        await self.app.on_rebalance_complete.send()
        assigned = self._assigned
        if self.app.consumer_generation_id != generation:
            return
        if assigned:
            self.resume_partitions(assigned)
            await self._or_rebalance(self._perform_seek())
        if not self.app.should_stop:
            self._flow.set()

    async def _or_rebalance(self, work: Any) -> None:
        task, again = asyncio.ensure_future(work), asyncio.ensure_future(self._recover.wait())
        await asyncio.wait([task, again], return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            task.cancel()
            raise _RebalanceAgainError
        again.cancel()
        task.result()

    async def _perform_seek(self) -> None:
        assigned = self._assigned
        wanted = {tp: offset for tp, offset in (await self.app.positions(assigned)).items() if tp in assigned}
        found: dict[TP, int] = {}
        if rest := sorted(assigned - wanted.keys()):
            committed = await self._member.committed()
            found = {tp: committed[tp] for tp in rest if tp in committed}
            for tp, offset in found.items():
                self._seek(tp, offset)
        if wanted:
            await self.seek_wait(wanted)
        for tp, offset in {**found, **wanted}.items():
            self._read_offset[tp] = offset
            self._committed[tp] = offset

    # Records.

    async def _fetch_forever(self) -> None:
        while not self.app.should_stop:
            await self._flow.wait()
            active = sorted(self._active)
            generation = self.app.consumer_generation_id
            if not active:
                await asyncio.sleep(_PAUSED_WAIT_S)
                continue
            timeout_ms = int(1000 * (_PAUSED_WAIT_S if self._paused else _GETMANY_S))
            fetched = await self._reader.getmany(*(TopicPartition(*tp) for tp in active), timeout_ms=timeout_ms)
            runs = [(TP(*tp), self._sought.pop(TP(*tp), None), run) for tp, run in fetched.items()]
            if not runs:
                continue
            await self._cross_threads()
            if self.app.should_stop:
                return
            if not self._flow.is_set():
                with suppress(KafkaError):
                    await self._perform_seek()
                continue
            for tp, follows_seek_to, run in runs:
                if not self._flow.is_set() or self.app.consumer_generation_id != generation:
                    break
                await self._put(tp, Batch(tp.topic, tp.partition, generation, follows_seek_to, run))

    async def _put(self, tp: TP, batch: Batch) -> None:
        offset = batch.records[-1].offset
        read = self._read_offset.get(tp)
        if read is not None and offset < read:
            return
        while self._queue.full() and self._flow.is_set():
            self._room.clear()
            await self._room.wait()
        if self._flow.is_set():
            self._queue.put_nowait((batch, Event(self, tp, offset)))
        self._read_offset[tp] = offset

    def _clear_queue(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        self._room.set()

    async def _deliver_forever(self) -> None:
        draw = self._connection.draw
        while True:
            batch, event = await self._queue.get()
            self._room.set()
            if (luck := draw.random()) < 0.1:  # the agent is busy, or its process has no processor
                await asyncio.sleep(draw.random() * (0.05 if luck < 0.09 else 2.0))
            if asyncio.iscoroutine(working := self.app.take(batch, event)):
                await working

    # Commits and the end.

    async def _commit_forever(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self._commit()

    async def _commit(self) -> None:
        offsets = {}
        for tp, acked in self._acked.items():
            if acked:
                offsets[tp] = max(acked) + 1
                acked.clear()
        offsets = {tp: offset for tp, offset in offsets.items() if tp in self._assigned}
        if not offsets:
            return
        if await self._member.commit(dict(offsets)):
            self._committed |= offsets

    async def stop_fetching(self) -> None:
        """The first thing that a stop does."""
        self._flow.clear()
        self.pause_partitions(self._assigned)
        self._clear_queue()
        await self._cancel("fetch", "deliver", "recover")

    async def leave(self) -> None:
        """The last thing: tells the group."""
        await self._cancel("commit", "coordinate")
        await self._member.leave()
        await self._reader.stop()

    async def _cancel(self, *names: str) -> None:
        tasks = [task for name in names if (task := self._tasks[name]) is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
