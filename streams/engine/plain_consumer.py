"""A consumer for reading much of a log: it hands out records as their batches hold them.

aiokafka walks through a record batch in C, and then makes a ``ConsumerRecord`` of each record in Python, which costs
many times as much. What a state log is read for are key, value and headers, and those the records of the batch have.
"""

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException


class PlainConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka's types are not told
    """``getmany`` returns batches to iterate over, of aiokafka's ``DefaultRecord``: offset, timestamp, key, value,
    headers. A record that is used before the next one is made stays in the processor's cache.

    For logs whose records have the format of Kafka 0.11 and later, outside of transactions.
    """

    async def start(self) -> None:
        """Raises KafkaError."""
        await super().start()
        self._fetcher._records = _Results()  # before anything is assigned, so it is empty


class _Results(OrderedDict[TopicPartition, Any]):
    """What was fetched, by partition."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if isinstance(result, FetchResult):
            result.getall = partial(batches_of, result)
        super().__setitem__(tp, result)


def batches_of(result: Any, _: int | None = None) -> list[Iterable[Any]]:
    """All batches of a ``FetchResult`` from its position on, after which it has none. Raises CorruptRecordException."""
    if not result.has_more() or not result.check_assignment(result._topic_partition):
        return []
    unread, found = result._partition_records, list[Iterable[Any]]()
    batches, position = unread._records, unread.next_fetch_offset
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"the checksum of a record batch of {result._topic_partition} is wrong")
        if not batch.is_control_batch:
            is_new = batch.base_offset >= position
            found.append(batch if is_new else [record for record in batch if record.offset >= position])
        unread.next_fetch_offset = position = batch.next_offset
    result._update_position()
    result._partition_records = None
    return found
