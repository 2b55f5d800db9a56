"""The live stream, event by event, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api.live import OF_ORGANIZATION_MAX, WAITING_MAX
from tests.api_world import OTHER_SECRET, World, alert_record
from tests.gating import SECRET, credit_block, decision_record, key_record

LIMIT_S = 20.0


class Stream:
    """One open stream: what came, as (event, data, id)."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.body = b""
        self.came = asyncio.Event()
        self.leave = asyncio.Event()
        self.flows = asyncio.Event()
        self.flows.set()
        self.task: asyncio.Task[None] | None = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            await self.flows.wait()
            self.body += message.get("body", b"")
        self.came.set()

    async def receive(self) -> Any:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    @property
    def events(self) -> list[dict[str, str]]:
        blocks = [block for block in self.body.decode().split("\n\n") if "data:" in block]
        return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]  # type: ignore[misc]

    async def until(self, count: int) -> list[dict[str, str]]:
        async with asyncio.timeout(LIMIT_S):
            while len(self.events) < count:
                self.came.clear()
                await self.came.wait()
        return self.events

    async def ended(self) -> None:
        assert self.task is not None
        async with asyncio.timeout(LIMIT_S):
            await self.task


@asynccontextmanager
async def streaming(
    world: World, secret: str = SECRET, last_event_id: str = "", path: str = "/v1/organizations/live"
) -> AsyncIterator[Stream]:
    stream = Stream()
    headers = [(b"authorization", f"Bearer {secret}".encode()), (b"last-event-id", last_event_id.encode())]
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "",
        "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    stream.task = asyncio.create_task(world.app(scope, stream.receive, stream.send))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(LIMIT_S):
            while stream.status is None:
                await stream.came.wait()
        yield stream
    finally:
        stream.leave.set()
        await stream.ended()


async def test_a_stream_begins_with_the_balance_and_tells_of_credits_decisions_and_alerts() -> None:
    world = World()
    async with streaming(world) as stream:
        (first,) = await stream.until(1)
        assert (first["event"], json.loads(first["data"])["credits"]["remaining"]) == ("balance", 100_000)
        world.balance(used_micro=2_500_000)
        world.learn(credit_block(), decision_record(kind="organization", name="org_finch", decision_id="d-2"))
        world.alerts.apply(alert_record("a-1"))
        _, balance, decision, alert = await stream.until(4)
        assert json.loads(balance["data"])["credits"]["used"] == 2.5
        assert json.loads(decision["data"])["decision_id"] == "d-credits"
        assert json.loads(alert["data"])["alert_id"] == "a-1"


async def test_requests_that_cost_nothing_are_no_news_so_that_reading_causes_no_reading() -> None:
    world = World()
    async with streaming(world) as stream:
        await stream.until(1)
        world.balance(used_micro=1, sequence={"epoch": 1, "counter": 2})
        world.balance(used_micro=1, requests=9, sequence={"epoch": 1, "counter": 3})
        world.alerts.apply(alert_record("a-1"))
        assert [one["event"] for one in await stream.until(3)] == ["balance", "balance", "alert"]


async def test_another_organization_hears_nothing_of_it() -> None:
    world = World()
    async with streaming(world, OTHER_SECRET) as other, streaming(world) as own:
        world.balance(used_micro=7)
        world.alerts.apply(alert_record("a-1"))
        world.alerts.apply(alert_record("a-2", organization="org_finch"))
        await own.until(3)
        assert [one["event"] for one in await other.until(2)] == ["balance", "alert"]
        assert b"a-1" not in other.body


async def test_a_stream_that_comes_again_goes_on_where_it_broke_off() -> None:
    world = World()
    async with streaming(world) as stream:
        world.alerts.apply(alert_record("a-1"))
        last = (await stream.until(2))[-1]["id"]
    world.alerts.apply(alert_record("a-2"))
    async with streaming(world, last_event_id=last) as again:
        (missed,) = await again.until(1)
        assert json.loads(missed["data"])["alert_id"] == "a-2"
    async with streaming(world, last_event_id="other-1") as anew:
        assert (await anew.until(1))[0]["event"] == "balance"


@pytest.mark.parametrize("change", [{"revoked": True}, {"scopes": ("usage:read",)}], ids=["revoked", "scopes"])
async def test_a_key_that_is_revoked_or_may_read_less_ends_its_streams_with_the_next_event(change: Any) -> None:
    world = World()
    async with streaming(world) as stream:
        await stream.until(1)
        world.learn(key_record(rank=(2, 0), **change))
        world.alerts.apply(alert_record("a-1"))
        await stream.ended()
        assert b"a-1" not in stream.body


async def test_a_client_that_does_not_keep_up_is_let_go() -> None:
    world = World()
    async with streaming(world) as stream:
        await stream.until(1)
        stream.flows.clear()
        for number in range(WAITING_MAX + 10):
            world.alerts.apply(alert_record(f"a-{number}"))
        stream.flows.set()
        await stream.ended()
        assert len(stream.events) < WAITING_MAX
    assert len(world.app.state.hub) == 0


async def test_an_organization_has_a_bounded_number_of_streams() -> None:
    world = World()
    async with streaming(world) as first:
        others = [streaming(world) for _ in range(OF_ORGANIZATION_MAX)]
        opened = [await one.__aenter__() for one in others]
        assert [one.status for one in (first, *opened)] == [200] * OF_ORGANIZATION_MAX + [429]
        for one in others:
            await one.__aexit__(None, None, None)


@pytest.mark.parametrize("last", ["", "x-1", "-", "0-99999999999999999999", "\xff"])
async def test_a_last_event_id_of_any_kind_begins_anew(last: str) -> None:
    async with streaming(World(), last_event_id=last) as stream:
        assert (await stream.until(1))[0]["event"] == "balance"
