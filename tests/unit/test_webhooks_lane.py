"""One endpoint's lane: what is due is sent, a few at a time, and an endpoint that is overloaded is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.webhook_receiver import SECRET, alert
from webhooks.book import Book
from webhooks.endpoints import Endpoint
from webhooks.lane import PARALLEL_MAX, PAUSE_MS_MAX, Lane
from webhooks.sender import Outcome

ENDPOINT = Endpoint(name="pager", url=httpx.URL("https://pager.example/"), secrets=(SECRET,), retry_delays_s=(5, 300))
NOW_MS = 1_769_860_800_000
ALERT = alert().model_dump_json()


class Scripted:
    """A sender whose attempts end when the test says."""

    def __init__(self) -> None:
        self.under_way: dict[str, asyncio.Future[Outcome]] = {}
        self.attempts: list[str] = []

    async def attempt(self, webhook_id: str, alert_json: str) -> Outcome:
        self.attempts.append(webhook_id)
        future = self.under_way[webhook_id] = asyncio.get_running_loop().create_future()
        return await future

    def end(self, webhook_id: str, outcome: Outcome | Exception) -> None:
        future = self.under_way.pop(webhook_id)
        if isinstance(outcome, Outcome):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)


class World:
    """A lane with a book, a sender and a clock by hand."""

    def __init__(self, alerts: int) -> None:
        self.now_ms = NOW_MS
        self.book, self.sender = Book(), Scripted()
        self.changed = 0
        self.lane = Lane(ENDPOINT, self.book, self.sender, self._changed, clock=lambda: self.now_ms, chance=lambda: 0.0)
        for number in range(alerts):
            self.take(number)

    def _changed(self) -> None:
        self.changed += 1

    def take(self, number: int) -> None:
        self.book.take("pager", f"alert-{number}", ALERT, alert_at_ms=self.now_ms, now_ms=self.now_ms)

    async def settle(self) -> None:
        self.lane.wake()
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, number: int, outcome: Outcome | Exception) -> None:
        self.sender.end(f"alert-{number}", outcome)
        await self.settle()


@asynccontextmanager
async def running(alerts: int) -> AsyncIterator[World]:
    world = World(alerts)
    task = asyncio.create_task(world.lane.run())
    try:
        await world.settle()
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_few_attempts_are_made_at_a_time_the_oldest_first() -> None:
    async with running(7) as world:
        assert world.sender.attempts == [f"alert-{number}" for number in range(PARALLEL_MAX)]
        await world.end(2, Outcome(None, 200))
        assert world.sender.attempts[PARALLEL_MAX:] == ["alert-4"]
        assert list(world.book.shelf("pager").delivered) == ["alert-2"]
        assert world.changed == 1


async def test_what_failed_is_tried_again_when_it_is_due_and_not_before() -> None:
    async with running(1) as world:
        await world.end(0, Outcome("timeout"))
        world.now_ms += 4_999
        await world.settle()
        assert world.sender.attempts == ["alert-0"]
        world.now_ms += 1
        await world.settle()
        assert world.sender.attempts == ["alert-0", "alert-0"]


async def test_an_endpoint_that_is_overloaded_is_left_alone_for_as_long_as_it_asks() -> None:
    async with running(1) as world:
        await world.end(0, Outcome("status", 429, 60.0))
        world.take(1)
        await world.settle()
        world.now_ms += 59_999
        await world.settle()
        assert world.sender.attempts == ["alert-0"]
        world.now_ms += 1
        await world.settle()
        assert sorted(world.sender.attempts) == ["alert-0", "alert-0", "alert-1"]


async def test_one_answer_holds_nothing_else_up_for_longer_than_an_hour() -> None:
    async with running(1) as world:
        await world.end(0, Outcome("status", 503, 86_400.0))
        world.take(1)
        world.now_ms += PAUSE_MS_MAX
        await world.settle()
        assert world.sender.attempts == ["alert-0", "alert-1"]


async def test_an_attempt_that_fails_in_a_way_nobody_foresaw_is_a_failure_like_others() -> None:
    async with running(2) as world:
        await world.end(0, RuntimeError("nobody foresaw this"))
        await world.end(1, Outcome(None, 204))
        shelf = world.book.shelf("pager")
        assert (shelf.pending["alert-0"].failure, list(shelf.delivered)) == ("protocol", ["alert-1"])


async def test_after_a_stop_nothing_more_is_begun() -> None:
    async with running(6) as world:
        attempts = list(world.lane.stop())
        assert len(attempts) == PARALLEL_MAX
        for number in range(PARALLEL_MAX):
            await world.end(number, Outcome(None, 204))
        assert all(attempt.done() for attempt in attempts)
        assert len(world.sender.attempts) == PARALLEL_MAX
