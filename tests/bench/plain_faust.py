"""The peer: a plain Faust agent that counts requests by key and credits by organization in two tables.

It decodes with the same decoder, dedups nothing, rates with one number, keeps no minutes, and is not exact after a
crash: less work than ours, done Faust's way. Prints events and seconds as JSON when it has seen all.
"""

import json
import os
import sys
import time
from typing import Any

import faust

from sluicegate_schemas.decode import decode_usage
from sluicegate_schemas.envelope import WireEvent

_TOPIC, _EVENTS = os.environ["BENCH_TOPIC"], int(os.environ["BENCH_EVENTS"])
app = faust.App(
    os.environ["BENCH_GROUP"],
    broker="kafka://" + os.environ["BENCH_BOOTSTRAP"],
    store="memory://",
    topic_partitions=8,
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    datadir=os.environ["BENCH_DATA"],
)
topic = app.topic(_TOPIC, value_serializer="raw", key_serializer="raw")
requests = app.Table("requests", default=int)
credits_micro = app.Table("credits", default=int)


@app.agent(topic)
async def count(stream: Any) -> None:
    """One event a record, two table writes an event."""
    seen, began = 0, 0.0
    async for value in stream:
        event = decode_usage(value)
        assert isinstance(event, WireEvent)
        requests[event.api_key_id] += 1
        credits_micro[event.org_id] += 100_000
        seen += 1
        if seen == _EVENTS // 10:
            began = time.perf_counter()
        elif seen == _EVENTS:
            result = {"events": seen - _EVENTS // 10, "seconds": time.perf_counter() - began}
            print(json.dumps(result), file=sys.__stdout__, flush=True)  # Faust takes sys.stdout for its log
