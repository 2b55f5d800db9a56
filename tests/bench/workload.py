"""The workload that every contender reads: the same tenants, operations and skew, as envelopes or as records.

Tenants follow Zipf's law with a fixed seed; the operations and quantities cover each price kind of the default
catalogue. Event times are the machine's, so that the worker's clock bounds accept them.
"""

import bisect
import itertools
import random
import time
from collections.abc import Iterator

import msgspec

from sluicegate_schemas.envelope import ENCODE, ENVELOPE_VERSION, WireEnvelope, WireEvent
from sluicegate_schemas.partitioning import partition_of

PARTITIONS = 8
ORGANIZATIONS = 200
KEYS_EACH = 3
ENVELOPE_EVENTS = 200
_OPERATIONS: tuple[tuple[str, dict[str, int] | None], ...] = (
    ("search.knn", None),
    ("search.hybrid", None),
    ("documents.create", {"documents": 3}),
    ("documents.get", None),
    ("inference.llm", {"tokens": 1_730}),
    ("inference.embedding", None),
    ("upload.file", {"bytes": 250_000}),
    ("cluster.execute", {"dataset_size": 9_000}),
    ("video.process", {"milliseconds": 12_340}),
    ("collections.list", None),
)


def organization(number: int) -> str:
    """The name of one of the workload's organizations."""
    return f"org_bench_{number}"


def api_key(number: int, key: int) -> str:
    """The name of one of an organization's keys."""
    return f"key_bench_{number}_{key}"


def events(count: int, seed: int = 7) -> Iterator[WireEvent]:
    """``count`` usage events, 50 microseconds apart, the last of them now."""
    draw = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(ORGANIZATIONS)))
    first_ms = time.time_ns() // 1_000_000 - count // 20
    for number in range(count):
        tenant = bisect.bisect_left(weights, draw.random() * weights[-1])
        operation, quantities = _OPERATIONS[draw.randrange(len(_OPERATIONS))]
        started_ms = first_ms + number // 20
        yield WireEvent(
            id=None,
            org_id=organization(tenant),
            api_key_id=api_key(tenant, draw.randrange(KEYS_EACH)),
            operation=operation,
            started_at_ms=started_ms - 40,
            ts_ms=started_ms,
            duration_ms=40,
            status=200,
            quantities=quantities,
        )


def envelopes(count: int) -> Iterator[tuple[int, bytes]]:
    """(partition, envelope of up to 200 events)."""
    waiting: list[list[WireEvent]] = [[] for _ in range(PARTITIONS)]
    sequences = [0] * PARTITIONS

    def seal(partition: int) -> tuple[int, bytes]:
        sequences[partition] += 1
        sealed, waiting[partition] = waiting[partition], []
        envelope = WireEnvelope(
            ENVELOPE_VERSION, "bench", 1, sequences[partition], sealed[-1].ts_ms, "node-bench", sealed
        )
        return partition, ENCODE(envelope)

    for event in events(count):
        partition = partition_of(event.org_id, PARTITIONS)
        waiting[partition].append(event)
        if len(waiting[partition]) == ENVELOPE_EVENTS:
            yield seal(partition)
    for partition, rest in enumerate(waiting):
        if rest:
            yield seal(partition)


def records(count: int) -> Iterator[tuple[int, bytes]]:
    """(partition, one JSON event)."""
    encode = msgspec.json.Encoder().encode
    for number, event in enumerate(events(count)):
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.started_at_ms / 1000))
        ended = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.ts_ms / 1000))
        body = {
            "id": f"evt-{number}",
            "started_at": f"{started}.{event.started_at_ms % 1000:03d}Z",
            "ts": f"{ended}.{event.ts_ms % 1000:03d}Z",
            "duration_ms": event.duration_ms,
            "org_id": event.org_id,
            "api_key_id": event.api_key_id,
            "operation": event.operation,
            "status": event.status,
        }
        if event.quantities:
            body["quantities"] = event.quantities
        yield partition_of(event.org_id, PARTITIONS), encode(body)
