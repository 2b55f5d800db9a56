"""Reads whole topics with a consumer of its own, and never gives up.

No group and no commits: who follows reads all partitions. A fold that takes a record twice changes nothing the second
time, so the positions live in memory alone. ``Follower`` is what every gate needs: ``catalog``, ``entitlements`` and
``decisions``, folded into a ``View``.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from sluicegate_schemas import topics
from sluicegate_schemas.outputs import KeyEntitlement
from sluicegate_schemas.wire_decision import WireDecision

from ..brokers import Brokers
from ..clock import Clock, epoch_ms
from ..consumers import stop_consumer
from ..errors import TopicsMissingError
from ..tasks import end_task
from ..topic_partitions import partitions_of
from .lags import Lags
from .view import Change, View

FOLLOWED: Final = (topics.CATALOG, topics.ENTITLEMENTS, topics.DECISIONS)
RECORDS_PER_TURN: Final = 500
"""Records folded before other tasks of the event loop get their turn."""
QUIET_MS: Final = 1_000
"""How long nothing is done where no record comes."""

log = logging.getLogger("sluicegate.follower")

LogRecord: TypeAlias = ConsumerRecord[bytes, bytes]
Fold = Callable[[str, LogRecord], None]
"""Takes in one record of a topic (name without prefix); must be quick, and never raise for what a record holds."""
OnChange = Callable[[Change], None]


@dataclass(frozen=True, slots=True)
class FollowerSettings:
    """How to follow. ``fetch_wait_ms`` is how long the broker may hold an empty answer back: a partition whose records
    were just folded waits at most that long to be asked again, so it bounds the latency; shorter asks more often."""

    topic_prefix: str = topics.PREFIX_DEFAULT
    fetch_wait_ms: int = 50
    request_timeout_ms: int = 10_000
    retry_ms_min: int = 100
    retry_ms_max: int = 5_000


class TopicFollower:
    """Folds all that ``followed`` topics hold and get, from ``start`` to ``stop``.

    ``ready`` turns true once, when everything that stood in the topics at the start is folded.
    """

    def __init__(
        self,
        brokers: Brokers,
        settings: FollowerSettings,
        followed: Sequence[topics.Topic],
        fold: Fold,
        *,
        clock: Clock = epoch_ms,
    ) -> None:
        self.reconnects = 0
        self.ready = False
        self._brokers = brokers
        self._settings = settings
        self._followed = followed
        self._fold = fold
        self._clock = clock
        self._caught_up = asyncio.Event()
        self._positions: dict[TopicPartition, int] = {}
        self.contact_ms: int | None = None
        """When the broker last answered for every partition (UTC epoch); None before it ever did."""
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Begins to follow in the running event loop, in the background; a broker that is away is waited for."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="sluicegate-follower")

    async def stop(self) -> None:
        """Ends following; the view keeps what it holds."""
        task, self._task = self._task, None
        await end_task(task)

    async def wait_ready(self, timeout_s: float) -> bool:
        """Waits until ``ready``, at most ``timeout_s`` seconds; returns whether it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._caught_up.wait(), timeout_s)
        return self.ready

    @property
    def staleness_ms(self) -> int | None:
        """Milliseconds since the broker last answered for every partition; None before it ever did.

        An answer without records is contact too: silence of the topics is not staleness.
        """
        self._note_contact()
        return None if self.contact_ms is None else max(0, self._clock() - self.contact_ms)

    def _note_contact(self) -> None:
        consumer = self._consumer
        if consumer is not None:
            polls = [consumer.last_poll_timestamp(partition) for partition in consumer.assignment()]
            if polls and all(polls):
                self.contact_ms = max(self.contact_ms or 0, min(polls))

    async def _follow(self) -> None:
        wait_ms = self._settings.retry_ms_min
        while True:
            connected_at = time.monotonic()
            try:
                await self._follow_once()
            except (KafkaError, OSError, TopicsMissingError) as error:
                log.warning("not following: %s; what is known stays in force, next try in %d ms", error, wait_ms)
            except Exception:
                log.exception("not following; what is known stays in force, next try in %d ms", wait_ms)
            self.reconnects += 1
            await asyncio.sleep(wait_ms / 1000)
            held_s = time.monotonic() - connected_at
            wait_ms = self._settings.retry_ms_min if held_s > 60 else min(wait_ms * 2, self._settings.retry_ms_max)

    async def _follow_once(self) -> None:
        names = [self._settings.topic_prefix + topic.name for topic in self._followed]
        partitions = await partitions_of(self._brokers, names)
        consumer = AIOKafkaConsumer(
            **self._brokers.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._settings.fetch_wait_ms,
            request_timeout_ms=self._settings.request_timeout_ms,
        )
        try:
            await consumer.start()
            consumer.assign(partitions)
            for partition in partitions:
                if partition in self._positions:
                    consumer.seek(partition, self._positions[partition])
            behind = {partition: end for partition, end in (await consumer.end_offsets(partitions)).items() if end > 0}
            self._consumer = consumer
            await self._poll(consumer, behind)
        finally:
            self._note_contact()
            self._consumer = None
            await stop_consumer(consumer)

    async def _poll(self, consumer: AIOKafkaConsumer, behind: dict[TopicPartition, int]) -> None:
        while True:
            if behind or not self.ready:
                await self._drop_reached(consumer, behind)
            wait_ms = self._settings.fetch_wait_ms if behind else QUIET_MS  # it returns with the first record anyway
            batches = await consumer.getmany(timeout_ms=wait_ms, max_records=RECORDS_PER_TURN)
            for partition, records in batches.items():
                self._take(partition, records)
            self._note_contact()
            if batches:
                await asyncio.sleep(0)

    async def _drop_reached(self, consumer: AIOKafkaConsumer, behind: dict[TopicPartition, int]) -> None:
        for partition, end in list(behind.items()):
            if await consumer.position(partition) >= end:
                del behind[partition]
        if not behind and not self.ready:
            self.ready = True
            self._caught_up.set()
            log.info("caught up with %s", ", ".join(topic.name for topic in self._followed))

    def _take(self, partition: TopicPartition, records: list[LogRecord]) -> None:
        topic = partition.topic.removeprefix(self._settings.topic_prefix)
        for record in records:
            self._fold(topic, record)
            self._positions[partition] = record.offset + 1


class Follower(TopicFollower):
    """Keeps ``view`` up to date from ``start`` to ``stop``.

    ``on_change`` is called with every change, in the event loop: it must be quick; what it raises is logged and goes no
    further.
    """

    def __init__(
        self,
        brokers: Brokers,
        settings: FollowerSettings | None = None,
        *,
        view: View | None = None,
        on_change: OnChange | None = None,
        clock: Clock = epoch_ms,
    ) -> None:
        super().__init__(brokers, settings or FollowerSettings(), FOLLOWED, self._apply, clock=clock)
        self.view = view or View()
        self.lags = Lags()
        self._listeners = [] if on_change is None else [on_change]

    def listen(self, on_change: OnChange) -> None:
        """Calls ``on_change``, too, with every change from now on."""
        self._listeners.append(on_change)

    def _apply(self, topic: str, record: LogRecord) -> None:
        change = self.view.apply(topic, record.key, record.value)
        decided = change.record
        if self.ready and isinstance(decided, WireDecision) and decided.cause is not None:
            self.lags.add(decided.cause.logged_at_ms, self._clock())
        if isinstance(decided, KeyEntitlement) and (key := self.view.key(decided.key_sha256)) and key.is_contested:
            log.warning("the secret of %s belongs to several accounts: it is refused", decided.api_key_id)
        for on_change in self._listeners:
            try:
                on_change(change)
            except Exception:
                log.exception("on_change failed; following goes on")
