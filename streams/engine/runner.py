"""Carries out what one partition's core asks for, on Kafka and Faust, and tells the core what came of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic, time
from typing import Any, Final, Protocol

from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from sluicegate.consumers import is_cancelled
from sluicegate_schemas.envelope import TICK
from sluicegate_schemas.topics import ACCOUNTS, STATE, USAGE

from ..settings import Settings
from .actions import (
    Acknowledge,
    Action,
    Append,
    AppendTick,
    Drop,
    LookAtSources,
    LookAtStateEnd,
    LookAtUsageStart,
    Publish,
    ReadState,
    Ready,
    RefreshAccounts,
    SeekUsage,
    Stop,
)
from .batching import Batch
from .broker import BatchTooLargeError, Broker
from .core import PartitionCore
from .figures import Figures
from .fold import StateFormatError
from .machine import InputRecord, Measured, Tally
from .output_watch import OutputWatch
from .refusals import counted_wrongly
from .telling import Telling

log = logging.getLogger(__name__)

STALL_S_MIN: Final = 60.0


class Host(Protocol):
    """What a runner needs of the engine that runs it."""

    broker: Broker
    settings: Settings

    def dropped(self, runner: "Runner", reason: str) -> None:
        """The partition may belong to another worker: rejoin."""

    def refused(self, reason: str) -> None:
        """Stop the worker, and show ``reason``."""

    def stalled(self, runner: "Runner") -> None:
        """No usage came in for long, though the owner appends ticks: fetching is stuck, so rejoin."""

    def refresh_accounts(self, runner: "Runner") -> None:
        """Read the accounts topic to its end, then call ``core.accounts_current``."""

    async def seek(self, tp: TP, offset: int) -> None:
        """Seeks usage."""

    def set_paused(self, tp: TP, *, paused: bool) -> None:
        """Pauses or resumes fetching usage."""


class Runner:
    """One partition of this worker: a core, the tasks that work for it, and the batches that wait to be committed."""

    def __init__(self, core: PartitionCore, host: Host) -> None:
        self.core = core
        self.partition = core.partition
        self.generation = 0
        self.recovered = asyncio.Event()
        """Set once the core is ready, or never will be."""
        self.ready = False
        self.figures = Figures()
        """The engine's, once it has put them here."""
        self.outputs_sent = 0
        """Outputs that the broker has acknowledged, but those that are told (``telling``)."""
        self.runs_read = 0
        """Of the state log, by the recovery that is under way."""
        self.has_fetched = False
        """Usage came in since it is ready."""
        self.appending_since: float | None = None
        """When the append was sent whose reply has not come."""
        self._host = host
        self._broker = host.broker
        self._settings = host.settings
        self._tp = TP(host.settings.topic(USAGE.name), core.partition)
        self._state_topic = host.settings.topic(STATE.name)
        self._unacknowledged: deque[tuple[int, Any]] = deque()
        self._outputs: asyncio.Queue[tuple[Publish, float]] = asyncio.Queue()
        self._delivered: deque[tuple[int, float]] = deque()
        self._started_at = monotonic()
        self._lease_until = float("-inf")
        self._leased = asyncio.Event()
        self._work = asyncio.Event()
        self._clean = asyncio.Event()
        self._paused = False
        self._fetched_at = monotonic()
        self._over = False
        self._measured = core.machine if isinstance(core.machine, Measured) else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = OutputWatch(
            core.partition, host.broker, host.settings, epoch=lambda: core.epoch,
            found=lambda records: self.perform(core.said_by_others(records)),
        )  # fmt: skip

    @property
    def is_over(self) -> bool:
        """The partition was given up, or back for good."""
        return self._over

    # Faust's side.

    def start(self, generation: int, nonce: int, wall_ms: int) -> None:
        """The group gave us the partition: recover it."""
        self.generation = generation
        self._started_at = monotonic()
        self._spawn(self._apply())
        self._spawn(self._publish())
        owner = self._settings.worker_name
        self.perform(self.core.assigned(owner=owner, generation=generation, nonce=nonce, wall_ms=wall_ms))

    def fetched(self, batch: Batch, event: Any) -> None:
        """A batch of usage records came in."""
        if self._over or batch.generation != self.generation:
            return
        self._fetched_at = monotonic()
        self.has_fetched = True
        last = batch.records[-1]
        self._unacknowledged.append((last.offset, event))
        self._delivered.append((last.offset, self._fetched_at))
        self._count_batch(len(batch.records), last.timestamp)
        self.perform(self.core.fetched([input_record(record) for record in batch.records], batch.follows_seek_to))
        if not self._paused and self.core.usage.pending_bytes > self._settings.pending_bytes_max:
            self._paused = True
            self._host.set_paused(self._tp, paused=True)
        self._work.set()

    def tick(self, now: float, lease_until: float) -> None:
        """Time passes."""
        self._lease_until = lease_until
        if now <= lease_until:
            self._leased.set()
        self.perform(self.core.tick(now, lease_until))
        if self._paused or not self.ready:
            self._fetched_at = now
        elif now - self._fetched_at > max(STALL_S_MIN, 3 * self._settings.tick_interval_s):
            self._fetched_at = now
            self._host.stalled(self)
        if self.core.has_work(now):
            self._work.set()
        if self.core.clean:
            self._clean.set()

    async def give_back(self, timeout_s: float) -> bool:
        """The partition is revoked: flush what is applied. True if the core may wait for the partition's return."""
        if self.ready and not self._over:
            self.core.drain()
            self._clean.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._clean.wait()
            except TimeoutError:
                log.warning(
                    "partition %d: not flushed within %.1f s; its next owner counts on", self.partition, timeout_s
                )
        self._unacknowledged.clear()
        self._delivered.clear()
        self._paused = False
        kept = not self._over and self.core.park()
        if not kept:
            self.close()
        return kept

    def come_back(self, generation: int, state_end: int) -> bool:
        """The partition was assigned again. True if the parked core's claim still stands."""
        if self._over or not self.core.returned(state_end):
            self.close()
            return False
        self.generation = generation
        self._fetched_at = monotonic()
        return True

    def close(self) -> None:
        """Forgets the partition."""
        self._over = True
        self.ready = False
        self.recovered.set()
        self._clean.set()
        for task in self._tasks:
            task.cancel()

    # The core's side.

    def perform(self, actions: Iterable[Action]) -> None:
        """Carries out the core's actions."""
        for action in actions:
            if self._over:
                return
            match action:
                case Publish():
                    self._outputs.put_nowait((action, monotonic()))
                case Acknowledge(offset):
                    self._acknowledge(offset)
                case Append():
                    if self.ready:
                        self.figures.of(self.partition).flush_begins(len(action.records), self._tally())
                    self._spawn(self._append(action))
                case ReadState(start, end):
                    self._spawn(self._read_state(start, end))
                case LookAtStateEnd():
                    self._spawn(self._look_at_state_end())
                case LookAtSources():
                    self._spawn(self._look_at_sources())
                case SeekUsage(offset):
                    log.warning("partition %d: usage was delivered with a hole; seeking to %d", self.partition, offset)
                    self._spawn(self._seek(offset))
                case LookAtUsageStart():
                    self._spawn(self._look_at_usage_start())
                case RefreshAccounts():
                    self._host.refresh_accounts(self)
                case AppendTick():
                    self._spawn(self._append_tick())
                case Ready(rows, void_records):
                    log.info(
                        "partition %d: owned with epoch %d, %d rows, %d void records, from usage offset %d",
                        self.partition, self.core.epoch >> 32, rows, void_records, self.core.usage_next,
                    )  # fmt: skip
                    took_s = monotonic() - self._started_at
                    self.figures.of(self.partition).recovered(took_s, rows, void_records, self._tally())
                    self.ready = True
                    self.recovered.set()
                case Drop(reason, cause):
                    self.close()
                    self.figures.drops[cause] += 1
                    self._host.dropped(self, reason)
                case Stop(reason):
                    self.close()
                    self._host.refused(reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # else Python complains of work cancelled before it began

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (KafkaError, OSError, TimeoutError) as error:
            if not self._over:
                self.perform([Drop(f"Kafka: {type(error).__name__}: {error}", "broker")])
        except asyncio.CancelledError:
            if is_cancelled() or self._over:
                raise
            self.perform([Drop("a client of Kafka cancelled its own call", "broker")])
        except Exception as error:
            log.exception("partition %d", self.partition)
            if not self._over:
                self.perform([Stop(counted_wrongly(self.partition, f"{type(error).__name__}: {error}"))])

    async def _apply(self) -> None:
        core = self.core
        while True:
            self._work.clear()
            while core.has_work(now := monotonic()):
                self.perform(core.step(now))
                if self._over:
                    return
                while self._delivered and self._delivered[0][0] <= core.usage.applied:
                    self.figures.apply_delay.observe(monotonic() - self._delivered.popleft()[1])
                await asyncio.sleep(0)
            if self._paused and core.usage.pending_bytes < self._settings.pending_bytes_max // 4:
                self._paused = False
                self._host.set_paused(self._tp, paused=False)
            await self._work.wait()

    async def _publish(self) -> None:
        settings = self._settings
        await self.recovered.wait()
        await self._watch.begin(self.core.publishing.outputs_next)
        self.core.publishing.ask = self._watch.compared
        self._spawn(self._watch.run())
        told = Telling(self.core, self._broker, settings, self._watch, self.figures, self._until_leased, self._spawn)
        self._spawn(told.run())
        while True:
            (token, record), made_at = await self._outputs.get()
            await self._until_leased()
            partition = record.partition if record.partition >= 0 else None
            self._watch.sent(record.topic)
            sent = await self._broker.send(settings.topic(record.topic), record.key, record.value, partition)
            sent.add_done_callback(partial(self._published, token, record.topic, made_at))

    async def _until_leased(self) -> None:
        while monotonic() > self._lease_until:  # another owner may have said something newer under the same key
            self._leased.clear()
            await self._leased.wait()

    def _published(self, token: int, topic: str, made_at: float, future: "asyncio.Future[Any]") -> None:
        if future.cancelled() or future.exception() is not None:
            reason = "cancelled" if future.cancelled() else repr(future.exception())
            self.perform(self.core.publish_failed(reason))
        else:
            self.outputs_sent += 1
            self.figures.published[topic] += 1
            self.figures.publish[topic].observe(monotonic() - made_at)
            self.core.published(token)
            if (contradiction := self._watch.acknowledged(topic, future.result().offset)) is not None:
                self._spawn(contradiction)

    async def _append(self, append: Append) -> None:
        self.appending_since = monotonic()
        try:
            base_offset = await self._broker.append(self._state_topic, self.partition, append.records)
        except BatchTooLargeError as error:
            self.perform(self.core.append_impossible(error.size_bytes))
        except KafkaError as error:
            self.perform(self.core.append_failed(f"{type(error).__name__}: {error}"))
        else:
            now = monotonic()
            if self.ready:
                self.figures.flush.observe(now - self.appending_since)
            self.perform(self.core.appended(base_offset, now))
            if self.core.clean:
                self._clean.set()
        finally:
            self.appending_since = None

    async def _read_state(self, start: int | None, end: int | None) -> None:
        first, last = await self._broker.bounds(self._state_topic, self.partition)
        start, end = first if start is None else start, last if end is None else end

        def take(run: Iterable[ConsumerRecord]) -> None:
            self.runs_read += 1
            self.core.state_records(run)

        try:
            await self._broker.read(self._state_topic, self.partition, start, end, take)
        except StateFormatError as error:
            self.perform(self.core.state_unreadable(error))
        else:
            self.perform(self.core.state_read(end))

    async def _look_at_state_end(self) -> None:
        try:
            end = await self._broker.end(self._state_topic, self.partition)
        except (KafkaError, OSError):
            self.core.look_failed()
        else:
            self.perform(self.core.state_end(end))

    async def _look_at_sources(self) -> None:
        usage = await self._broker.bounds(self._tp.topic, self.partition)
        accounts = await self._broker.bounds(self._settings.topic(ACCOUNTS.name), self.partition)
        self.perform(self.core.sources(usage=usage, accounts=accounts))

    async def _seek(self, offset: int) -> None:
        await self._host.seek(self._tp, offset)
        self.core.sought()

    async def _look_at_usage_start(self) -> None:
        start, _ = await self._broker.bounds(self._tp.topic, self.partition)
        self.perform(self.core.usage_starts(start))

    async def _append_tick(self) -> None:
        with suppress(KafkaError, OSError):
            await (await self._broker.send(self._tp.topic, None, TICK, self.partition))

    def _tally(self) -> Tally | None:
        return None if self._measured is None else self._measured.tally()

    def _count_batch(self, records: int, newest_ms: int) -> None:
        figures = self.figures.of(self.partition)
        figures.batches += 1
        figures.records += records
        self.figures.fetch_delay.observe(time() - newest_ms / 1000)

    def _acknowledge(self, offset: int) -> None:
        self.figures.of(self.partition).flush_is_true(self.core.stats["repairs"])
        while self._unacknowledged and self._unacknowledged[0][0] <= offset:
            _, event = self._unacknowledged.popleft()
            event.ack()


def input_record(record: ConsumerRecord) -> InputRecord:
    """A record of aiokafka as the machine gets it."""
    return InputRecord(record.offset, record.timestamp, record.key, record.value)
