"""The floor under every worker: an aiokafka consumer that only decodes. Prints events and seconds as JSON."""

import asyncio
import json
import sys
import time

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate_schemas.envelope import DECODE_ENVELOPE
from tests.bench.workload import PARTITIONS


def _events_in(value: bytes) -> int:
    return len(DECODE_ENVELOPE(value).events)


def _one_event(value: bytes) -> int:
    msgspec.json.decode(value)
    return 1


async def main(bootstrap: str, topic: str, kind: str) -> None:
    """Reads ``topic`` of envelopes, or of records with one JSON event each, from start to end."""
    decode = _events_in if kind == "envelopes" else _one_event
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=1 << 20
    )
    await consumer.start()
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    left = {partition for partition, end in ends.items() if end}
    events = 0
    began = time.perf_counter()
    while left:
        for partition, batch in (await consumer.getmany(timeout_ms=500)).items():
            for record in batch:
                events += decode(record.value)
            if batch[-1].offset + 1 >= ends[partition]:
                left.discard(partition)
    print(json.dumps({"events": events, "seconds": time.perf_counter() - began}), flush=True)
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
