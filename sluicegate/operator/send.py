"""Sends one operator command and waits until the worker obeyed or refused it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic import ValidationError

from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.outputs import Position, Reject, TrailEntry
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS, REJECTS, TRAIL

from ..brokers import Brokers
from ..consumers import stop_consumer
from ..topic_partitions import partitions_of
from .system import System
from .topic_io import appender

WAIT_S_DEFAULT: Final = 15.0
CATCH_UP_S_MAX: Final = 10.0
_POLL_MS: Final = 100


class Sent(NamedTuple):
    """What became of a command.

    "applied": it acted, now or, with ``was_known``, before, and ``trail`` says what it changed. "refused": nothing
    changed, and ``reject`` says why. "unconfirmed": no answer came in time. "sent": nobody waited.
    """

    outcome: Literal["applied", "refused", "unconfirmed", "sent"]
    position: Position | None
    """Where the command stands; None where it was known."""
    trail: TrailEntry | None = None
    reject: Reject | None = None
    was_known: bool = False


async def send(
    brokers: Brokers,
    command: AnyCommand,
    *,
    topic_prefix: str,
    wait_s: float = WAIT_S_DEFAULT,
    may_be_known: bool = False,
) -> Sent:
    """Appends ``command`` to its account's partition and waits up to ``wait_s`` seconds (0: not) for the answer.

    ``may_be_known`` looks first whether a command of that id acted before: a worker passes over it without a word.
    Raises TopicsMissingError, and KafkaError where the broker fails: then send it again, it acts once.
    """
    accounts, trail, rejects = (topic_prefix + topic.name for topic in (ACCOUNTS, TRAIL, REJECTS))
    partitions = await partitions_of(brokers, [accounts, trail, rejects])
    home = partition_of(command.account_id, sum(tp.topic == accounts for tp in partitions))
    answers = [tp for tp in partitions if tp.topic == rejects or tp == TopicPartition(trail, home)]
    consumer = AIOKafkaConsumer(**brokers.options(), group_id=None, auto_offset_reset="earliest")
    try:
        await consumer.start()
        ends = await consumer.end_offsets(answers)
        trail_tp = TopicPartition(trail, home)
        if may_be_known and (entry := await _find(consumer, trail_tp, ends[trail_tp], command)) is not None:
            return Sent("applied", None, trail=entry, was_known=True)
        async with appender(brokers) as out:
            value = command.model_dump_json(exclude_none=True).encode()
            offset = await out.append_one(accounts, home, command.account_id.encode(), value)
        position = Position(topic=ACCOUNTS.name, partition=home, offset=offset)
        if wait_s <= 0:
            return Sent("sent", position)
        return await _answer(consumer, ends, command, position, wait_s)
    finally:
        await stop_consumer(consumer)


async def answer_of(
    system: System, command: AnyCommand, position: Position, logged_at_ms: int, *, wait_s: float
) -> Sent:
    """What became of ``command``, which stands at ``position`` since ``logged_at_ms`` (UTC epoch): what trail and
    rejects say by now, and for ``wait_s`` seconds. Raises TopicsMissingError and KafkaError."""
    trail, rejects = system.topic(TRAIL), system.topic(REJECTS)
    home = TopicPartition(trail, position.partition)
    partitions = await partitions_of(system.brokers, [trail, rejects])
    answers = [tp for tp in partitions if tp.topic == rejects or tp == home]
    consumer = AIOKafkaConsumer(**system.brokers.options(), group_id=None, auto_offset_reset="earliest")
    try:
        await consumer.start()
        ends = await consumer.end_offsets(answers)
        since = await consumer.offsets_for_times(dict.fromkeys(answers, logged_at_ms))
        begins = {tp: ends[tp] if at is None else at.offset for tp, at in since.items()}
        sent = await _answer(consumer, begins, command, position, wait_s, ends)
        return sent._replace(was_known=True)
    finally:
        await stop_consumer(consumer)


async def _find(
    consumer: AIOKafkaConsumer, partition: TopicPartition, end: int, command: AnyCommand
) -> TrailEntry | None:
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    while await consumer.position(partition) < end:
        for record in (await consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, ()):
            if (entry := _entry(record, command)) is not None:
                return entry
    return None


async def _answer(
    consumer: AIOKafkaConsumer,
    begins: Mapping[TopicPartition, int],
    command: AnyCommand,
    position: Position,
    wait_s: float,
    ends: Mapping[TopicPartition, int] | None = None,
) -> Sent:
    """Reads until ``wait_s`` are over; with ``ends`` at least up to there, if that takes no ``CATCH_UP_S_MAX``."""
    consumer.assign(list(begins))
    for partition, begin in begins.items():
        consumer.seek(partition, begin)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    given_up = deadline + CATCH_UP_S_MAX
    while (now := loop.time()) < deadline or (ends and now < given_up and await _is_behind(consumer, ends)):
        found: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]
        found = await consumer.getmany(*begins, timeout_ms=_POLL_MS)
        for record in (record for records in found.values() for record in records):
            if (entry := _entry(record, command)) is not None:
                return Sent("applied", position, trail=entry)
            if (reject := _reject(record, position)) is not None:
                return Sent("refused", position, reject=reject)
    return Sent("unconfirmed", position)


async def _is_behind(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return any([await consumer.position(partition) < end for partition, end in ends.items()])


def _entry(record: ConsumerRecord[bytes, bytes], command: AnyCommand) -> TrailEntry | None:
    if record.value is None or command.command_id.encode() not in record.value:
        return None
    try:
        entry = TrailEntry.model_validate_json(record.value)
    except ValidationError:
        return None
    is_it = (entry.command_id, entry.account_id) == (command.command_id, command.account_id)
    return entry if is_it else None


def _reject(record: ConsumerRecord[bytes, bytes], position: Position) -> Reject | None:
    if record.value is None or b'"accounts"' not in record.value:
        return None
    try:
        reject = Reject.model_validate_json(record.value)
    except ValidationError:
        return None
    return reject if reject.source == position else None
