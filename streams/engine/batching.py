"""A Faust app whose topics arrive in runs of records, from positions that the app itself keeps.

Faust spends 75 µs on each message, and starts where the group's committed offsets say. Here one message is the whole
run of records that one fetch returned for one partition (``Batch``), and the start of each assigned partition is asked
of the app, so that the position can live with the state that it belongs to. Committed offsets only show lag.

Everything hangs on one app object (``BatchApp``); nothing of Faust is changed for other apps in the process.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import faust
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord
from faust.app.base import BootStrategy
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from sluicegate.brokers import Brokers

from ..health import Health, write_forever

log = logging.getLogger(__name__)

Positions = Callable[[frozenset[TP]], Awaitable[Mapping[TP, int]]]
"""Given the assigned partitions, the next offset to read of each one that shall be sought.

Called after ``on_rebalance_complete`` and before any record flows; a partition that is left out starts at the group's
committed offset, or at ``consumer_auto_offset_reset``.
"""
Attend = Callable[["BatchApp"], None]
"""Called once before the app connects; starts what stands beside its work, see ``streams.attendant``."""
Prepare = Callable[[], Awaitable[None]]
"""Awaited once before anything of the app connects: here the topics are made, which Faust would make wrongly."""

STOP_LIMIT_S: Final = 15.0
"""How long leaving the group may take; a flush that was in hand has long ended by then."""
_PAUSED_WAIT_S: Final = 0.05
"""A fetch ends after this while a partition is paused, so that the partition is soon asked for again."""


class Batch(NamedTuple):
    """What one fetch returned for one partition: records in offset order, never empty."""

    topic: str
    partition: int
    generation: int
    """The group's generation in which it was fetched; a batch of an earlier one must be ignored."""
    follows_seek_to: int | None
    """It is the first batch read since a seek to this offset, so the log has nothing between the two; else None."""
    records: Sequence[ConsumerRecord]


class _Thread(AIOKafkaConsumerThread):
    """Faust's consumer thread, with the fetch wait that the app asks for and a record of its heartbeats."""

    app: "BatchApp"
    heartbeat_sent_at: float = float("-inf")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sought: dict[TP, int] = {}

    async def _seek_wait(self, consumer: Any, partitions: Any) -> None:
        self._sought.update(partitions)
        await super()._seek_wait(consumer, partitions)  # seeks before it waits for the first time

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        # In this thread seeks and reads take turns, so what is read here surely came before or after a seek.
        fetched = await super()._fetch_records(*args, **kwargs)
        return {tp: (self._sought.pop(tp, None), run) for tp, run in fetched.items() if run}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms  # Faust fixes it at 1500, which an idle topic would wait
        # Balanced, and a partition stays where it is if it can: a rebalance then recovers only what moves.
        consumer._partition_assignment_strategy = (StickyPartitionAssignor,)
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        heartbeat, joined = coordinator._do_heartbeat, coordinator._on_join_complete

        async def timed_heartbeat() -> bool:
            sent_at = monotonic()
            accepted = bool(await heartbeat())
            if accepted:
                self.heartbeat_sent_at = sent_at
            elif coordinator.generation in (-1, None):
                self.heartbeat_sent_at = float("-inf")
            return accepted

        async def timed_join(*args: Any, **kwargs: Any) -> Any:
            self.heartbeat_sent_at = monotonic()
            return await joined(*args, **kwargs)

        coordinator._do_heartbeat = timed_heartbeat
        coordinator._on_join_complete = timed_join


class BatchConsumer(Consumer):
    """Delivers each fetched run as one message, acknowledges in order, starts where the app says."""

    app: "BatchApp"
    _thread: _Thread

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    @property
    def heartbeat_sent_at(self) -> float:
        """When the last heartbeat that the broker accepted was sent (monotonic seconds)."""
        return self._thread.heartbeat_sent_at

    @property
    def group_error(self) -> BaseException | None:
        """What ended this process's part in the group for good, while the process goes on; None where nothing did.

        aiokafka's coordination may end by an error of its own (a broker that just came back may tell of no brokers),
        and nothing takes it up again.
        """
        consumer: Any = self._thread._consumer
        coordination: asyncio.Task[None] | None = getattr(
            getattr(consumer, "_coordinator", None), "_coordination_task", None
        )
        if coordination is None or not coordination.done() or coordination.cancelled():
            return None
        return coordination.exception()

    def rejoin(self) -> None:
        """Gives all partitions back and asks the group for a new assignment."""
        thread = self._thread
        thread.thread_loop.call_soon_threadsafe(thread._ensure_consumer()._coordinator.request_rejoin)

    def leave(self, timeout_s: float) -> None:
        """Leaves the group, from a thread whose event loop is neither the app's nor the consumer's."""
        thread = self._thread
        leaving = thread._ensure_consumer()._coordinator._maybe_leave_group()
        asyncio.run_coroutine_threadsafe(leaving, thread.thread_loop).result(timeout_s)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Faust's only source of start offsets, called before the flow resumes."""
        assigned = frozenset(self.assignment())
        wanted = {tp: offset for tp, offset in (await self.app.positions(assigned)).items() if tp in assigned}
        committed: dict[TP, int] = {}
        if assigned - wanted.keys():
            try:
                committed = dict(await super().seek_to_committed())
            except AssertionError as error:  # aiokafka's; Faust goes on after an IllegalStateError alone
                raise IllegalStateError("no partition is assigned any more") from error
        if wanted:
            await self.seek_wait(wanted)
        return {**committed, **wanted}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 (Faust's signature)
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        active = self._get_active_partitions()
        generation = self.app.consumer_generation_id
        if not active:
            await self.sleep(_PAUSED_WAIT_S)
            return
        records = await self._getmany(
            active_partitions=active, timeout=_PAUSED_WAIT_S if self._paused_partitions else timeout
        )
        if self.should_stop:
            return
        if not self.flow_active:
            await self._seek_in_rebalance()
            return
        for partition, (follows_seek_to, run) in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            tp = TP(partition.topic, partition.partition)
            self.app.monitor.track_tp_end_offset(tp, self.highwater(partition))
            message = self._to_message(tp, run[-1])
            batch = Batch(tp.topic, tp.partition, generation, follows_seek_to, run)
            message.value = batch  # type: ignore[assignment]  # Faust expects bytes; BatchSchema does not
            yield tp, message

    async def _seek_in_rebalance(self) -> None:
        """A rebalance stopped the flow during a fetch: what it returned is thrown away, and shall be read again.

        The rebalance goes on meanwhile, in the consumer's thread, and may take the very partition that is sought. That
        is no reason to end: before the flow resumes, Faust seeks all that the new assignment holds.
        """
        try:
            await self.perform_seek()
        except KafkaError as error:
            log.info("partitions were assigned anew before they were sought (%s)", error)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: the offsets between two runs' ends are no gap."""

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        newest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return int(newest) + 1


class BatchSchema(faust.Schema[Any, Any]):
    """Hands a ``Batch`` on as the event's value, undecoded."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(message.key, message.value, message.headers, message)

        return decode


class BatchTransport(Transport):
    Consumer = BatchConsumer


class _NoWebServer(BootStrategy):
    enable_web = False  # Faust's command line turns the setting ``web_enabled`` back on


class BatchApp(faust.App):
    """A Faust app, all of whose topics come as batches; declare them with ``app.topic(name, schema=BatchSchema())``.

    An agent reads ``async for event in stream.noack().events()``, where ``event.value`` is a ``Batch``, and calls
    ``event.ack()`` in order once the batch is dealt with, and only in the generation that it came from. It must catch
    everything: Faust acknowledges a message whose agent raised.
    """

    BootStrategy = _NoWebServer

    def __init__(
        self,
        app_id: str,
        *,
        positions: Positions,
        prepare: Prepare,
        health: Callable[[], Health],
        attend: Attend | None = None,
        fetch_wait_ms: int = 50,
        **options: Any,
    ) -> None:
        self.positions = positions
        self.fetch_wait_ms = fetch_wait_ms
        self._prepare = prepare
        self._health = health
        self._attend = attend
        super().__init__(app_id, **options)

    async def on_first_start(self) -> None:
        os.makedirs(self.conf.datadir, exist_ok=True)
        await super().on_first_start()
        if self._attend is not None:
            self._attend(self)
        self.add_future(write_forever(Path(self.conf.datadir), self._health))
        await self._prepare()

    async def stop(self) -> None:
        """Stops, or ends the process: a stop that meets a rebalance can leave Faust waiting for its consumer for ever.

        What was applied is flushed by then or not; either way the next owner goes on from the state.
        """
        end = threading.Timer(STOP_LIMIT_S, _end_now)
        end.daemon = True
        end.start()
        try:
            await super().stop()
        finally:
            end.cancel()

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def _end_now() -> None:
    log.critical("not stopped within %g s; ending without it. Nothing is lost, the next owner goes on", STOP_LIMIT_S)
    logging.shutdown()
    os._exit(1)


def batch_app(
    app_id: str,
    *,
    brokers: Brokers,
    positions: Positions,
    prepare: Prepare,
    health: Callable[[], Health],
    attend: Attend | None = None,
    session_s: float,
    datadir: str,
    **options: Any,
) -> BatchApp:
    """A ``BatchApp`` with the settings that Faust needs to be safe.

    No web server (it has no authentication), no tables, no leader topic, bounded buffers. ``health`` is asked once a
    second, see ``streams.health``. ``options`` are further Faust settings, and win.
    """
    settings: dict[str, Any] = {
        "broker": [f"kafka://{server.strip()}" for server in brokers.bootstrap_servers.split(",")],
        "broker_credentials": _credentials(brokers),
        "store": "memory://",
        "datadir": datadir,
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "consumer_auto_offset_reset": "earliest",
        "stream_wait_empty": False,
        "table_standby_replicas": 0,
        "stream_buffer_maxsize": 16,
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": min(1.0, session_s / 5),
        "broker_rebalance_timeout": max(10.0, session_s),
        "broker_commit_interval": 1.0,
        # A broker that restarts may leave topics out of its first answers, and the leader then assigns nothing; the
        # next look at the metadata shows the change, and the group is balanced anew.
        "consumer_metadata_max_age_ms": 3_000,
    }
    return BatchApp(
        app_id, positions=positions, prepare=prepare, health=health, attend=attend, **{**settings, **options}
    )


def _credentials(brokers: Brokers) -> Any:
    """Faust's form of the brokers' credentials; None without any."""
    context = brokers.ssl_context()
    if brokers.username is None:
        return None if context is None else faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=brokers.username, password=brokers.password, mechanism="SCRAM-SHA-512", ssl_context=context
    )
