"""What operators last gave organizations of their own, from the commands that acted."""

from aiokafka import TopicPartition
from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, OrganizationPut
from sluicegate_schemas.outputs import TrailEntry
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS, TRAIL

from ..topic_partitions import partitions_of
from .logs import read_between, reader
from .system import System


async def own_values(system: System, account_id: str, *, before: int | None = None) -> dict[str, OrganizationPut]:
    """The last ``organization.put`` that acted, for each organization of the account;
    with ``before`` of the commands that stand below that offset.

    The trail says which acted and where they stand; both topics are kept for ever. Raises KafkaError.
    """
    trail, accounts = system.topic(TRAIL), system.topic(ACCOUNTS)
    count = len(await partitions_of(system.brokers, [trail]))
    home = partition_of(account_id, count)
    offsets: dict[int, str] = {}
    found: dict[str, OrganizationPut] = {}
    async with reader(system.brokers) as consumer:
        for topic in (trail, accounts):
            tp = TopicPartition(topic, home)
            begins, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
            async for record in read_between(consumer, begins, ends):
                if record.value is None or account_id.encode() not in record.value:
                    continue
                try:
                    if topic == trail:
                        entry = TrailEntry.model_validate_json(record.value)
                        if before is None or entry.source.offset < before:
                            offsets[entry.source.offset] = entry.command_id
                    elif record.offset in offsets:
                        command = ACCOUNT_COMMAND.validate_json(record.value)
                        if isinstance(command, OrganizationPut) and command.account_id == account_id:
                            found[command.organization_id] = command
                except ValidationError:
                    continue
    return found
