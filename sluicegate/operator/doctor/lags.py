"""Looks at how far the workers and the sink are, by the positions that their groups commit."""

from collections.abc import Mapping
from typing import Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluicegate_schemas.topics import STATE, USAGE, Topic

from ...errors import TopicsMissingError
from ..groups import SINK_GROUP, WORKER_GROUP, group_lag
from ..system import System
from .finding import Finding, broken, warning, well

LAG_RECORDS_MAX: Final = 100_000
"""Records behind from which on somebody should look."""


class Groups(NamedTuple):
    """The consumer groups of the workers and of the sink."""

    worker: str = WORKER_GROUP
    sink: str = SINK_GROUP

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As workers and sink are told: SLUICEGATE_GROUP, SLUICEGATE_SINK_GROUP."""
        worker, sink = environment.get("SLUICEGATE_GROUP"), environment.get("SLUICEGATE_SINK_GROUP")
        return cls(worker or WORKER_GROUP, sink or SINK_GROUP)


async def check_lags(
    system: System, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, groups: Groups
) -> list[Finding]:
    """The worker on usage, the sink on state. Raises KafkaError where the broker is away."""
    worker, sink = groups
    return [
        await _check(system, admin, consumer, "worker", worker, USAGE, "start workers: faust -A streams.app worker"),
        await _check(system, admin, consumer, "sink", sink, STATE, "start the sink: faust -A clickhouse.sink worker"),
    ]


async def _check(
    system: System,
    admin: AIOKafkaAdminClient,
    consumer: AIOKafkaConsumer,
    what: str,
    group: str,
    topic: Topic,
    remedy: str,
) -> Finding:
    try:
        found = await group_lag(admin, consumer, group, system.topic(topic))
    except TopicsMissingError:
        return broken(what, f"{system.topic(topic)} is missing", remedy)
    except KafkaError as error:
        return warning(what, f"the group {group} may not be seen: {error}", "use the operator's role")
    return judge(what, group, found.members, found.lag_records, remedy)


def judge(what: str, group: str, members: int, lag: int, remedy: str) -> Finding:
    """What members and lag mean."""
    detail = f"{members} in the group {group}, {lag:,} records behind"
    if not members:
        return broken(what, detail, remedy)
    if lag > LAG_RECORDS_MAX:
        return warning(what, detail, f"look at its /readyz (docs/health.md); if it stays, add a {what}")
    return well(what, detail)
