"""What operators last gave organizations of their own: the commands that put them, and what became of those."""

from datetime import datetime, timedelta
from typing import Final

from aiokafka import TopicPartition
from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, OrganizationPut
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Position, TrailEntry
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS, TRAIL

from ..errors import SluicegateError
from ..topic_partitions import partitions_of
from .logs import read_between, reader
from .organizations import Put
from .send import answer_of
from .system import System

UNANSWERED: Final = timedelta(days=7)
"""A command that has no answer for so long was refused: the answer is gone by and by, since rejects are."""


class PendingError(SluicegateError):
    """An earlier command has no answer yet: what a change would change is not known."""


async def read_puts(system: System, account_id: str) -> list[Put]:
    """All ``organization.put`` of an account in the order of the log.

    The trail says which acted and where they stand; both topics are kept for ever. A worker obeys in the log's order:
    what stands below a command that acted was obeyed or refused. Raises TopicsMissingError and KafkaError.
    """
    trail, accounts = system.topic(TRAIL), system.topic(ACCOUNTS)
    home = partition_of(account_id, len(await partitions_of(system.brokers, [trail])))
    acted: set[int] = set()
    ids: set[str] = set()
    reached = -1
    found: list[Put] = []
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
                        acted.add(entry.source.offset)
                        ids.add(entry.command_id)
                        reached = max(reached, entry.source.offset)
                        continue
                    command = ACCOUNT_COMMAND.validate_json(record.value)
                except ValidationError:
                    continue
                if isinstance(command, OrganizationPut) and command.account_id == account_id:
                    # A worker passes over a repeat without a word.
                    is_over = record.offset <= reached or command.command_id in ids
                    position = Position(topic=ACCOUNTS.name, partition=home, offset=record.offset)
                    outcome = True if record.offset in acted else (False if is_over else None)
                    found.append(Put(command, position, record.timestamp, outcome))
    return found


async def own_values(system: System, account_id: str) -> dict[str, Put]:
    """The last ``organization.put`` that acted, for each organization of the account. Raises as ``read_puts``."""
    return {one.command.organization_id: one for one in await read_puts(system, account_id) if one.acted}


async def standing_put(
    system: System, account_id: str, organization_id: str, *, now: datetime, wait_s: float
) -> Put | None:
    """What a change of the organization changes: the last ``organization.put`` that acted, once every later one has its
    answer, which is waited for ``wait_s`` seconds each. Raises PendingError, and as ``read_puts``."""
    standing: Put | None = None
    for put in await read_puts(system, account_id):
        if put.command.organization_id != organization_id or put.acted is False:
            continue
        if put.acted is None:
            sent = await answer_of(system, put.command, put.position, put.logged_at_ms, wait_s=wait_s)
            if sent.outcome == "unconfirmed" and from_epoch_ms(put.logged_at_ms) > now - UNANSWERED:
                raise PendingError(f"an earlier change of {organization_id} has no answer yet")
            if sent.trail is None or sent.trail.source != put.position:  # refused, or another of its id acted
                continue
        standing = put
    return standing
