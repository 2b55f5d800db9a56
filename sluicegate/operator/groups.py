"""How far the workers and the sink are, and who owns which partition: by what their consumer groups say.

Every function raises KafkaError where the broker is away, or does not show the group.
"""

from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from sluicegate_schemas.bounds import Count, Record
from sluicegate_schemas.topics import STATE, USAGE

from ..errors import TopicsMissingError
from .logs import reader
from .system import System

WORKER_GROUP: Final = "sluicegate-workers"
SINK_GROUP: Final = "sluicegate-sink"
_MEMBERS: Final = 5


class PartitionLag(Record):
    """``owner`` is the client id and host of the member that has the partition, null where none is known to have it.
    ``committed``: up to where it is taken in; null where nothing was ever committed."""

    partition: Count
    owner: str | None
    end: Count
    committed: Count | None
    lag_records: Count


class GroupLag(Record):
    """A consumer group on its topic. ``state`` is Kafka's own word, such as Stable or Empty."""

    group: str
    topic: str
    state: str
    members: Count
    lag_records: Count
    partitions: tuple[PartitionLag, ...]


class Topology(Record):
    """The workers on usage and the sink on state."""

    workers: GroupLag
    sink: GroupLag


async def topology(system: System, *, worker_group: str = WORKER_GROUP, sink_group: str = SINK_GROUP) -> Topology:
    """Who has which partition, and how far behind. Raises TopicsMissingError, too."""
    admin = AIOKafkaAdminClient(**system.brokers.options())
    try:
        await admin.start()
        async with reader(system.brokers) as consumer:
            return Topology(
                workers=await group_lag(admin, consumer, worker_group, system.topic(USAGE)),
                sink=await group_lag(admin, consumer, sink_group, system.topic(STATE)),
            )
    finally:
        await admin.close()


async def group_lag(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str, topic: str) -> GroupLag:
    """A group's members and lags on ``topic`` (full name). Raises TopicsMissingError, too."""
    found = {entry["topic"]: entry["partitions"] for entry in await admin.describe_topics()}
    partitions = sorted(TopicPartition(topic, entry["partition"]) for entry in found.get(topic, []))
    if not partitions:
        raise TopicsMissingError(f"topic {topic} does not exist, or may not be read: create the topics first")
    ends = await consumer.end_offsets(partitions)
    begins = await consumer.beginning_offsets(partitions)
    committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
    positions = {tp: at.offset for tp, at in committed.items() if at.offset >= 0}
    described: Any = (await admin.describe_consumer_groups([group]))[0].groups[0]
    owners = owners_of(described[_MEMBERS])
    return GroupLag(
        group=group,
        topic=topic,
        state=described[2],
        members=len(described[_MEMBERS]),
        lag_records=lag_of(begins, ends, positions),
        partitions=tuple(
            PartitionLag(
                partition=tp.partition,
                owner=owners.get(tp),
                end=ends[tp],
                committed=positions.get(tp),
                lag_records=lag_of(begins, {tp: ends[tp]}, positions),
            )
            for tp in partitions
        ),
    )


def owners_of(members: list[tuple[Any, ...]]) -> dict[TopicPartition, str]:
    """Who has which partition, of Kafka's description of a group's members; a member whose assignment cannot be read
    owns nothing that is known."""
    owners: dict[TopicPartition, str] = {}
    for member in members:
        assignment, host, client = member[-1], member[-3], member[-4]
        try:
            held = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
        except (ValueError, TypeError, UnicodeError):
            continue
        owners |= dict.fromkeys(held, f"{client}@{str(host).removeprefix('/')}")
    return owners


def lag_of(
    begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]
) -> int:
    """Records behind, over all partitions; without a position all that stand."""
    return sum(max(0, end - max(begins[tp], positions.get(tp, 0))) for tp, end in ends.items())
