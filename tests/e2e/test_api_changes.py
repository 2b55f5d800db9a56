"""Two processes of the usage API and the command line change one organization at the same moment: all changes stay."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from sluicegate import Brokers
from sluicegate.cli.exits import Exit
from sluicegate.operator.logs import read_all
from sluicegate_schemas.outputs import Reject
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.api_process import OPERATORS, ApiProcess
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]

ROOT = Path(__file__).parents[2]
PATH = "organizations/org_changed"
FIELDS = {"a": "concurrency", "b": "objects_per_batch", "cli": "credits_micro"}
"""The one field that each writer changes, as the body has it; the trail's row adds ``_own``."""
CHANGES = {"a": 12, "b": 12, "cli": 3}
"""How often; a run of the command line takes as long as several requests."""
LIMIT_S = 180.0


class Running(NamedTuple):
    pipeline: Pipeline
    apis: dict[str, ApiProcess]


@pytest.fixture
def running(kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Running]:
    """A worker, a sink and two processes of the API."""
    pipeline = Pipeline(kafka, clickhouse, f"t{secrets.token_hex(5)}", tmp_path)
    (tmp_path / "operators.toml").write_text(OPERATORS)
    apis = {}
    for name in ("a", "b"):
        (folder := tmp_path / name).mkdir()
        file = {"SLUICEGATE_API_OPERATORS_FILE": str(tmp_path / "operators.toml")}
        apis[name] = ApiProcess(pipeline.environment() | file, folder)
    try:
        asyncio.run(pipeline.start())
        for api in apis.values():
            api.process.start()
        yield Running(pipeline, apis)
    finally:
        for api in apis.values():
            api.process.kill()
        pipeline.close()


def patch_often(api: ApiProcess, writer: str) -> int:
    """Changes the writer's field again and again, and repeats what was always overtaken; returns how often that was."""
    overtaken, deadline = 0, time.monotonic() + LIMIT_S
    for number in range(1, CHANGES[writer] + 1):
        body = {FIELDS[writer]: number}
        while (answer := api.operate("PATCH", PATH, f"{writer}-{number}", json=body)).status_code != 200:
            assert answer.status_code == 409, answer.text
            assert [one["field"] for one in answer.json()["fields"]] == ["based_on"], answer.text
            assert time.monotonic() < deadline, "it was never its turn"
            overtaken += 1
        again = api.operate("PATCH", PATH, f"{writer}-{number}", json=body)
        assert (again.status_code, again.content) == (200, answer.content)
    return overtaken


def put_often(pipeline: Pipeline) -> None:
    """The same with the command line."""
    deadline = time.monotonic() + LIMIT_S
    command = [sys.executable, "-m", "sluicegate.cli", "org", "put", "org_changed", "--keep", "--by", "cli"]
    for number in range(1, CHANGES["cli"] + 1):
        more = ["--credits-per-month", str(number)]
        while True:
            done = subprocess.run(
                [*command, *more],
                cwd=ROOT,
                env=os.environ | pipeline.environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode == Exit.DONE:
                break
            assert done.returncode == Exit.CONFLICT, done.stderr
            assert time.monotonic() < deadline, "it was never its turn"


async def conflicts(pipeline: Pipeline) -> int:
    """How many commands the worker refused for what they were made from."""
    found = read_all(Brokers(pipeline.kafka.bootstrap), f"{pipeline.prefix}rejects")
    rejects = [Reject.model_validate_json(record.value or b"") async for record in found]
    assert {one.reason for one in rejects} <= {"conflict"}, rejects
    return len(rejects)


@pytest.mark.contract("4.8")
def test_changes_of_two_processes_and_the_command_line_at_the_same_moment_all_stay(running: Running) -> None:
    api = running.apis["a"]
    assert api.operate("PUT", PATH, "first", json={"tier": "pro"}).status_code == 200
    deadline = time.monotonic() + 30
    while running.apis["b"].operate("GET", PATH).status_code != 200:
        assert time.monotonic() < deadline, "the other process does not know the organization"
    with ThreadPoolExecutor(3) as at_once:
        patching = [at_once.submit(patch_often, one, writer) for writer, one in running.apis.items()]
        putting = at_once.submit(put_often, running.pipeline)
        for one in (*patching, putting):
            one.result()
    put = api.operate("GET", PATH).json()["put"]
    assert (put["concurrency"], put["objects_per_batch"]) == (CHANGES["a"], CHANGES["b"])
    assert put["credits_micro_per_month"] == CHANGES["cli"] * 1_000_000
    entries = api.operate("GET", "trail", params={"account_id": "org_changed", "limit": 200}).json()["entries"][::-1]
    assert len(entries) == 1 + sum(CHANGES.values())
    for earlier, entry in pairwise(entries):
        assert entry["before"] == earlier["after"]
        changed = {name for name, value in entry["after"].items() if entry["before"].get(name) != value}
        assert changed == {f"{FIELDS[entry['command_id'].split('-')[0]]}_own"}, json.dumps(entry)
    assert asyncio.run(conflicts(running.pipeline)) > 0, "no two met: this proves nothing"
