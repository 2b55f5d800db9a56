"""How far the parts of the rotation are, seen from outside: log ends, the groups' and the sink's positions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from sluicegate_schemas import topics
from stack.errors import StackError
from stack.topic_log import end_offsets
from tests.pipeline import Pipeline

ASK_LIMIT_S: Final = 10.0
_POSITIONS_QUERY: Final = (
    "SELECT partition, max(next_offset) FROM sink_position WHERE topic = {topic:String} GROUP BY partition"
)

AnswerT = TypeVar("AnswerT")
Offsets = dict[int, int]


class Positions:
    """Asks; None where the one asked does not answer now."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._bootstrap = pipeline.kafka.bootstrap

    async def ends(self, topic: topics.Topic) -> Offsets | None:
        """One past the last offset, by partition."""
        return await _answer(end_offsets(self._bootstrap, self._pipeline.prefix + topic.name))

    async def counted(self) -> Offsets | None:
        """What the workers have taken in of the usage topic, durably: the first offset after it."""
        return await _answer(self._committed())

    async def shown(self, topic: topics.Topic) -> Offsets | None:
        """What the sink has written to ClickHouse."""
        return await _answer(asyncio.to_thread(self._shown, self._pipeline.prefix + topic.name))

    async def _committed(self) -> Offsets:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(self._pipeline.environment()["SLUICEGATE_GROUP"])
        finally:
            await admin.close()
        usage = self._pipeline.prefix + topics.USAGE.name
        return {place.partition: one.offset for place, one in found.items() if place.topic == usage}

    def _shown(self, topic: str) -> Offsets:
        client = self._pipeline.address.connect()
        try:
            rows = client.query(_POSITIONS_QUERY, parameters={"topic": topic}).result_rows
        finally:
            client.close()
        return {int(partition): int(offset) for partition, offset in rows}


async def _answer(question: Awaitable[AnswerT]) -> AnswerT | None:
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            return await question
    except (KafkaError, StackError, ClickHouseError, OSError, TimeoutError):
        return None


def reached(positions: Offsets | None, ends: Offsets) -> bool:
    """Whether all partitions are at ``ends``, or were empty there."""
    return positions is not None and all(positions.get(partition, 0) >= end for partition, end in ends.items())
