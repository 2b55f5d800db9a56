"""The command line against a real broker, a worker, the sink and ClickHouse."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from sluicegate.cli import decisions
from sluicegate.cli.exits import Exit
from sluicegate.cli.session import Session
from sluicegate.errors import NotFoundError
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.command_line import run
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes]
LIMIT_S = 60.0
OTHERS = (
    "pool put org_part --cap 9 --reserved 2",
    "boost put org_new b1 --until +1h --rates 200/400/5000 --credits 3",
    "boost end org_new b1",
    "exempt put org_new x1 --limit requests_per_minute --until +1h",
    "exempt end org_new x1",
    "budget put org_new day --credits 7 --threshold 80 --block --mode hard",
    "budget remove org_new day",
    "reserve org_new search --credits 4",
    "recount org_new --count collections=3 --count buckets=1",
    "grant revoke org_new g1",
)


class Operator:
    """Runs commands as an operator of this pipeline would."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (pipeline.environment() | {"SLUICEGATE_OPERATOR": "ada"}).items():
            monkeypatch.setenv(name, value)

    async def run(self, *arguments: str) -> Result:
        return await asyncio.to_thread(run, *arguments)

    async def json(self, *arguments: str) -> Any:
        result = await self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        return json.loads(lines[0]) if arguments[0] != "tail" else [json.loads(line) for line in lines]


async def until(found: Any, what: str) -> Any:
    """What ``found`` gives, as soon as it gives something."""
    deadline = time.monotonic() + LIMIT_S
    while not (result := await found()):
        assert time.monotonic() < deadline, f"{what} did not come within {LIMIT_S:g} s"
        await asyncio.sleep(0.3)
    return result


@pytest.mark.contract("4.5", "4.8")
async def test_an_operator_changes_accounts_and_learns_why_a_gate_closed(
    kafka: Kafka, clickhouse: ClickHouse, fresh_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(kafka, clickhouse, fresh_prefix, tmp_path)
    operator = Operator(pipeline, monkeypatch)
    try:
        await pipeline.start()
        await _changes(operator)
        await _explains(pipeline, operator)
        await _is_well(operator)
    finally:
        pipeline.close()


async def _changes(operator: Operator) -> None:
    put = ("org", "put", "org_new", "--tier", "pro", "--concurrency", "7")
    assert (await operator.json(*put, "--reason", "a new customer"))["trail"]["reason"] == "a new customer"
    key = await operator.json("key", "new", "org_new")
    shown = await until(lambda: _key(operator, key["api_key_id"]), "the new key")
    assert shown["organization"]["concurrency"] == 7
    assert shown["put"]["issued_by"] == "ada"
    await operator.json("org", "put", "org_new", "--keep", "--tier", "team")
    plan = await until(lambda: _tier(operator, "team"), "the new tier")
    assert (plan["concurrency"], plan["not_the_plans"]) == (7, ["concurrency"])

    grant = ("grant", "put", "org_new", "g1", "--credits", "5", "--command-id", "cmd-1")
    assert (await operator.json(*grant))["was_known"] is False
    assert (await operator.json(*grant))["was_known"] is True
    await operator.json("org", "put", "org_part", "--tier", "pro", "--account", "org_new", "--cap", "50")
    assert await until(lambda: _is_member(operator), "the member")
    for change in OTHERS:
        outcome = await operator.json(*change.split())
        assert outcome["outcome"] == "applied", outcome
    members = {one["organization_id"]: one for one in await operator.json("pool", "show", "org_new")}
    assert (members["org_part"]["cap_micro"], members["org_part"]["reserved_micro"]) == (9_000_000, 2_000_000)
    refused = await operator.run("grant", "revoke", "org_new", "never-given")
    assert refused.exit_code == Exit.REFUSED, refused.output
    assert refused.stderr.startswith("error: refused: ")
    said = await operator.json("tail", "trail", "--from", "start", "--no-follow")
    assert sum(one["record"]["command_id"] == "cmd-1" for one in said) == 1


async def _is_member(operator: Operator) -> bool:
    return any(one["organization_id"] == "org_part" for one in await operator.json("org", "list"))


async def _key(operator: Operator, api_key_id: str) -> Any:
    shown = await operator.json("org", "show", "org_new")
    return shown if api_key_id in {key["api_key_id"] for key in shown["keys"]} else None


async def _tier(operator: Operator, tier: str) -> Any:
    plan = await operator.json("plan", "show", "org_new")
    return plan if plan["tier"] == tier else None


async def _explains(pipeline: Pipeline, operator: Operator) -> None:
    publisher = pipeline.publisher()
    await publisher.start()
    now_ms = time.time_ns() // 1_000_000
    for number in range(60):
        publisher.publish(
            org_id="org_wren",
            api_key_id="key_wren_1",
            operation="search.web",
            started_at_ms=now_ms + number,
            ts_ms=now_ms + number,
            duration_ms=0,
            status=200,
        )
    await publisher.close()
    block = await until(lambda: _block(operator), "the block")
    explained = await operator.json("why", block["decision_id"], "--last", "5")
    assert explained["stands"] is True
    assert explained["event"]["event"]["id"] == block["cause"]["event_id"]
    assert len(explained["before"]) == 5
    assert all(seen["event"]["org_id"] == "org_wren" for seen in explained["before"])
    balances = await until(lambda: _used(operator), "the balance")
    assert {one["used_micro"] for one in balances if one["kind"] == "account"} == {600_000_000}

    await operator.json("grant", "put", "org_wren", "more", "--credits", "1_000")
    assert await until(lambda: _does_not_stand(operator, block["decision_id"]), "the end of the block")
    kept = await until(lambda: _in_clickhouse(operator, block["decision_id"]), "the block in ClickHouse")
    assert kept == block
    unknown = await operator.run("why", "no-such-decision")
    assert unknown.exit_code == Exit.NOT_FOUND, unknown.output


async def _block(operator: Operator) -> Any:
    said = await operator.json("tail", "decisions", "--from", "start", "--no-follow")
    blocks = [one["record"] for one in said if one["record"]["verdict"] == "block"]
    return next((one for one in blocks if one["limit_name"] == "credits" and one["scope"]["id"] == "org_wren"), None)


async def _used(operator: Operator) -> Any:
    result = await operator.run("usage", "org_wren", "--json")
    balances = json.loads(result.stdout) if result.exit_code == 0 else []
    return balances if any(one["used_micro"] == 600_000_000 for one in balances) else None


async def _does_not_stand(operator: Operator, decision_id: str) -> bool:
    return not (await operator.json("why", decision_id))["stands"]


async def _in_clickhouse(operator: Operator, decision_id: str) -> Any:
    """The decision as ClickHouse holds it: what ``why`` falls back to once the topic was compacted."""
    session = Session.begin(as_json=True, bootstrap_servers=None, topic_prefix=None)

    async def forgotten(*_: object) -> None:
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "find_on_topic", forgotten)
        try:
            found = await decisions.find_decision(session, decision_id)
        except NotFoundError:
            return None
    assert found.where == "clickhouse"
    return found.decision.model_dump(mode="json")


async def _is_well(operator: Operator) -> None:
    result = await operator.run("doctor", "--json", "--clock-wait", "20")
    findings = {one["check"]: one for one in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 0, findings
    assert {name: one["status"] for name, one in findings.items() if one["status"] == "error"} == {}
    assert {"broker", "topics", "catalogue", "worker", "sink", "clickhouse", "schema", "clock", "versions"} <= set(
        findings
    )
    assert findings["clock"]["status"] == "ok", findings["clock"]
