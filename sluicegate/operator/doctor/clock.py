"""Looks at how this machine's clock differs from the broker's, by a record that comes in while it looks."""

import asyncio
import time
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate_schemas.bounds import CLOCK_AHEAD_MS_MAX

from .finding import Finding, broken, warning, well

DIFFERENCE_MS_TOLERATED: Final = 2_000
_POLL_MS: Final = 500


async def check_clock(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], wait_s: float) -> Finding:
    """Waits up to ``wait_s`` for a record: workers let the time pass by a tick every few seconds. Raises KafkaError."""
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for partition in partitions:
        await consumer.position(partition)
    deadline = asyncio.get_running_loop().time() + wait_s
    while asyncio.get_running_loop().time() < deadline:
        found = await consumer.getmany(*partitions, timeout_ms=_POLL_MS)
        now_ms = time.time_ns() // 1_000_000
        if stamps := [record.timestamp for records in found.values() for record in records]:
            return judge(now_ms - max(stamps))
    return warning(
        "clock",
        f"not measured: nothing was appended to usage within {wait_s:g} s",
        "a worker appends a tick every 5 s: is one running?",
    )


def judge(ahead_ms: int) -> Finding:
    """What the difference means: the time of this machine less that of the record which just came."""
    said = f"this machine's clock is {abs(ahead_ms)} ms {'ahead of' if ahead_ms >= 0 else 'behind'} the broker's"
    detail = f"{said} (with the record's way)"
    if abs(ahead_ms) <= DIFFERENCE_MS_TOLERATED:
        return well("clock", detail)
    remedy = "set both clocks by NTP: usage is rated and limited by the times that the API nodes send"
    return (warning if abs(ahead_ms) < CLOCK_AHEAD_MS_MAX else broken)("clock", detail, remedy)
