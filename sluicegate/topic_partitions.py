"""Which partitions a topic has, asked in a way that never creates it."""

from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from .brokers import Brokers
from .errors import TopicsMissingError


async def partitions_of(brokers: Brokers, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of ``topics`` (full names), in their order.

    Asks for the list of all topics: asking for one by its name would create it on a broker that does so. Raises
    TopicsMissingError, and KafkaError where the broker is away.
    """
    admin = AIOKafkaAdminClient(**brokers.options())
    try:
        await admin.start()
        found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    partitions: list[TopicPartition] = []
    for topic in topics:
        if not found.get(topic):
            raise TopicsMissingError(f"topic {topic} does not exist, or may not be read: create the topics first")
        numbers = sorted(partition["partition"] for partition in found[topic])
        partitions += [TopicPartition(topic, number) for number in numbers]
    return partitions
