"""The webhook dispatcher as a process over topics of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.deliveries import webhook_id_of
from sluicegate_schemas.topics import ALERTS, DELIVERIES
from stack.kafka import Kafka
from stack.ports import free_port
from stack.process import ChildProcess
from stack.topic_log import read_topic
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.webhook_receiver import OLD_SECRET, SECRET, Receiver

ROOT = Path(__file__).parents[1]
LIMIT_S = 60.0
Metrics = dict[str, float]
"""``name`` or ``name{label value}…`` → value, without the common prefix."""


class Dispatcher:
    """A dispatcher process and its topics; receivers are by name."""

    def __init__(self, kafka: Kafka, prefix: str, folder: Path, receivers: dict[str, Receiver], **options: str) -> None:
        self.kafka = kafka
        self.prefix = f"{prefix}."
        self.folder = folder
        self.options = options
        self.configure(receivers)
        self.process = self.another("dispatcher")

    def configure(self, receivers: dict[str, Receiver]) -> None:
        """Writes the endpoints' file, for the next start."""
        lines = []
        for name, receiver in receivers.items():
            lines += [
                "[[endpoints]]",
                f'name = "{name}"',
                f'url = "{receiver.url}"',
                'secrets = [{ variable = "HOOK_SECRET" }, { variable = "HOOK_SECRET_OLD" }]',
                "allow_http = true",
                'allow_networks = ["127.0.0.1/32"]',
                self.options.get(name, "retry_delays_s = [1]"),
            ]
        (self.folder / "webhooks.toml").write_text("\n".join(lines), "utf-8")

    def another(self, name: str) -> ChildProcess:
        """A dispatcher over the same topics."""
        port = free_port()
        self.port = port
        return ChildProcess(
            name,
            [sys.executable, "-m", "webhooks"],
            log=self.folder / f"{name}.log",
            cwd=ROOT,
            environment={
                **self._environment(),
                "SLUICEGATE_DATA_DIR": str(self.folder / name),
                "SLUICEGATE_HEALTH_LISTEN": f"127.0.0.1:{port}",
            },
            ready=lambda: page(port, "readyz") is not None,
            ready_limit_s=LIMIT_S,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "SLUICEGATE_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": self.prefix,
            "SLUICEGATE_WEBHOOKS_FILE": str(self.folder / "webhooks.toml"),
            "HOOK_SECRET": SECRET,
            "HOOK_SECRET_OLD": OLD_SECRET,
        }

    async def prepare(self) -> None:
        settings = Settings(bootstrap_servers=self.kafka.bootstrap, topic_prefix=self.prefix, partitions=3)
        await ensure_topics(settings, (ALERTS, DELIVERIES))

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)

    async def send(self, alerts: Iterable[UsageAlert | bytes | None]) -> set[str]:
        """Writes alerts to their topic; returns their webhook ids."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        await producer.start()
        ids: set[str] = set()
        try:
            for one in alerts:
                topic = self.prefix + ALERTS.name
                if isinstance(one, UsageAlert):
                    await producer.send_and_wait(topic, one.model_dump_json().encode(), key=one.alert_id.encode())
                    ids.add(webhook_id_of(one))
                else:
                    await producer.send_and_wait(topic, one, key=b"foreign")
        finally:
            await producer.stop()
        return ids

    def metrics(self) -> Metrics:
        text = page(self.port, "metrics") or ""
        return {
            sample.name.removeprefix("sluicegate_webhooks_")
            + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def command(self, *arguments: str) -> str:
        """The output of ``python -m webhooks …``, which has to end with 0."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "webhooks", *arguments),
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", **self._environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'schemas'}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def until_written(self, *, pending: int) -> None:
        """Until so many deliveries to the pager pend, and the topic holds the rows of all others: a death before that
        may send an alert twice, as docs say."""
        await self.until(f"{pending} pend", lambda: self.metrics()["pending{pager}"] == pending)
        await self.until("the rows are written", lambda: self.metrics()["rows_waiting"] == 0)

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < deadline, f"{what}: not in time\n{self.process.log_tail(40)}"
            await asyncio.sleep(0.05)

    async def rows(self) -> list[tuple[bytes, bytes | None]]:
        """All records of the deliveries topic."""
        records = read_topic(self.kafka.bootstrap, self.prefix + DELIVERIES.name)
        return [(record.key or b"", record.value) async for record in records]


def page(port: int, name: str) -> str | None:
    """What a process answers with 200; None where it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None
