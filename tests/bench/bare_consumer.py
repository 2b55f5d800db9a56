"""The floor under every worker: an aiokafka consumer that only decodes. Prints events and seconds as JSON."""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluicegate_schemas.envelope import DECODE_ENVELOPE
from tests.bench.workload import PARTITIONS


async def main(bootstrap: str, topic: str) -> None:
    """Reads ``topic`` of envelopes from start to end."""
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
                events += len(DECODE_ENVELOPE(record.value).events)
            if batch[-1].offset + 1 >= ends[partition]:
                left.discard(partition)
    print(json.dumps({"events": events, "seconds": time.perf_counter() - began}), flush=True)
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
