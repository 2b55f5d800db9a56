"""A steady load through one publisher.

``python -m tests.bench.load BOOTSTRAP PREFIX EVENTS_PER_S SECONDS PROBES_PER_S``

Beside the workload it calls probe keys beyond their burst, each once, and prints as JSON how fast it was, and when it
published each probe's first event.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from sluicegate import Publisher, PublisherSettings
from sluicegate.clock import epoch_ms
from sluicegate.publisher import EventFields
from sluicegate_schemas.limits import RateLimits
from tests.bench import workload

PROBE_RATES: Final = RateLimits(requests_per_second=1, burst=1, requests_per_minute=60)
_PROBE_EVENTS: Final = 31
"""Thirty beyond the burst: a debt of 30 s, so that the block is due however late it is seen."""
_SLICE_S: Final = 0.005
_WARM_S: Final = 3.0
"""The first probe comes so long after the first event."""
_TEMPLATES: Final = 10_000
_CATCH_UP_S: Final = 0.05
"""A load that falls behind by more leaves out the rest: it is what the machine carries, and the rate says so."""
_BUFFERED_S: Final = 0.5
"""So does one whose publisher holds as much that the broker has not taken."""


class Loaded(NamedTuple):
    """``eps`` events a second were published; ``probed`` holds (probe, time in ns of its first event); ``events`` are
    all that the broker has, those of probes too."""

    eps: float
    probed: list[tuple[int, int]]
    events: int


def probe(number: int) -> str:
    """The name of a probe's key, and of its organization behind ``org_of_``."""
    return f"key_probe_{number}"


def probe_count(seconds: float, per_s: float) -> int:
    """How many probes a load of so many seconds has at most."""
    return max(0, int((seconds - _WARM_S) * per_s))


def fields_of(organization: str, key: str, operation: str, quantities: dict[str, int] | None) -> EventFields:
    """An event without its times."""
    return {
        "org_id": organization,
        "api_key_id": key,
        "operation": operation,
        "started_at_ms": 0,
        "ts_ms": 0,
        "duration_ms": 20,
        "status": 200,
        "quantities": quantities,
    }


def _workload() -> Iterator[EventFields]:
    made = [
        fields_of(event.org_id, event.api_key_id or "", event.operation, event.quantities)
        for event in workload.events(_TEMPLATES)
    ]
    return itertools.cycle(made)


def publish(publisher: Publisher, fields: EventFields, now_ms: int) -> None:
    """Publishes an event that ends now."""
    fields["started_at_ms"], fields["ts_ms"] = now_ms - 20, now_ms
    publisher.publish(**fields)


async def run(bootstrap: str, prefix: str, per_s: float, seconds: float, probes_per_s: float) -> Loaded:
    """Publishes in slices, as evenly as the machine allows."""
    publisher = Publisher(PublisherSettings(bootstrap_servers=bootstrap, node="bench", topic_prefix=prefix))
    await publisher.start()
    events, probed, sent, missed = _workload(), list[tuple[int, int]](), 0, 0
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        now_ms = epoch_ms()
        due = int(elapsed * per_s) - sent - missed
        stats = publisher.stats()
        waiting = stats.buffered + stats.in_flight
        room = max(0, min(int(_CATCH_UP_S * per_s), int(_BUFFERED_S * per_s) - waiting))
        missed += max(0, due - room)
        for _ in range(min(due, room)):
            publish(publisher, next(events), now_ms)
            sent += 1
        while len(probed) < (elapsed - _WARM_S) * probes_per_s:
            name = probe(len(probed))
            probed.append((len(probed), time.time_ns()))
            for _ in range(_PROBE_EVENTS):
                publish(publisher, fields_of(f"org_of_{name}", name, "search.knn", None), now_ms)
        await asyncio.sleep(_SLICE_S)
    eps = sent / (time.monotonic() - began)
    await publisher.close(60.0)
    return Loaded(eps, probed, publisher.stats().published)


if __name__ == "__main__":
    _bootstrap, _prefix, *_numbers = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(run(_bootstrap, _prefix, *map(float, _numbers)))) + "\n")
