"""Follows the alerts topic and hands what endpoints want to their lanes; everything it knows is in ``deliveries``.

It reads with a consumer of its own and no group: the positions stand in the deliveries topic, behind the rows that came
of what was read, so no alert can be passed over, and a lost position is read again and known. One dispatcher works at a
time, that of the newest claim; that is plenty for alerts, and an older one that still runs stands by.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from sluicegate.brokers import Brokers
from sluicegate.clock import Clock, epoch_ms
from sluicegate.consumers import is_cancelled, stop_consumer
from sluicegate.errors import TopicsMissingError
from sluicegate.topic_partitions import partitions_of
from sluicegate_schemas.alerts import ALERT
from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.deliveries import ALERT_BYTES_MAX, CLAIM_KEY, REPLAY_PREFIX, DispatcherClaim, webhook_id_of

from .book import Book
from .endpoints import Endpoint
from .lane import Lane
from .metrics import Status
from .rows import RowWriter
from .sender import Sender

log = logging.getLogger(__name__)

POLL_MS: Final = 200
RECORDS_PER_TURN: Final = 100
RETRY_S: Final = 1.0
STOP_LIMIT_S: Final = 5.0
"""How long attempts that are under way may take at the end."""
REQUEST_TIMEOUT_MS: Final = 10_000
SILENT_MS: Final = 10_000
"""A broker that has not answered for so long is away."""


class SupersededError(Exception):
    """Another dispatcher has claimed the work."""


class Dispatcher:
    """Delivers from ``run`` until that is cancelled. ``alerts_topic`` and ``deliveries_topic`` are full names."""

    def __init__(
        self,
        brokers: Brokers,
        endpoints: Sequence[Endpoint],
        *,
        alerts_topic: str,
        deliveries_topic: str,
        book: Book | None = None,
        clock: Clock = epoch_ms,
    ) -> None:
        self.name = f"dispatcher-{secrets.token_hex(8)}"
        self._brokers = brokers
        self._alerts_topic = alerts_topic
        self._deliveries = TopicPartition(deliveries_topic, 0)
        self._clock = clock
        self._book = book or Book()
        self._rows = RowWriter(brokers, deliveries_topic, self._book)
        self._senders = {endpoint.name: Sender(endpoint) for endpoint in endpoints}
        self._lanes = {
            endpoint.name: Lane(endpoint, self._book, self._senders[endpoint.name], self._rows.changed)
            for endpoint in endpoints
        }
        figures = {name: lane.figures for name, lane in self._lanes.items()}
        self.status = Status(self._book, figures, self.waits_for, lambda: self._rows.waiting)
        self._consumer: AIOKafkaConsumer | None = None
        """The one that follows."""
        self._superseded = False
        self._said = ""
        self._claimed_at: int | None = None
        """The offset of this dispatcher's claim."""
        self._read_to = 0
        """The next offset of the deliveries topic."""

    async def run(self) -> None:
        """Follows and delivers; a broker that is away is waited for, and what is pending is tried meanwhile."""
        try:
            await self._patiently(self._recover)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._rows.run())
                for lane in self._lanes.values():
                    group.create_task(lane.run())
                await self._patiently(self._follow)
        except* SupersededError:
            log.critical("another dispatcher has taken over; this one stands by. End one of the two.")
            self._superseded = True
        finally:
            await asyncio.shield(self._close())
        await asyncio.Event().wait()  # superseded: anything else was raised

    def waits_for(self) -> str:
        """What it is not ready for, in words; empty while it follows. Any thread may ask."""
        if self._superseded:
            return "its end: another dispatcher has taken over"
        consumer = self._consumer
        polls = [consumer.last_poll_timestamp(partition) for partition in consumer.assignment()] if consumer else []
        answered_ms = min((poll or 0 for poll in polls), default=0)
        return "" if self._clock() - answered_ms < SILENT_MS else "Kafka"

    async def drain(self) -> None:
        """Starts no further attempt, and waits a little for those that are under way."""
        attempts = [attempt for lane in self._lanes.values() for attempt in lane.stop()]
        if attempts:
            await asyncio.wait(attempts, timeout=STOP_LIMIT_S)

    async def _close(self) -> None:
        await self._rows.close()
        for sender in self._senders.values():
            await sender.close()

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """``step``, again until it returns."""
        while True:
            try:
                return await step()
            except (KafkaError, OSError, TopicsMissingError) as error:
                self._wait(error)
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                self._wait(error)
            await asyncio.sleep(RETRY_S)

    def _wait(self, error: BaseException) -> None:
        reason = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
        if reason != self._said:  # once, however long it lasts
            log.warning("Kafka cannot be read or written (%s); what is known is delivered on. Trying again.", reason)
        self._said = reason

    async def _recover(self) -> None:
        """Claims the work and restores the book."""
        await partitions_of(self._brokers, [self._alerts_topic, self._deliveries.topic])
        claim = DispatcherClaim(dispatcher=self.name, claimed_at=from_epoch_ms(self._clock()))
        self._claimed_at = await self._rows.append(CLAIM_KEY, claim.model_dump_json().encode())
        consumer = self._made_consumer()
        try:
            await consumer.start()
            consumer.assign([self._deliveries])
            await consumer.seek_to_beginning(self._deliveries)
            while self._read_to <= self._claimed_at:
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
                for record in fetched.get(self._deliveries, []):
                    self._book.restore(_text(record.key), record.value)
                self._read_to = await consumer.position(self._deliveries)
        finally:
            await stop_consumer(consumer)
        now_ms = self._clock()
        self._book.restored(self._lanes, now_ms)
        self._book.replay_asked(now_ms)
        log.info(
            "%d deliveries are pending, %d dead letters kept",
            sum(len(shelf.pending) for shelf in self._book.shelves.values()),
            sum(len(shelf.dead) for shelf in self._book.shelves.values()),
        )

    async def _follow(self) -> None:
        """Takes in alerts, and requests for replays."""
        partitions = await partitions_of(self._brokers, [self._alerts_topic])
        consumer = self._made_consumer()
        try:
            await consumer.start()
            consumer.assign([*partitions, self._deliveries])
            firsts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            for partition in partitions:
                consumer.seek(partition, self._start(partition.partition, firsts[partition], ends[partition]))
            consumer.seek(self._deliveries, self._read_to)
            self.status.partitions = [f"{partition.topic}/{partition.partition}" for partition in partitions]
            self._consumer = consumer
            while True:
                await self._rows.flush()
                self._wake()
                self._count_lag(consumer, partitions)
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_PER_TURN)
                for partition, records in fetched.items():
                    if partition == self._deliveries:
                        self._hear(records)
                    else:
                        self._take(partition.partition, records)
        finally:
            self._consumer = None
            await stop_consumer(consumer)

    def _start(self, partition: int, first: int, end: int) -> int:
        """Where to read on, given what the log holds."""
        position = self._book.positions.get(partition)
        if position is None:
            return first
        if first <= position <= end:
            return position
        log.error(
            "alerts from offset %d of partition %d on are lost: the log holds %d to %d", position, partition, first, end
        )
        self.status.alerts["lost"] += max(0, first - position)
        return first

    def _take(self, partition: int, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        now_ms = self._clock()
        for record in records:
            self.status.alerts[self._take_one(record, now_ms)] += 1
        self._book.took(partition, records[-1].offset + 1)

    def _take_one(self, record: ConsumerRecord[bytes, bytes], now_ms: int) -> str:
        value = record.value or b""
        try:
            if len(value) > ALERT_BYTES_MAX:
                raise ValueError(f"larger than {ALERT_BYTES_MAX} bytes")
            alert = ALERT.validate_json(value)
        except ValueError as error:
            where = f"{record.topic}/{record.partition}/{record.offset}"
            log.error("%s cannot be read as an alert and is not delivered (%s)", where, type(error).__name__)
            return "malformed"
        wanted = [name for name, lane in self._lanes.items() if lane.endpoint.wants(alert)]
        for name in wanted:
            webhook_id, at_ms = webhook_id_of(alert), to_epoch_ms(alert.at)
            self._book.take(name, webhook_id, value.decode(), alert_at_ms=at_ms, now_ms=now_ms)
        return "wanted" if wanted else "unwanted"

    def _hear(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """What others wrote to the deliveries topic; raises SupersededError where that is a newer claim."""
        for record in records:
            key = _text(record.key)
            if key == CLAIM_KEY and self._claimed_at is not None and record.offset > self._claimed_at:
                raise SupersededError
            if key.startswith(REPLAY_PREFIX):
                self._book.restore(key, record.value)
        self._read_to = records[-1].offset + 1
        self._book.replay_asked(self._clock())

    def _count_lag(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        ends = {partition.partition: consumer.highwater(partition) for partition in partitions}
        if None not in ends.values():
            positions = self._book.positions
            self.status.lag_records = sum(max(0, end - positions.get(number, 0)) for number, end in ends.items())

    def _wake(self) -> None:
        for lane in self._lanes.values():
            lane.wake()

    def _made_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._brokers.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",  # a position that the log does not hold is an error, not another position
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
