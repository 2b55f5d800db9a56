"""Usage events read back from the log: the one at a position, and the last of a scope before it."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate_schemas.bounds import Record, from_epoch_ms
from sluicegate_schemas.convert import from_wire
from sluicegate_schemas.decode import decode_usage
from sluicegate_schemas.envelope import TICK, WireEnvelope, WireEvent, WireForward
from sluicegate_schemas.outputs import Position, Scope
from sluicegate_schemas.topics import USAGE
from sluicegate_schemas.usage import UsageEvent
from sluicegate_schemas.wire_checks import Malformed
from sluicegate_schemas.wire_decision import WirePosition, WireScope

from .logs import LogRecord, read_between, reader
from .system import System

RECORDS_BACK: Final = (200, 5_000)
"""How many records before an event are read for what came before it, the second time if the first were too few."""


class SeenEvent(Record):
    """A usage event and where it stands."""

    position: Position
    logged_at: datetime
    event: UsageEvent


class Background(NamedTuple):
    """An event, None where it is gone, and the last events of the scope before it, the oldest first."""

    event: SeenEvent | None
    before: list[SeenEvent]
    notes: list[str]


async def background(
    system: System, at: Position | WirePosition, concerns: Callable[[UsageEvent], bool], *, count: int
) -> Background:
    """What stands at ``at`` in the usage log and the last ``count`` events before it that ``concerns`` holds for."""
    partition = TopicPartition(system.topic(USAGE), at.partition)
    async with reader(system.brokers) as consumer:
        consumer.assign([partition])
        begin = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        if at.offset >= end:
            return Background(
                None, [], [f"the usage log ends at {end}, before the event at {at.offset}: it is another log"]
            )
        if at.offset < begin:
            notes = [f"retention removed the event: the usage log of partition {at.partition} begins at {begin} by now"]
            return Background(None, [], notes)
        for back in RECORDS_BACK:
            found = await _read(consumer, partition, max(begin, at.offset - back), at, concerns, count)
            if len(found.before) >= count or at.offset - back <= begin:
                break
        if len(found.before) < count and at.offset - back <= begin and begin > 0:
            found.notes.append(f"what stood before offset {begin} was removed by retention")
        return found


async def _read(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    begin: int,
    at: Position | WirePosition,
    concerns: Callable[[UsageEvent], bool],
    count: int,
) -> Background:
    before: deque[SeenEvent] = deque(maxlen=count)
    event: SeenEvent | None = None
    notes: list[str] = []
    async for seen in _seen(read_between(consumer, {partition: begin}, {partition: at.offset + 1})):
        place = (seen.position.offset, seen.position.index)
        if place == (at.offset, at.index):
            event = seen
        elif place < (at.offset, at.index) and concerns(seen.event):
            before.append(seen)
    if event is None:
        notes.append(f"the record at offset {at.offset} of partition {at.partition} holds no event {at.index}")
    return Background(event, list(before), notes)


async def _seen(records: AsyncIterator[LogRecord]) -> AsyncIterator[SeenEvent]:
    async for record in records:
        for index, event in events_of(record):
            position = Position(topic=USAGE.name, partition=record.partition, offset=record.offset, index=index)
            yield SeenEvent(position=position, logged_at=from_epoch_ms(record.timestamp), event=event)


def events_of(record: LogRecord) -> Iterable[tuple[int, UsageEvent]]:
    """The events of one record by their index, named as the worker names them; what is none is left out."""
    if record.value == TICK:
        return
    try:
        content = decode_usage(record.value)
    except Malformed:
        return
    if isinstance(content, WireEnvelope):
        prefix = f"{content.producer_id}-{content.producer_epoch}-{record.partition}-{content.sequence}"
        events = [(index, event, f"{prefix}-{index}") for index, event in enumerate(content.events)]
    elif isinstance(content, WireForward):
        events = [(0, content.event, "")]
    elif isinstance(content, WireEvent):
        events = [(0, content, "")]
    else:
        return
    for index, event, name in events:
        if event.id is None:
            event.id = name
        try:
            yield index, from_wire(event)
        except ValueError:
            continue


def concerns(scope: Scope | WireScope, category_of: Callable[[str], str | None]) -> Callable[[UsageEvent], bool]:
    """Whether an event is one of ``scope``; ``category_of`` names an operation's category."""

    def of_organization(event: UsageEvent) -> bool:
        return event.org_id == scope.id

    def of_operation(event: UsageEvent) -> bool:
        operations = {event.operation, *(charge.operation for charge in event.charges)}
        return event.org_id == scope.id and scope.operation in operations and scope.subject in (None, event.subject)

    tests: dict[str, Callable[[UsageEvent], bool]] = {
        "key": lambda event: event.api_key_id == scope.id,
        "organization": of_organization,
        "account": lambda event: (event.account_id or event.org_id) == scope.id,
        "operation": of_operation,
        "label": lambda event: (
            of_organization(event) and scope.label in {f"{name}={value}" for name, value in event.labels.items()}
        ),
        "category": lambda event: of_organization(event) and category_of(event.operation) == scope.category,
    }
    return tests[scope.kind]
