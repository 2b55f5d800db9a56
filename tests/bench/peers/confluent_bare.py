"""A confluent-kafka consumer that only decodes envelopes. Prints events and seconds as JSON."""

import json
import sys
import time

from confluent_kafka import Consumer, TopicPartition

from sluicegate_schemas.envelope import DECODE_ENVELOPE


def main(bootstrap: str, topic: str) -> None:
    """Reads ``topic`` from start to end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False})
    partitions = list(consumer.list_topics(topic, 30).topics[topic].partitions)
    ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), 30)[1] for number in partitions}
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    left = {number for number, end in ends.items() if end}
    events = 0
    began = time.perf_counter()
    while left:
        for message in consumer.consume(500, 0.5):
            if message.error():
                raise RuntimeError(message.error())
            events += len(DECODE_ENVELOPE(message.value()).events)
            if message.offset() + 1 >= ends[message.partition()]:
                left.discard(message.partition())
    print(json.dumps({"events": events, "seconds": time.perf_counter() - began}), flush=True)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
