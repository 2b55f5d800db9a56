"""Two Kafkas behind one face: the real broker, and the simulator's twin of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError, NotLeaderForPartitionError, for_code
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from tests.sim import kafka_twin
from tests.sim.log import NewRecord, TopicSettings
from tests.sim.loop import current
from tests.sim.membership import Membership
from tests.sim.world import World

BATCH_BYTES_MAX = 3_000
LIMIT_S = 30.0
SESSION_S = 2.0
Pair = tuple[bytes | None, bytes | None]


class Member(Protocol):
    """A consumer in a group of two partitions."""

    assignments: list[tuple[int, int]]
    """(generation, number of partitions) of each assignment."""

    async def commit(self, generation: int) -> str:
        """Commits as of ``generation``; "" or the error's name."""

    async def leave(self) -> None:
        """Leaves the group."""


class Kit(Protocol):
    """One of the two Kafkas. Topics have two partitions, of which the first is used."""

    producer: Any
    consumer: Callable[..., Any]

    async def topic(self, name: str, *, is_compacted: bool = False) -> str:
        """Makes a topic; returns its full name."""

    async def produce_raw(self, topic: str, producer: int, sequence: int, pairs: list[Pair]) -> int | str:
        """One try of an idempotent producer: the first offset, or the error's name."""

    async def new_producer_id(self) -> int:
        """An idempotent producer's id."""

    async def next_segment(self) -> None:
        """What is appended from now on is in another segment than what was before."""

    async def compacted(self, topic: str, below: int) -> None:
        """The log cleaner has passed; fewer than ``below`` records are left."""

    async def hole(self, topic: str, pair: Pair) -> None:
        """A transaction with one record."""

    async def trim(self, topic: str, before: int) -> None:
        """Retention removes what is before that offset."""

    async def member(self, topic: str) -> Member:
        """A new member of the topic's group."""


async def read(kit: Kit, topic: str, start: int = 0) -> list[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of all that a reader sees from ``start`` on, who ends where the log ends."""
    tp = TopicPartition(topic, 0)
    consumer = kit.consumer()
    await consumer.start()
    try:
        consumer.assign([tp])
        consumer.seek(tp, start)
        end = (await consumer.end_offsets([tp]))[tp]
        seen = []
        while await consumer.position(tp) < end:
            for run in (await consumer.getmany(tp, timeout_ms=200)).values():
                seen += [(record.offset, record.key, record.value) for record in run]
        return [*seen, (end, None, None), ((await consumer.beginning_offsets([tp]))[tp], None, None)]
    finally:
        await consumer.stop()


class RealMember:
    """A consumer of aiokafka."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.assignments: list[tuple[int, int]] = []
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=topic,
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=int(SESSION_S * 1000),
            partition_assignment_strategy=[StickyPartitionAssignor],
        )
        member = self

        class Listener(ConsumerRebalanceListener):
            async def on_partitions_revoked(self, revoked: Any) -> None: ...

            async def on_partitions_assigned(self, assigned: Any) -> None:
                member.assignments.append((member._consumer._coordinator.generation, len(assigned)))

        self._consumer.subscribe([topic], listener=Listener())

    async def start(self) -> None:
        await self._consumer.start()

    async def commit(self, generation: int) -> str:
        coordinator = self._consumer._coordinator
        own, coordinator.generation = coordinator.generation, generation
        try:
            await self._consumer.commit(dict.fromkeys(self._consumer.assignment(), 0))
        except CommitFailedError:
            return "refused"
        finally:
            coordinator.generation = own
        return ""

    async def leave(self) -> None:
        await self._consumer.stop()


class RealKit:
    """The real broker, by aiokafka and its protocol."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._client = AIOKafkaClient(bootstrap_servers=bootstrap)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self.producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=1)

    async def __aenter__(self) -> RealKit:
        for part in (self._client.bootstrap, self._admin.start, self.producer.start):
            await part()
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in (self.producer.stop, self._admin.close, self._client.close):
            await part()

    def consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
        )

    async def topic(self, name: str, *, is_compacted: bool = False) -> str:
        settings = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(BATCH_BYTES_MAX)}
        if is_compacted:
            backoff = ConfigResource(ConfigResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "200"})
            await self._admin.alter_configs([backoff])
            settings |= {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
        await self._admin.create_topics([NewTopic(self._prefix + name, 2, 1, topic_configs=settings)])
        while not (await self._client.fetch_all_metadata()).partitions_for_topic(self._prefix + name):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)
        await self.producer.partitions_for(self._prefix + name)
        return self._prefix + name

    async def new_producer_id(self) -> int:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        return int((await self._client.send(self._client.get_random_node(), request)).producer_id)

    async def produce_raw(self, topic: str, producer: int, sequence: int, pairs: list[Pair]) -> int | str:
        builder = BatchBuilder(1_000_000, 0, is_transactional=False)
        for key, value in pairs:
            builder.append(timestamp=None, key=key, value=value, headers=[])
        builder._set_producer_state(producer, 0, sequence)
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=5_000, topics=[(topic, [(0, builder._build())])]
        )
        async with asyncio.timeout(LIMIT_S):
            while True:
                response = await self._client.send(self._client.get_random_node(), request)
                code, offset = response.topics[0][1][0][1:3]
                if code != NotLeaderForPartitionError.errno:
                    return int(offset) if code == 0 else for_code(code).__name__
                await asyncio.sleep(0.05)  # a topic that was made just now: nobody leads it yet

    async def next_segment(self) -> None:
        await asyncio.sleep(0.3)  # the broker's own clock ends a segment

    async def compacted(self, topic: str, below: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(await read(self, topic)) - 2 >= below:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.2)

    async def hole(self, topic: str, pair: Pair) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, transactional_id=topic)
        await producer.start()
        async with producer.transaction():
            sent = await producer.send_and_wait(topic, key=pair[0], value=pair[1], partition=0)
        await producer.stop()
        async with asyncio.timeout(LIMIT_S):
            while (await read(self, topic))[-2][0] < sent.offset + 2:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.05)

    async def trim(self, topic: str, before: int) -> None:
        await self._admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})

    async def member(self, topic: str) -> Member:
        member = RealMember(self._bootstrap, topic)
        await member.start()
        return member


class TwinMember:
    """The twin of a consumer in a group."""

    def __init__(self, topic: str) -> None:
        self.assignments: list[tuple[int, int]] = []
        self._partitions = 0
        self._member = Membership(
            current().connection,
            topic,
            name="member",
            topics=(topic,),
            session_s=SESSION_S,
            revoke=self._revoke,
            assigned=self._assigned,
            assign=self._assign,
        )
        self._running = asyncio.ensure_future(self._member.run())

    async def _revoke(self) -> None: ...

    def _assigned(self, generation: int, partitions: list[Any]) -> None:
        self._partitions = len(partitions)

    async def _assign(self, generation: int) -> None:
        self.assignments.append((generation, self._partitions))

    async def commit(self, generation: int) -> str:
        own, self._member._generation = self._member._generation, generation
        accepted = await self._member.commit({})
        self._member._generation = own
        return "" if accepted else "refused"

    async def leave(self) -> None:
        self._running.cancel()
        await self._member.leave()


class TwinKit:
    """The simulator's Kafka; made in a process of its world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._broker = world.broker
        self.producer = kafka_twin.Producer(linger_ms=1)
        self.consumer = kafka_twin.Consumer

    async def topic(self, name: str, *, is_compacted: bool = False) -> str:
        self._broker.create_topic(name, TopicSettings(2, is_compacted, batch_bytes_max=BATCH_BYTES_MAX))
        await self.producer.start()
        return name

    async def new_producer_id(self) -> int:
        return self._broker.new_producer_id()

    async def produce_raw(self, topic: str, producer: int, sequence: int, pairs: list[Pair]) -> int | str:
        records = [NewRecord(*pair) for pair in pairs]
        produce = self._broker.produce
        try:
            return int((await current().connection.request(lambda: produce(topic, 0, records, producer, sequence)))[0])
        except KafkaError as error:
            return type(error).__name__

    async def next_segment(self) -> None:
        await asyncio.sleep(0.3)

    async def compacted(self, topic: str, below: int) -> None:
        self._broker.compact(topic, 0)
        assert len(self._broker.records(topic, 0)) < below

    async def hole(self, topic: str, pair: Pair) -> None:
        self._broker.append(topic, 0, [NewRecord(*pair)])
        self._broker.log(topic, 0).leave_hole()

    async def trim(self, topic: str, before: int) -> None:
        self._broker.log(topic, 0).retain_from(before)

    async def member(self, topic: str) -> Member:
        return TwinMember(topic)
