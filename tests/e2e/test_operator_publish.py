"""The operator's publish command on a real broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluicegate import Brokers
from sluicegate.operator.topic_io import read_to_end
from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.partitioning import partition_of
from stack.kafka import Kafka
from tests.gating import CATALOGUE

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]


async def create_topics(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(prefix + "catalog", 1, 1), NewTopic(prefix + "accounts", 5, 1)])
    finally:
        await admin.close()


def publish(bootstrap: str, prefix: str, what: str, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sluicegate.cli", what, "publish", str(file), *options]
    command += ["--bootstrap-servers", bootstrap, "--topic-prefix", prefix]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


async def test_files_are_published_once_each_command_at_its_accounts_home(
    kafka: Kafka, fresh_prefix: str, tmp_path: Path
) -> None:
    prefix = f"{fresh_prefix}."
    await create_topics(kafka.bootstrap, prefix)
    default = ROOT / "catalogue/default.toml"
    accounts = ROOT / "examples/accounts.toml"

    async def run(what: str, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(publish, kafka.bootstrap, prefix, what, file, *options)

    first, again = await run("catalog", default), await run("catalog", default)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "catalogue version 1: published" in first.stdout
    assert "catalogue version 1: was published before" in again.stdout
    first, again = await run("org", accounts), await run("org", accounts)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "account commands: 12 published, 0 " in first.stdout
    assert "account commands: 0 published, 12 " in again.stdout

    changed = tmp_path / "changed.toml"
    changed.write_text(default.read_text("utf-8").replace("credits_per_month = 1_000\n", "credits_per_month = 1\n"))
    refused = await run("catalog", changed)
    assert refused.returncode == 3
    assert "versions never change" in refused.stderr

    without_lead = await run("catalog", default, "--lead-seconds", "0")
    assert without_lead.returncode == 0, without_lead.stderr
    changed.write_text(changed.read_text("utf-8").replace("version = 1\n", "version = 2\n"))
    too_soon = await run("catalog", changed, "--lead-seconds", "0")
    assert (too_soon.returncode, too_soon.stderr.count("\n")) == (3, 1)
    assert "a lead of 0 s is too short for version 2" in too_soon.stderr

    brokers = Brokers(kafka.bootstrap)
    catalogues = [record async for record in read_to_end(brokers, prefix + "catalog")]
    assert [(record.key, CatalogueRecord.model_validate_json(record.value).catalogue) for record in catalogues] == [
        (b"1", CATALOGUE)
    ]
    kinds: Counter[str] = Counter()
    async for record in read_to_end(brokers, prefix + "accounts"):
        command = ACCOUNT_COMMAND.validate_json(record.value)
        kinds[command.kind] += 1
        assert record.key == command.account_id.encode()
        assert record.partition == partition_of(command.account_id, 5)
    assert kinds == {"organization.put": 5, "key.put": 7}


async def test_missing_topics_are_said_and_not_created(kafka: Kafka, fresh_prefix: str) -> None:
    default = ROOT / "catalogue/default.toml"
    run = await asyncio.to_thread(publish, kafka.bootstrap, f"{fresh_prefix}.", "catalog", default)
    assert run.returncode == 5
    assert f"topic {fresh_prefix}.catalog does not exist" in run.stderr
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        assert not [name for name in await admin.list_topics() if name.startswith(fresh_prefix)]
    finally:
        await admin.close()
