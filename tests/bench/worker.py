"""One worker, measured from outside: how fast the positions in its flush headers advance through a waiting workload.

The worker is the production command on production settings; nothing of it is instrumented. A header's position and the
broker's append time of its batch say how many events were durable when; the first tenth (start-up) and the last
hundredth (the tail) are left out.
"""

import asyncio
import bisect
import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluicegate_schemas import topics
from sluicegate_schemas.accounts import KeyPut, OrganizationPut
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.limits import RateLimits
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.state import DECODE_HEADER, EPOCH_BYTES, HEADER_KEY
from tests.bench import workload

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
_WIDE = RateLimits(requests_per_second=1_000_000, burst=10_000_000, requests_per_minute=60_000_000)
_ISSUED_AT = from_epoch_ms(1_790_000_000_000)


async def create_topic(bootstrap: str, name: str, settings: dict[str, str] | None = None, partitions: int = 8) -> None:
    """Creates a topic with the broker's time stamps."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {**topics.SETTINGS_ALL, **(settings or {})}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


async def _prepare(bootstrap: str, prefix: str, contents: Iterable[tuple[int, bytes]]) -> list[int]:
    """Fills all inputs; returns the usage topic's end offsets."""
    for topic in topics.TOPICS:
        count = 1 if topic.partitions == "one" else workload.PARTITIONS
        await create_topic(bootstrap, prefix + topic.name, topic.settings, count)
    catalogue = load_catalogue((ROOT / "catalogue/default.toml").read_text("utf-8"))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        record = CatalogueRecord(catalogue=catalogue, published_at=_ISSUED_AT, published_by="bench")
        await producer.send(
            prefix + topics.CATALOG.name, record.model_dump_json().encode(), key=str(catalogue.version).encode()
        )
        for number in range(workload.ORGANIZATIONS):
            org_id = workload.organization(number)
            commands: list[OrganizationPut | KeyPut] = [
                OrganizationPut(
                    kind="organization.put",
                    command_id=f"bench-{number}",
                    organization_id=org_id,
                    tier="enterprise",
                    rates=_WIDE,
                    issued_at=_ISSUED_AT,
                    issued_by="bench",
                    account_id=org_id,
                )
            ]
            for key in range(workload.KEYS_EACH):
                name = workload.api_key(number, key)
                commands.append(
                    KeyPut(
                        kind="key.put",
                        command_id=f"bench-{number}-{key}",
                        api_key_id=name,
                        organization_id=org_id,
                        key_sha256=f"{number * 100 + key:064x}",
                        issued_at=_ISSUED_AT,
                        issued_by="bench",
                        account_id=org_id,
                    )
                )
            for command in commands:
                await producer.send(
                    prefix + topics.ACCOUNTS.name,
                    command.model_dump_json().encode(),
                    key=org_id.encode(),
                    partition=partition_of(org_id, workload.PARTITIONS),
                )
        for partition, value in contents:
            await producer.send(prefix + topics.USAGE.name, value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(prefix + topics.USAGE.name, number) for number in range(workload.PARTITIONS)]
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return [ends[partition] for partition in partitions]


async def _watch(bootstrap: str, prefix: str, ends: list[int], child: subprocess.Popen[bytes]) -> list[tuple[int, int]]:
    """(append time in ms, records durable by then over all partitions), rising, until all are."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    consumer.assign([TopicPartition(prefix + topics.STATE.name, number) for number in range(len(ends))])
    reached = [0] * len(ends)
    steps: list[tuple[int, int]] = []
    deadline = time.monotonic() + LIMIT_S
    try:
        while any(have < end for have, end in zip(reached, ends, strict=True)):
            if child.poll() is not None:
                raise RuntimeError(f"the worker ended with status {child.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {LIMIT_S:g} s the worker had reached {reached} of {ends}")
            for tp, batch in (await consumer.getmany(timeout_ms=500)).items():
                for record in batch:
                    if record.key == HEADER_KEY and record.value is not None:
                        offset = DECODE_HEADER(record.value[EPOCH_BYTES:]).usage_offset + 1
                        steps.append((record.timestamp, offset - reached[tp.partition]))
                        reached[tp.partition] = offset
    finally:
        await consumer.stop()
    steps.sort()
    totals = itertools.accumulate(count for _, count in steps)
    return [(at, total) for (at, _), total in zip(steps, totals, strict=True)]


def _rate(steps: list[tuple[int, int]], events: int) -> float:
    """Events/s between a tenth and 99 % of the records."""
    records = steps[-1][1]
    counts = [total for _, total in steps]
    first = bisect.bisect_left(counts, records * 0.10)
    last = max(bisect.bisect_left(counts, records * 0.99) - 1, first + 1)
    (began_ms, began), (ended_ms, ended) = steps[first], steps[last]
    return (ended - began) / records * events / (ended_ms - began_ms) * 1000


def _run(bootstrap: str, contents: Iterable[tuple[int, bytes]], events: int) -> float:
    prefix = f"bench-{secrets.token_hex(4)}."
    ends = asyncio.run(_prepare(bootstrap, prefix, contents))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "wb") as nowhere:
        environment = os.environ | {
            "SLUICEGATE_BOOTSTRAP_SERVERS": bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": prefix,
            "SLUICEGATE_GROUP": prefix + "workers",
            "SLUICEGATE_DATA_DIR": folder,
        }
        command = [sys.executable, "-m", "faust", "-A", "streams.app", "worker", "--loglevel", "info"]
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=nowhere, stderr=nowhere)
        try:
            return _rate(asyncio.run(_watch(bootstrap, prefix, ends, child)), events)
        finally:
            child.kill()
            child.wait()


def run_envelopes(bootstrap: str, count: int) -> float:
    """Events/s of one worker on SDK envelopes."""
    return _run(bootstrap, workload.envelopes(count), count)


def run_records(bootstrap: str, count: int) -> float:
    """Events/s of one worker on one JSON event a record."""
    return _run(bootstrap, workload.records(count), count)
