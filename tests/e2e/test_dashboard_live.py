"""The dashboard on the real API process, beside a real worker, sink, Kafka and ClickHouse engine."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from playwright.sync_api import expect

from clickhouse.projection import project
from clickhouse.roll import roll
from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.api_process import OPERATOR, OPERATORS, ApiProcess, secret_of
from tests.browser import browser
from tests.pipeline import Pipeline

KEY = "key_wren_1"
"""Of an organization with 500 credits a month."""
HOURS_MS = tuple(hours * 3_600_000 for hours in range(1, 7))
pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(300)]


class Running(NamedTuple):
    pipeline: Pipeline
    api: ApiProcess


@pytest.fixture(scope="module")
def running(kafka: Kafka, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything, with ten credits used in each of the six hours before."""
    folder = tmp_path_factory.mktemp("dashboard")
    pipeline = Pipeline(kafka, clickhouse, f"t{secrets.token_hex(5)}", folder)
    operators = folder / "operators.toml"
    operators.write_text(OPERATORS)
    api = ApiProcess(pipeline.environment(), folder, SLUICEGATE_API_OPERATORS_FILE=str(operators))
    try:
        asyncio.run(pipeline.start())
        asyncio.run(_search(pipeline, HOURS_MS))
        api.process.start()
        yield Running(pipeline, api)
    finally:
        api.process.kill()
        pipeline.close()


async def _search(pipeline: Pipeline, ago_ms: tuple[int, ...]) -> None:
    """Requests of 10 credits, each so long ago."""
    publisher = pipeline.publisher()
    await publisher.start()
    for ago in ago_ms:
        now_ms = time.time_ns() // 1_000_000 - ago
        assert publisher.publish(
            org_id="org_wren",
            api_key_id=KEY,
            operation="search.web",
            started_at_ms=now_ms - 30,
            ts_ms=now_ms,
            duration_ms=30,
            status=200,
        )
    await publisher.close()


def _await_projection(pipeline: Pipeline) -> None:
    """Until ClickHouse can tell one: the API keeps what it was told, also that there is none, for a minute."""
    client = pipeline.address.connect()
    deadline = time.monotonic() + 60
    while not project(client, datetime.now(UTC)):
        assert time.monotonic() < deadline, "what was used in the hours before is not projected"
        roll(client)  # which the sink does once a minute
        time.sleep(0.2)
    client.close()


def test_a_newcomer_sees_credits_fall_a_block_come_and_why_it_did(running: Running) -> None:
    pipeline, api = running
    api.until("/v1/organizations/usage", KEY, lambda body: body["credits"]["used"] == 60, limit_s=60.0)
    _await_projection(pipeline)
    with browser() as chromium, ThreadPoolExecutor(1) as aside:
        page = chromium.new_page()
        page.goto(f"{api.url}/")
        page.get_by_label("API key").fill(secret_of(KEY))
        page.keyboard.press("Enter")
        expect(page.locator(".status")).to_contain_text("Live")
        expect(page.get_by_role("heading", level=1)).to_have_text("org_wren")
        expect(page.locator("#credits-left")).to_have_text("440")
        expect(page.get_by_text("80 %:")).to_be_visible()
        expect(page.get_by_role("region", name="Credits").locator("canvas")).to_be_visible()

        aside.submit(asyncio.run, _search(pipeline, (0,) * 14)).result()
        expect(page.locator("#credits-left")).to_have_text("300")
        aside.submit(asyncio.run, _search(pipeline, (0,) * 30)).result()
        expect(page.locator("#credits-left")).to_have_text("0")
        blocks = page.get_by_role("region", name="Blocked now").get_by_role("listitem")
        block = blocks.filter(has_text="Operations that cost credits")
        expect(block).to_contain_text("500 of 500")
        block.get_by_text("Why").click()
        expect(block).to_contain_text(KEY)
        expect(block.get_by_role("row").nth(1)).to_contain_text("search.web")
        expect(page.get_by_role("region", name="Alerts").get_by_role("listitem").first).to_be_visible()
        usage = page.get_by_role("region", name="Usage", exact=True)
        usage.get_by_role("radio", name="Operation").check()
        expect(usage.get_by_role("row", name="search.web")).to_be_visible()


def test_an_operator_sees_who_uses_most_the_path_of_an_event_and_what_was_changed(running: Running) -> None:
    pipeline, api = running
    api.until("/v1/organizations/usage", KEY, lambda body: body["credits"]["used"] >= 60, limit_s=60.0)
    _await_projection(pipeline)  # what it is made of is what the top consumers are
    with browser() as chromium, ThreadPoolExecutor(1) as aside:
        page = chromium.new_page()
        page.goto(f"{api.url}/")
        page.get_by_label("API key").fill(OPERATOR)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Operations")).to_be_visible()
        consumers = page.get_by_role("region", name="Top consumers")
        expect(consumers.get_by_role("row", name="org_wren")).to_be_visible()
        workers = page.get_by_role("region", name="Path of an event").get_by_role("listitem").filter(has_text="Workers")
        expect(workers).to_contain_text("1 member")

        change = {"json": {"tier": "pro", "reason": "As agreed with Vera"}}
        changed = aside.submit(api.operate, "PUT", "organizations/org_seen", "seen", **change).result()
        assert changed.status_code == 200, changed.text
        expect(page.get_by_role("region", name="Changes")).to_contain_text("As agreed with Vera", timeout=60_000)
