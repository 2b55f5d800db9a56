"""The way out of an API node: events a second through one publisher, and what ``publish`` costs the request.

The peer sends one event a record with aiokafka and waits for nothing but its buffer.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Collection
from typing import Final

from aiokafka import AIOKafkaProducer

from sluicegate import Publisher, PublisherSettings
from sluicegate.clock import epoch_ms
from sluicegate_schemas.topics import USAGE
from tests.bench import system, workload
from tests.bench.session import ROOT, Session

_SLICE: Final = 100
_ORGANIZATIONS: Final = 50


async def ours(bootstrap: str, prefix: str, count: int) -> dict[str, float]:
    """Publishes ``count`` events as fast as they are taken; the rate is that of the acknowledgements."""
    settings = PublisherSettings(bootstrap_servers=bootstrap, node="bench", topic_prefix=prefix)
    publisher = Publisher(settings)
    await publisher.start()
    await publisher.publish_wait(**_fields(0))
    spent, began = 0.0, time.perf_counter()
    done = 0
    while done < count:
        if publisher.stats().buffered > settings.buffer_events_max // 2:
            await asyncio.sleep(0.001)
            continue
        fields = [_fields(done + number) for number in range(_SLICE)]
        entered = time.perf_counter()
        for one in fields:
            publisher.publish(**one)
        spent += time.perf_counter() - entered
        done += _SLICE
        await asyncio.sleep(0)
    stats = await publisher.close(60.0)
    seconds = time.perf_counter() - began
    assert stats.published == count + 1, stats
    return {"publisher_eps": count / seconds, "publish_us": spent / count * 1e6}


def _fields(number: int) -> dict[str, object]:
    tenant = number % _ORGANIZATIONS
    now_ms = epoch_ms()
    return {
        "org_id": workload.organization(tenant),
        "api_key_id": workload.api_key(tenant, 0),
        "operation": "search.knn",
        "started_at_ms": now_ms - 20,
        "ts_ms": now_ms,
        "duration_ms": 20,
        "status": 200,
    }


async def peer(bootstrap: str, topic: str, count: int) -> dict[str, float]:
    """The same events, one JSON record each."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    spent, began = 0.0, time.perf_counter()
    for number in range(count):
        value = json.dumps(_fields(number)).encode()
        entered = time.perf_counter()
        await producer.send(topic, value, key=workload.organization(number % _ORGANIZATIONS).encode())
        spent += time.perf_counter() - entered
    await producer.flush()
    seconds = time.perf_counter() - began
    await producer.stop()
    return {"producer_bare_eps": count / seconds, "producer_send_us": spent / count * 1e6}


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows, each in a process of its own."""
    figures: dict[str, float] = {}
    for who, count, rows in (
        ("ours", 400_000, {"publisher_eps", "publish_us"}),
        ("peer", 100_000, {"producer_bare_eps", "producer_send_us"}),
    ):
        if not rows & set(wanted):
            continue
        prefix = system.fresh_prefix()
        topic = prefix + USAGE.name
        asyncio.run(system.create_topic(session.bootstrap, topic, USAGE.settings))
        command = [sys.executable, "-m", "tests.bench.publishing", who, session.bootstrap]
        command += [prefix if who == "ours" else topic, str(session.count(count))]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=180)
        figures |= json.loads(done.stdout.splitlines()[-1])
    return {name: figure for name, figure in figures.items() if name in wanted}


if __name__ == "__main__":
    _who, _bootstrap, _topic, _count = sys.argv[1:]
    _figures = asyncio.run((ours if _who == "ours" else peer)(_bootstrap, _topic, int(_count)))
    sys.stdout.write(json.dumps(_figures) + "\n")
