"""What an event costs in the state machine: processor time for envelopes of 200 events, decoding and flushes included.

``python -m tests.bench.domain_events`` prints two mixes: ``busy`` (40 organizations, most events on known routes) and
``wide`` (1,000 organizations by Zipf's law, 5 keys each, 10 operations: one event in six is the first of its kind).
"""

import bisect
import itertools
import random
import statistics
import sys
import time

from sluicegate_schemas.envelope import ENCODE, WireEnvelope, WireEvent
from tests.domain_world import NOW_MS, World, key_put, organization_put, usage

EVENTS = 200_000
ENVELOPE_EVENTS = 200
RECORDS_AT_ONCE = 20
EVENTS_PER_MS = 20
FLUSH_EVERY_MS = 200
OPERATIONS = [
    "documents.create",
    "inference.embedding",
    "inference.llm",
    "search.knn",
    "search.hybrid",
    "documents.get",
    "documents.list",
    "upload.file",
    "objects.get",
    "collections.get",
]
QUANTITIES = {
    "documents.create": {"documents": 3},
    "inference.llm": {"tokens": 1_234},
    "upload.file": {"bytes": 10**5},
}


def events(organizations: int) -> list[WireEvent]:
    """The same events on each call."""
    source = random.Random(7)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(organizations)))
    made = []
    for number in range(EVENTS):
        rank = bisect.bisect_left(weights, source.random() * weights[-1])
        operation = source.choice(OPERATIONS)
        ts = NOW_MS + number // EVENTS_PER_MS
        made.append(
            usage(
                operation,
                org=f"org_{rank:04d}",
                key=f"key_{rank:04d}_{source.randrange(5)}",
                ts=ts,
                started=ts - 30,
                quantities=QUANTITIES.get(operation),
                model="text-small" if operation == "inference.embedding" else None,
            )
        )
    return made


def run(organizations: int) -> float:
    """Microseconds of processor time an event."""
    world = World()
    for rank in range(organizations):
        world.obey(organization_put(f"org_{rank:04d}", "team"))
        world.obey(*(key_put(f"key_{rank:04d}_{number}", f"org_{rank:04d}") for number in range(5)))
    made = events(organizations)
    records = [
        (at, made[start].ts_ms + 50, None, ENCODE(WireEnvelope(1, "p1", 1, at + 1, 0, None, batch)))
        for at, start in enumerate(range(0, EVENTS, ENVELOPE_EVENTS))
        if (batch := made[start : start + ENVELOPE_EVENTS])
    ]
    machine, position, flush_at_ms = world.machine, 0, 0
    began = time.process_time()
    while position < len(records):
        position += machine.apply_usage(records[position : position + RECORDS_AT_ONCE])
        machine.take_outputs()
        if machine.log_time_ms >= flush_at_ms or machine.changed_rows >= 10_000:
            flush_at_ms = machine.log_time_ms + FLUSH_EVERY_MS
            machine.take_changes()
            machine.flushed(1, position)
    spent = time.process_time() - began
    assert machine.totals.counted == EVENTS
    return spent / EVENTS * 1e6


def main() -> None:
    """Prints the median of three runs a mix."""
    for name, organizations in (("busy", 40), ("wide", 1_000)):
        figures = [run(organizations) for _ in range(3)]
        sys.stdout.write(
            f"{name}: {statistics.median(figures):.2f} us an event ({min(figures):.2f}-{max(figures):.2f})\n"
        )


if __name__ == "__main__":
    main()
