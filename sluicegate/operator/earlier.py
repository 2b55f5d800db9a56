"""Finds a command that was sent before, by its id."""

import asyncio
from datetime import datetime
from typing import Final, NamedTuple

from aiokafka import TopicPartition
from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.outputs import Position, TrailEntry
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS, TRAIL

from ..topic_partitions import partitions_of
from .logs import read_between, reader
from .system import System

_AGAIN_S: Final = 0.1


class Earlier(NamedTuple):
    """A command and where it stands; ``logged_at_ms`` is when the broker appended it (UTC epoch)."""

    command: AnyCommand
    position: Position
    logged_at_ms: int


async def find_command(
    system: System, account_id: str, command_id: str, *, since: datetime | None = None, wait_s: float = 0
) -> Earlier | None:
    """The command of the account with that id, of those logged at ``since`` or later; None: of all.

    Where it stands several times, as one that was refused for what it was made from and was tried again: the one that
    acted; the last where the trail names none within ``wait_s`` seconds. Raises TopicsMissingError and KafkaError.
    """
    found = await _attempts(system, account_id, command_id, since)
    if len(found) > 1 and (offset := await _acted(system, found, wait_s)) is not None:
        return next((one for one in found if one.position.offset == offset), found[-1])
    return found[-1] if found else None


async def _acted(system: System, attempts: list[Earlier], wait_s: float) -> int | None:
    """The offset of the one of a command's attempts that the trail names."""
    first, topic = attempts[0], system.topic(TRAIL)
    home = TopicPartition(topic, first.position.partition)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    async with reader(system.brokers) as consumer:
        begin = (await consumer.offsets_for_times({home: first.logged_at_ms}))[home]
        while True:
            ends = await consumer.end_offsets([home])
            begins = ends if begin is None else {home: begin.offset}
            async for record in read_between(consumer, begins, ends):
                if record.value is None or first.command.command_id.encode() not in record.value:
                    continue
                try:
                    entry = TrailEntry.model_validate_json(record.value)
                except ValidationError:
                    continue
                if (entry.command_id, entry.account_id) == (first.command.command_id, first.command.account_id):
                    return entry.source.offset
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(_AGAIN_S)
            begin = begin or (await consumer.offsets_for_times({home: first.logged_at_ms}))[home]


async def _attempts(system: System, account_id: str, command_id: str, since: datetime | None) -> list[Earlier]:
    """All that stand in the log under that id, in its order."""
    attempts: list[Earlier] = []
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
                attempts.append(Earlier(command, position, record.timestamp))
    return attempts
