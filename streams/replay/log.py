"""Reads the past from Kafka, partition by partition, and replays it."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate.brokers import Brokers
from sluicegate.errors import ConfigurationError
from sluicegate.operator.logs import LogRecord, read_between, reader
from sluicegate.topic_partitions import partitions_of
from sluicegate_schemas.bounds import EPOCH_MS_MIN, from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.outputs import Decision
from sluicegate_schemas.replay import BLOCKS_MAX, ReplayReport
from sluicegate_schemas.topics import ACCOUNTS, USAGE

from ..domain.period import month_index, month_start_ms
from .partition import InputTuple, PartitionReplay

COMMANDS_MAX: Final = 1_000_000
"""Commands of one partition, which are held in memory; above it the replay is refused."""
_RECORDS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """What to replay: ``catalogue`` as if it had always been in force, from ``begins_ms`` to before ``ends_ms`` of log
    time; ``tiers`` puts organizations on other tiers than their commands say."""

    catalogue: Catalogue
    begins_ms: int
    ends_ms: int
    tiers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.begins_ms >= self.ends_ms:
            raise ConfigurationError("--from must lie before --to")


async def replay(
    brokers: Brokers, topic_prefix: str, asked: Asked, on_decision: Callable[[Decision], None] | None = None
) -> ReplayReport:
    """Replays all partitions, one after another. Usage is read from the month's first instant on, so that what was used
    before ``begins_ms`` counts. Raises ConfigurationError, TopicsMissingError, and KafkaError where the broker fails.
    """
    catalogue = asked.catalogue.model_copy(update={"effective_at": from_epoch_ms(EPOCH_MS_MIN)})
    usage_topic, accounts_topic = topic_prefix + USAGE.name, topic_prefix + ACCOUNTS.name
    partitions = len(await partitions_of(brokers, [usage_topic]))
    if len(await partitions_of(brokers, [accounts_topic])) != partitions:
        raise ConfigurationError(f"{usage_topic} and {accounts_topic} differ in how many partitions they have")
    replayed = []
    async with reader(brokers) as consumer:
        for number in range(partitions):
            one = PartitionReplay(
                number,
                partitions,
                catalogue,
                [
                    (record.offset, record.timestamp, record.key, _with_tier(record.value, asked.tiers))
                    async for record in _commands(consumer, TopicPartition(accounts_topic, number), asked.ends_ms)
                ],
                begins_ms=asked.begins_ms,
                on_decision=on_decision,
            )
            await _feed(consumer, TopicPartition(usage_topic, number), one, asked)
            one.finish(asked.ends_ms)
            replayed.append(one)
    return _report(replayed, asked)


async def _commands(consumer: AIOKafkaConsumer, tp: TopicPartition, ends_ms: int) -> AsyncIterator[LogRecord]:
    begins, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
    if ends[tp] - begins[tp] > COMMANDS_MAX:
        raise ConfigurationError(f"{tp.topic}/{tp.partition} holds more than {COMMANDS_MAX:,} commands")
    async for record in read_between(consumer, begins, ends):
        if record.timestamp < ends_ms:
            yield record


async def _feed(consumer: AIOKafkaConsumer, tp: TopicPartition, one: PartitionReplay, asked: Asked) -> None:
    """Hands over the usage from the month's first instant to before the end."""
    end = (await consumer.end_offsets([tp]))[tp]
    month_ms = month_start_ms(month_index(asked.begins_ms))
    begins, ends = [await _offset_at(consumer, tp, time_ms, end) for time_ms in (month_ms, asked.ends_ms)]
    waiting: list[InputTuple] = []
    async for record in read_between(consumer, {tp: begins}, {tp: ends}):
        waiting.append((record.offset, record.timestamp, record.key, record.value))
        if len(waiting) >= _RECORDS_AT_ONCE:
            one.feed(waiting)
            waiting = []
    one.feed(waiting)


async def _offset_at(consumer: AIOKafkaConsumer, tp: TopicPartition, time_ms: int, end: int) -> int:
    """The first offset logged at ``time_ms`` or later."""
    found = (await consumer.offsets_for_times({tp: time_ms}))[tp]
    return end if found is None else int(found.offset)


def _with_tier(value: bytes | None, tiers: Mapping[str, str]) -> bytes | None:
    """The command, with the tier that ``tiers`` says where it puts one of those organizations."""
    if not tiers or value is None or b"organization.put" not in value:
        return value
    try:
        command = json.loads(value)
        if command["kind"] == "organization.put" and (tier := tiers.get(command["organization_id"])):
            return json.dumps(command | {"tier": tier}).encode()
    except (ValueError, KeyError, TypeError):
        pass  # no command: the machine refuses it, as it did then
    return value


def _report(replayed: list[PartitionReplay], asked: Asked) -> ReplayReport:
    organizations = sorted(
        (found for one in replayed for found in one.organizations(asked.ends_ms)),
        key=lambda found: (-found.credits_micro, found.organization_id),
    )
    blocks = sorted(
        (block for one in replayed for block in one.blocks.told), key=lambda block: (block.began_at, block.decision_id)
    )
    known = [one.known_since_ms for one in replayed if one.known_since_ms is not None]
    return ReplayReport(
        plan_version=asked.catalogue.version,
        begins=from_epoch_ms(asked.begins_ms),
        ends=from_epoch_ms(asked.ends_ms),
        known_since=from_epoch_ms(min(known)) if known else None,
        events=sum(one.events for one in replayed),
        rejected=sum(one.rejected for one in replayed),
        credits_micro=sum(found.credits_micro for found in organizations),
        blocks=tuple(blocks[:BLOCKS_MAX]),
        blocks_left_out=sum(one.blocks.left_out for one in replayed) + max(0, len(blocks) - BLOCKS_MAX),
        organizations=tuple(organizations),
    )
