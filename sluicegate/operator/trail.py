"""The audit trail, the newest first, a page at a time."""

from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from sluicegate_schemas.outputs import TrailEntry
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import TRAIL

from ..topic_partitions import partitions_of
from .logs import read_between, reader
from .system import System

STEP: Final = 500
"""Records that are read at a time, going back."""
LOOKED_AT_MAX: Final = 20_000
"""Records of a partition that one page looks through for those of one account: then it has fewer entries."""


class Page(NamedTuple):
    """``before``: where the next page begins, by partition, each the offset that its entries stand below; empty: it was
    the last."""

    entries: list[TrailEntry]
    before: dict[int, int]


class _Seen(NamedTuple):
    logged_at_ms: int
    partition: int
    offset: int
    entry: TrailEntry


async def trail_page(
    system: System, *, limit: int, account_id: str | None = None, before: Mapping[int, int] | None = None
) -> Page:
    """The newest ``limit`` entries, of one account if named, below ``before``. Raises TopicsMissingError and
    KafkaError."""
    partitions = await partitions_of(system.brokers, [system.topic(TRAIL)])
    if account_id is not None:
        partitions = [partitions[partition_of(account_id, len(partitions))]]
    seen: list[_Seen] = []
    lows: dict[int, int] = {}
    async with reader(system.brokers) as consumer:
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp in partitions:
            begin, end = begins[tp], ends[tp]
            if before is not None:
                end = min(end, before.get(tp.partition, begin))
            found, lows[tp.partition] = await _newest(consumer, tp, begin, end, limit, account_id)
            seen += found
    seen.sort(reverse=True)
    taken, left = seen[:limit], seen[limit:]
    return Page([one.entry for one in taken], _next(left, lows, {tp.partition: begins[tp] for tp in partitions}))


def _next(left: list[_Seen], lows: Mapping[int, int], begins: Mapping[int, int]) -> dict[int, int]:
    """Where each partition goes on: above the newest entry that found no place, else below all that was looked at."""
    goes_on = dict(lows)
    for one in left:
        goes_on[one.partition] = max(goes_on[one.partition], one.offset + 1)
    return goes_on if any(goes_on[number] > begins[number] for number in goes_on) else {}


async def _newest(
    consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int, wanted: int, account_id: str | None
) -> tuple[list[_Seen], int]:
    """The newest ``wanted`` entries of a partition below ``end``, and the offset that it was looked through down to."""
    found: list[_Seen] = []
    low, last = end, max(begin, end - LOOKED_AT_MAX)
    while low > last and len(found) < wanted:
        high, low = low, max(last, low - STEP)
        found += [one async for one in _entries(consumer, tp, low, high, account_id)]
    found.sort(reverse=True)
    return found, low


async def _entries(
    consumer: AIOKafkaConsumer, tp: TopicPartition, low: int, high: int, account_id: str | None
) -> AsyncIterator[_Seen]:
    async for record in read_between(consumer, {tp: low}, {tp: high}):
        try:
            entry = TrailEntry.model_validate_json(record.value or b"")
        except ValidationError:
            continue
        if account_id in (None, entry.account_id):
            yield _Seen(record.timestamp, record.partition, record.offset, entry)
