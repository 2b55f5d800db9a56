"""A topic's records, the newest first, a page at a time."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import Topic

from ..topic_partitions import partitions_of
from .logs import LogRecord, read_between, reader
from .system import System

STEP: Final = 500
"""Records that are read at a time, going back."""
LOOKED_AT_MAX: Final = 20_000
"""Records of a partition that one page looks through for what is wanted: then it has fewer records."""

T = TypeVar("T")
Read = Callable[[LogRecord], T | None]
"""What a page shows of a record; None: it is not wanted."""


class Page(NamedTuple, Generic[T]):
    """``before``: where the next page begins, by partition, each the offset that its records stand below; empty: it was
    the last."""

    entries: list[T]
    before: dict[int, int]


class _Seen(NamedTuple, Generic[T]):
    logged_at_ms: int
    partition: int
    offset: int
    entry: T


async def log_page(
    system: System,
    topic: Topic,
    read: Read[T],
    *,
    limit: int,
    account_id: str | None = None,
    before: Mapping[int, int] | None = None,
) -> Page[T]:
    """The newest ``limit`` records below ``before`` that ``read`` wants; of the partition of an account, if named (for
    topics that are partitioned by it). Raises TopicsMissingError and KafkaError."""
    partitions = await partitions_of(system.brokers, [system.topic(topic)])
    if account_id is not None:
        partitions = [partitions[partition_of(account_id, len(partitions))]]
    seen: list[_Seen[T]] = []
    lows: dict[int, int] = {}
    async with reader(system.brokers) as consumer:
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp in partitions:
            begin, end = begins[tp], ends[tp]
            if before is not None:
                end = min(end, before.get(tp.partition, begin))
            found, lows[tp.partition] = await _newest(consumer, tp, begin, end, limit, read)
            seen += found
    seen.sort(key=_rank, reverse=True)
    taken, left = seen[:limit], seen[limit:]
    return Page([one.entry for one in taken], _next(left, lows, {tp.partition: begins[tp] for tp in partitions}))


def _rank(seen: _Seen[T]) -> tuple[int, int, int]:
    return seen.logged_at_ms, seen.partition, seen.offset


def _next(left: list[_Seen[T]], lows: Mapping[int, int], begins: Mapping[int, int]) -> dict[int, int]:
    """Where each partition goes on: above the newest record that found no place, else below all that was looked at."""
    goes_on = dict(lows)
    for one in left:
        goes_on[one.partition] = max(goes_on[one.partition], one.offset + 1)
    return goes_on if any(goes_on[number] > begins[number] for number in goes_on) else {}


async def _newest(
    consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int, wanted: int, read: Read[T]
) -> tuple[list[_Seen[T]], int]:
    """The newest ``wanted`` records of a partition below ``end``, and the offset that it was looked through down to."""
    found: list[_Seen[T]] = []
    low, last = end, max(begin, end - LOOKED_AT_MAX)
    while low > last and len(found) < wanted:
        high, low = low, max(last, low - STEP)
        found += [one async for one in _wanted(consumer, tp, low, high, read)]
    found.sort(key=_rank, reverse=True)
    return found, low


async def _wanted(
    consumer: AIOKafkaConsumer, tp: TopicPartition, low: int, high: int, read: Read[T]
) -> AsyncIterator[_Seen[T]]:
    async for record in read_between(consumer, {tp: low}, {tp: high}):
        entry = read(record)
        if entry is not None:
            yield _Seen(record.timestamp, record.partition, record.offset, entry)
