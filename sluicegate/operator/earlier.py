"""Finds a command that was sent before, by its id."""

from datetime import datetime
from typing import NamedTuple

from aiokafka import TopicPartition
from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.outputs import Position
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS

from ..topic_partitions import partitions_of
from .logs import read_between, reader
from .system import System


class Earlier(NamedTuple):
    """A command and where it stands; ``logged_at_ms`` is when the broker appended it (UTC epoch)."""

    command: AnyCommand
    position: Position
    logged_at_ms: int


async def find_command(
    system: System, account_id: str, command_id: str, *, since: datetime | None = None
) -> Earlier | None:
    """The first command of the account with that id, of those logged at ``since`` or later; None: of all.

    Raises TopicsMissingError and KafkaError.
    """
    topic = system.topic(ACCOUNTS)
    home = TopicPartition(topic, partition_of(account_id, len(await partitions_of(system.brokers, [topic]))))
    needle = command_id.encode()
    async with reader(system.brokers) as consumer:
        consumer.assign([home])
        begins, ends = await consumer.beginning_offsets([home]), await consumer.end_offsets([home])
        if since is not None:
            found = (await consumer.offsets_for_times({home: to_epoch_ms(since)}))[home]
            begins = {home: ends[home] if found is None else found.offset}
        async for record in read_between(consumer, begins, ends):
            if record.value is None or needle not in record.value:
                continue
            try:
                command = ACCOUNT_COMMAND.validate_json(record.value)
            except ValidationError:
                continue
            if (command.command_id, command.account_id) == (command_id, account_id):
                position = Position(topic=ACCOUNTS.name, partition=home.partition, offset=record.offset)
                return Earlier(command, position, record.timestamp)
    return None
