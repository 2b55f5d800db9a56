"""The peer: Quix Streams that counts requests by key and credits by organization in its state, one event a record.

Less work than ours: no dedup, no limits, no minutes, and at least once. Prints events and seconds as JSON.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import msgspec
from quixstreams import Application
from quixstreams.state import State


def main(bootstrap: str, topic_name: str, events: str, folder: str) -> None:
    """Reads ``topic_name`` from the start until ``events`` have been counted."""
    wanted = int(events)
    app = Application(
        broker_address=bootstrap, consumer_group=topic_name, auto_offset_reset="earliest", state_dir=folder,
        loglevel="ERROR", auto_create_topics=True,
    )  # fmt: skip
    topic = app.topic(topic_name, value_deserializer="bytes", key_deserializer="bytes")
    seen, began = 0, 0.0

    def count(value: bytes, state: State) -> Any:
        nonlocal seen, began
        event = msgspec.json.decode(value)
        key, organization = event["api_key_id"], event["org_id"]
        state.set(key, state.get(key, 0) + 1)
        state.set(organization, state.get(organization, 0) + 100_000)
        seen += 1
        if seen == wanted // 10:
            began = time.perf_counter()
        elif seen == wanted:
            print(json.dumps({"events": seen - wanted // 10, "seconds": time.perf_counter() - began}), flush=True)
            threading.Thread(target=app.stop, daemon=True).start()

    app.dataframe(topic).update(count, stateful=True)
    app.run()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
