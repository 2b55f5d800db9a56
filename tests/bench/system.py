"""The system under measurement: its topics, what stands in them before, and workers as in production."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluicegate_schemas import topics
from sluicegate_schemas.accounts import KeyPut, OrganizationPut
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.limits import RateLimits
from sluicegate_schemas.partitioning import partition_of
from tests.bench import workload

ROOT: Final = Path(__file__).parents[2]
READY_LIMIT_S: Final = 90.0
WIDE: Final = RateLimits(requests_per_second=1_000_000, burst=10_000_000, requests_per_minute=60_000_000)
_ISSUED_AT: Final = from_epoch_ms(1_790_000_000_000)

Command = OrganizationPut | KeyPut


def fresh_prefix() -> str:
    """A prefix of topics that nobody uses."""
    return f"bench-{secrets.token_hex(4)}."


async def create_topic(bootstrap: str, name: str, settings: dict[str, str] | None = None, partitions: int = 8) -> None:
    """Creates a topic with the broker's time stamps."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {**topics.SETTINGS_ALL, **(settings or {})}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


def organization_put(organization_id: str, rates: RateLimits) -> OrganizationPut:
    """An organization with an account of its own."""
    return OrganizationPut(
        kind="organization.put", command_id=f"put-{organization_id}", organization_id=organization_id,
        tier="enterprise", rates=rates, issued_at=_ISSUED_AT, issued_by="bench", account_id=organization_id,
    )  # fmt: skip


def key_put(api_key_id: str, organization_id: str, key_sha256: str) -> KeyPut:
    """A live key of it."""
    return KeyPut(
        kind="key.put", command_id=f"put-{api_key_id}", api_key_id=api_key_id, organization_id=organization_id,
        key_sha256=key_sha256, issued_at=_ISSUED_AT, issued_by="bench", account_id=organization_id,
    )  # fmt: skip


def workload_commands() -> Iterable[Command]:
    """The organizations and keys of ``workload``, with limits that it does not reach."""
    for number in range(workload.ORGANIZATIONS):
        organization = workload.organization(number)
        yield organization_put(organization, WIDE)
        for key in range(workload.KEYS_EACH):
            yield key_put(workload.api_key(number, key), organization, f"{number * 100 + key:064x}")


async def prepare(
    bootstrap: str,
    prefix: str,
    contents: Iterable[tuple[int, bytes]] = (),
    commands: Iterable[Command] | None = None,
) -> list[int]:
    """Makes and fills all inputs but the catalogue: without it workers own partitions and wait.

    ``contents`` are (partition, value) of usage, ``commands`` by default the workload's. Returns usage's end offsets.
    """
    for topic in topics.TOPICS:
        count = 1 if topic.partitions == "one" else workload.PARTITIONS
        await create_topic(bootstrap, prefix + topic.name, topic.settings, count)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        await send_commands(producer, prefix, workload_commands() if commands is None else commands)
        for partition, value in contents:
            await producer.send(prefix + topics.USAGE.name, value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return await ends(bootstrap, prefix + topics.USAGE.name)


async def send_commands(producer: AIOKafkaProducer, prefix: str, commands: Iterable[Command]) -> None:
    """Operator commands, each in its account's partition."""
    for command in commands:
        key = command.account_id
        partition = partition_of(key, workload.PARTITIONS)
        value = command.model_dump_json().encode()
        await producer.send(prefix + topics.ACCOUNTS.name, value, key=key.encode(), partition=partition)


async def publish_catalogue(bootstrap: str, prefix: str) -> None:
    """The default catalogue, in force at once: waiting workers begin."""
    catalogue = load_catalogue((ROOT / "catalogue/default.toml").read_text("utf-8"))
    record = CatalogueRecord(catalogue=catalogue, published_at=_ISSUED_AT, published_by="bench")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        key = str(catalogue.version).encode()
        await producer.send_and_wait(prefix + topics.CATALOG.name, record.model_dump_json().encode(), key=key)
    finally:
        await producer.stop()


async def ends(bootstrap: str, topic: str) -> list[int]:
    """The end offset of each partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(workload.PARTITIONS)]
        found = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return [found[partition] for partition in partitions]


class Worker:
    """One worker, as in production, on production settings; killed in the end."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, name: str = "a", **variables: str) -> None:
        data = folder / f"worker-{name}"
        data.mkdir(parents=True)
        self.log = data / "log"
        environment = os.environ | {
            "SLUICEGATE_BOOTSTRAP_SERVERS": bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": prefix,
            "SLUICEGATE_GROUP": prefix + "workers",
            "SLUICEGATE_DATA_DIR": str(data),
            **variables,
        }
        command = [sys.executable, "-m", "faust", "-A", "streams.app", "worker", "--loglevel", "info"]
        self._log = self.log.open("wb")
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def check(self) -> None:
        """Raises RuntimeError where it has ended."""
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"the worker ended with status {self.process.returncode}:\n{tail}")

    def owned(self) -> int:
        """With how many partitions it said last that it is ready."""
        ready = [line for line in self.log.read_text(errors="replace").splitlines() if " READY " in line]
        numbers = ready[-1].split("partitions [")[1].split("]")[0] if ready else ""
        return numbers.count(",") + 1 if numbers else 0

    def cpu_s(self) -> float:
        """User and system seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until_shared(workers: list[Worker], limit_s: float = READY_LIMIT_S) -> None:
    """Waits until each worker owns its share of the partitions. Raises RuntimeError, TimeoutError."""
    deadline = time.monotonic() + limit_s
    while any(worker.owned() != workload.PARTITIONS // len(workers) for worker in workers):
        for worker in workers:
            worker.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the workers own {[worker.owned() for worker in workers]} partitions")
        await asyncio.sleep(0.1)
