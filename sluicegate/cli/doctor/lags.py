"""Looks at how far the workers and the sink are, by the positions that their groups commit."""

from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluicegate_schemas.topics import STATE, USAGE, Topic

from ..session import Session
from .finding import Finding, broken, warning, well

LAG_RECORDS_MAX: Final = 100_000
"""Records behind from which on somebody should look."""
WORKER_GROUP: Final = "sluicegate-workers"
SINK_GROUP: Final = "sluicegate-sink"


async def check_lags(session: Session, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> list[Finding]:
    """The worker on usage, the sink on state. Raises KafkaError where the broker is away."""
    worker = session.environment.get("SLUICEGATE_GROUP") or WORKER_GROUP
    sink = session.environment.get("SLUICEGATE_SINK_GROUP") or SINK_GROUP
    return [
        await _check(session, admin, consumer, "worker", worker, USAGE, "start workers: faust -A streams.app worker"),
        await _check(session, admin, consumer, "sink", sink, STATE, "start the sink: faust -A clickhouse.sink worker"),
    ]


async def _check(
    session: Session,
    admin: AIOKafkaAdminClient,
    consumer: AIOKafkaConsumer,
    what: str,
    group: str,
    topic: Topic,
    remedy: str,
) -> Finding:
    partitions = sorted(tp for tp in (await _partitions(admin, session.topic(topic))))
    if not partitions:
        return broken(what, f"{session.topic(topic)} is missing", remedy)
    ends = await consumer.end_offsets(partitions)
    begins = await consumer.beginning_offsets(partitions)
    try:
        committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
        members = len((await admin.describe_consumer_groups([group]))[0].groups[0][5])
    except KafkaError as error:
        return warning(what, f"the group {group} may not be seen: {error}", "use the operator's role")
    positions = {tp: at.offset for tp, at in committed.items() if at.offset >= 0}
    return judge(what, group, members, lag_of(begins, ends, positions), remedy)


def lag_of(
    begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]
) -> int:
    """Records behind, over all partitions; without a position all that stand."""
    return sum(max(0, end - max(begins[tp], positions.get(tp, 0))) for tp, end in ends.items())


def judge(what: str, group: str, members: int, lag: int, remedy: str) -> Finding:
    """What members and lag mean."""
    detail = f"{members} in the group {group}, {lag:,} records behind"
    if not members:
        return broken(what, detail, remedy)
    if lag > LAG_RECORDS_MAX:
        return warning(what, detail, f"look at its /readyz (docs/health.md); if it stays, add a {what}")
    return well(what, detail)


async def _partitions(admin: AIOKafkaAdminClient, name: str) -> list[TopicPartition]:
    topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    return [TopicPartition(name, partition["partition"]) for partition in topics.get(name, [])]
