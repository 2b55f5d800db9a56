"""The simulator's Kafka is held against the real one: the same operations, and what was seen must be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError, for_code
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from stack.kafka import Kafka
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


async def send_batch(kit: Kit, topic: str, pairs: list[Pair]) -> int:
    """Appends one batch; returns its first offset."""
    batch = kit.producer.create_batch()
    for key, value in pairs:
        batch.append(key=key, value=value, timestamp=None, headers=[])
    return int((await (await kit.producer.send_batch(batch, topic, partition=0))).offset)


def pairs(*keys: str, value: bytes | None = b"value") -> list[Pair]:
    return [(key.encode(), value) for key in keys]


async def offsets(kit: Kit) -> list[Any]:
    """A batch stands together, single records follow each other."""
    topic = await kit.topic("offsets")
    seen: list[Any] = [await send_batch(kit, topic, pairs("a", "b", "c"))]
    sent = [await kit.producer.send(topic, value=bytes([n]), key=None, partition=0) for n in range(4)]
    seen += [(await future).offset for future in sent]
    return [*seen, await send_batch(kit, topic, pairs("a", "d")), await read(kit, topic)]


async def log_time(kit: Kit) -> list[Any]:
    """All records of a batch have one time, the broker's, and it does not fall."""
    topic = await kit.topic("time")
    for _ in range(3):
        await send_batch(kit, topic, pairs("a", "b"))
    tp, consumer = TopicPartition(topic, 0), kit.consumer()
    await consumer.start()
    consumer.assign([tp])
    consumer.seek(tp, 0)
    times: list[int] = []
    while len(times) < 6:
        for run in (await consumer.getmany(tp, timeout_ms=200)).values():
            times += [record.timestamp for record in run]
    await consumer.stop()
    return [[times[n] == times[n + 1] for n in (0, 2, 4)], times == sorted(times)]


async def retries(kit: Kit) -> list[Any]:
    """A batch that is sent again stands once; what is remembered of it, and what is not."""
    topic = await kit.topic("retries")
    producer = await kit.new_producer_id()
    seen: list[Any] = [await kit.produce_raw(topic, producer, 0, pairs("a", "b")) for _ in range(2)]
    seen += [await kit.produce_raw(topic, producer, sequence, pairs("x")) for sequence in range(2, 8)]
    seen += [await kit.produce_raw(topic, producer, sequence, pairs("x")) for sequence in (7, 3)]
    seen.append(await kit.produce_raw(topic, producer, 0, pairs("a", "b")))
    seen.append(await kit.produce_raw(topic, producer, 20, pairs("late")))
    other = await kit.new_producer_id()
    seen.append(await kit.produce_raw(topic, other, 5, pairs("a producer that nobody knows begins anywhere")))
    return [*seen, await read(kit, topic)]


async def too_large(kit: Kit) -> list[Any]:
    """A batch that is too large is refused, and leaves nothing."""
    topic = await kit.topic("large")
    producer = await kit.new_producer_id()
    fits, does_not = b"v" * (BATCH_BYTES_MAX // 2), b"v" * (BATCH_BYTES_MAX + 1)
    seen: list[Any] = [
        await kit.produce_raw(topic, producer, 0, [(b"a", fits)]),
        await kit.produce_raw(topic, producer, 1, [(b"a", does_not)]),
        await kit.produce_raw(topic, producer, 1, [(b"a", fits), (b"b", fits)]),
        await kit.produce_raw(topic, producer, 1, [(b"b", fits)]),
    ]
    return [*seen, [key for _, key, _ in await read(kit, topic)]]


async def compaction(kit: Kit) -> list[Any]:
    """The newest of each key stays at its offset, tombstones too, and nothing of the newest segment goes."""
    topic = await kit.topic("compact", is_compacted=True)
    await send_batch(kit, topic, pairs("a", "b", "c", "a"))
    await kit.next_segment()
    await send_batch(kit, topic, [*pairs("b", value=b"new"), *pairs("c", value=None), *pairs("d")])
    await kit.next_segment()
    await send_batch(kit, topic, pairs("d", "e", "e"))
    await kit.compacted(topic, 8)
    return [await read(kit, topic), await read(kit, topic, 1)]


async def holes(kit: Kit) -> list[Any]:
    """A transaction's end takes an offset that holds no record; a reader passes it, also at the end of the log."""
    topic = await kit.topic("holes")
    await send_batch(kit, topic, pairs("a"))
    await kit.hole(topic, (b"b", b"in a transaction"))
    seen: list[Any] = [await read(kit, topic)]
    return [*seen, await send_batch(kit, topic, pairs("c")), await read(kit, topic), await read(kit, topic, 2)]


async def retention(kit: Kit) -> list[Any]:
    """A reader whose position retention has passed goes on at the start."""
    topic = await kit.topic("retained")
    await send_batch(kit, topic, pairs("a", "b"))
    await send_batch(kit, topic, pairs("c"))
    await kit.trim(topic, 2)
    return [await read(kit, topic)]


async def until(holds: Callable[[], bool]) -> None:
    """Waits, on whichever loop's time."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)


async def groups(kit: Kit) -> list[Any]:
    """Generations rise with each change; a commit of an older one is refused, and who tried joins anew."""
    topic = await kit.topic("group")
    first = await kit.member(topic)
    await until(lambda: first.assignments[-1:] == [(1, 2)])
    seen: list[Any] = [await first.commit(1)]
    second = await kit.member(topic)
    await until(lambda: first.assignments[-1][1] == 1 and second.assignments[-1:] != [])
    generation = first.assignments[-1][0]
    seen += [generation == second.assignments[-1][0], generation > 1, second.assignments[-1][1]]
    seen += [await second.commit(generation), await second.commit(generation - 1)]
    await until(lambda: second.assignments[-1][0] > generation and first.assignments[-1][0] > generation)
    seen += [second.assignments[-1][0] - generation, second.assignments[-1][1]]
    await second.leave()
    await until(lambda: first.assignments[-1][1] == 2)
    seen.append(first.assignments[-1][0] - generation)
    await first.leave()
    return seen


SCRIPTS = [offsets, log_time, retries, too_large, compaction, holes, retention, groups]


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
        response = await self._client.send(self._client.get_random_node(), request)
        code, offset = response.topics[0][1][0][1:3]
        return int(offset) if code == 0 else for_code(code).__name__

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


async def seen_on_the_real_one(script: Callable[[Kit], Awaitable[list[Any]]], kafka: Kafka, prefix: str) -> list[Any]:
    async with RealKit(kafka.bootstrap, prefix) as kit:
        return await script(kit)


def seen_on_the_twin(script: Callable[[Kit], Awaitable[list[Any]]], seed: int) -> list[Any]:
    with World(seed) as world:

        async def main() -> list[Any]:
            return await script(TwinKit(world))

        task = world.process("script").run(main)
        world.run_until(task.done, limit_ms=60_000)
        return task.result()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_twin_answers_as_the_real_broker_does(
    script: Callable[[Kit], Awaitable[list[Any]]], kafka: Kafka, fresh_prefix: str
) -> None:
    real = asyncio.run(seen_on_the_real_one(script, kafka, fresh_prefix))
    assert real
    for seed in range(5):
        assert seen_on_the_twin(script, seed) == real
