"""How old usage is when a ClickHouse query first shows it: publisher, worker, sink and engine under a steady load."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from sluicegate import Publisher, PublisherSettings
from sluicegate.clock import epoch_ms
from stack.freshness import Freshness, percentiles
from tests.bench import load
from tests.bench.session import Session
from tests.faults.scene import WorkerLog, until
from tests.pipeline import KEYS, Pipeline, organization_of

EVENTS_PER_S: Final = 5_000
_SECONDS: Final = 20.0
_WARM_S: Final = 5.0
_SLICE_S: Final = 0.01
_OPERATIONS: Final = ("search.knn", "documents.get", "collections.list")
_SHOWN: Final = "SELECT org_id, sum(events) FROM usage_minute FINAL GROUP BY org_id"


def _publisher(pipeline: Pipeline) -> Publisher:
    """One that notes nothing for a check: that would cost more than it does."""
    return Publisher(
        PublisherSettings(bootstrap_servers=pipeline.kafka.bootstrap, node="node-bench", topic_prefix=pipeline.prefix)
    )


async def _publish(pipeline: Pipeline, freshness: Freshness, per_s: float, seconds: float) -> float:
    """The events a second that the machine carried."""
    draw = itertools.cycle(itertools.product(KEYS, _OPERATIONS))
    sent, began = 0, time.monotonic()
    async with _publisher(pipeline) as publisher:
        while (elapsed := time.monotonic() - began) < seconds:
            now_ms = epoch_ms()
            for key, operation in itertools.islice(draw, min(int(elapsed * per_s) - sent, int(per_s * _SLICE_S * 5))):
                fields = load.fields_of(organization_of(key), key, operation, None)
                load.publish(publisher, fields, now_ms)
                freshness.logged(organization_of(key), now_ms)
                sent += 1
            await asyncio.sleep(_SLICE_S)
    return sent / seconds


async def _look(client: Client, freshness: Freshness, over: asyncio.Event) -> None:
    while not over.is_set():
        asked_at_ms = epoch_ms()
        shown = (await asyncio.to_thread(client.query, _SHOWN)).result_rows
        freshness.shown(((str(name), int(count)) for name, count in shown), asked_at_ms)
        await asyncio.sleep(0.02)


async def samples(session: Session, folder: Path, name: str, per_s: float = EVENTS_PER_S) -> tuple[float, list[int]]:
    """The rate that was carried, and each event's age in ms."""
    pipeline = Pipeline(session.kafka, session.clickhouse, name, folder)
    try:
        await pipeline.start()
        worker = WorkerLog(pipeline, "a", whole=True)
        await until("the worker owns all partitions", lambda: worker.owned() > 0)
        freshness, over = Freshness(epoch_ms() + int(_WARM_S * 1000)), asyncio.Event()
        client = await asyncio.to_thread(pipeline.address.connect)
        looking = asyncio.create_task(_look(client, freshness, over))
        try:
            eps = await _publish(pipeline, freshness, per_s, _SECONDS)
            await asyncio.sleep(2)
        finally:
            over.set()
            await looking
            client.close()
    finally:
        pipeline.close()
    return eps, freshness.samples_ms()


_NAMES: Final[Iterator[str]] = (f"fresh{number}" for number in itertools.count())


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    with tempfile.TemporaryDirectory() as folder:
        eps, ages = asyncio.run(samples(session, Path(folder), next(_NAMES)))
    points = percentiles(ages)
    figures = {"freshness_load_eps": eps}
    for percent in ("p50", "p99"):
        age_ms = points[percent]
        assert age_ms is not None, "nothing was shown"
        figures[f"freshness_{percent}_ms"] = age_ms
    return {name: figure for name, figure in figures.items() if name in wanted}
