"""One endpoint's lane: makes its attempts when they are due, a few at a time, beside all other lanes."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from typing import Final, Protocol

from sluicegate.clock import Clock, epoch_ms

from .book import Book, Pending
from .endpoints import Endpoint
from .metrics import LaneFigures
from .sender import Outcome

log = logging.getLogger(__name__)

PARALLEL_MAX: Final = 4
"""Attempts at one endpoint at a time."""
THROTTLED_STATUSES: Final = frozenset({429, 502, 503, 504})
"""Answers after which nothing is sent to the endpoint for a while (Standard Webhooks 1.0, delivery failure)."""
PAUSE_MS_MAX: Final = 3_600_000
"""The longest that one answer holds up what else is due."""


class Sends(Protocol):
    """See ``sender.Sender``."""

    async def attempt(self, webhook_id: str, alert_json: str) -> Outcome: ...


class Lane:
    """Runs until cancelled; ``wake`` says that something may be due. ``changed`` is called after each attempt."""

    def __init__(
        self,
        endpoint: Endpoint,
        book: Book,
        sender: Sends,
        changed: Callable[[], object],
        *,
        clock: Clock = epoch_ms,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self.figures = LaneFigures()
        self._book = book
        self._sender = sender
        self._changed = changed
        self._clock = clock
        self._chance = chance
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._paused_until_ms = 0
        self._stopped = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    def stop(self) -> Collection[asyncio.Task[None]]:
        """Starts nothing more; returns the attempts that are under way."""
        self._stopped = True
        return self._under_way.values()

    async def run(self) -> None:
        """Makes attempts as they come due."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                wait_s = self._start_due(group)
                try:
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
                except TimeoutError:
                    continue

    def _start_due(self, group: asyncio.TaskGroup) -> float | None:
        """Starts what is due and there is room for; returns the seconds until more is, None where something else has to
        happen first."""
        if self._stopped:
            return None
        now_ms = self._clock()
        waiting = [
            delivery
            for webhook_id, delivery in self._book.shelf(self.endpoint.name).pending.items()
            if webhook_id not in self._under_way
        ]
        soonest_ms = None
        for delivery in waiting:
            due_ms = max(delivery.next_attempt_ms, self._paused_until_ms)
            if due_ms > now_ms:
                soonest_ms = due_ms if soonest_ms is None else min(soonest_ms, due_ms)
            elif len(self._under_way) < PARALLEL_MAX:
                self._under_way[delivery.webhook_id] = group.create_task(self._attempt(delivery))
        return None if soonest_ms is None else (soonest_ms - now_ms) / 1000

    async def _attempt(self, delivery: Pending) -> None:
        try:
            try:
                outcome = await self._sender.attempt(delivery.webhook_id, delivery.alert)
            except Exception:
                log.exception("endpoint %s: an attempt failed in a way that is not foreseen", self.endpoint.name)
                outcome = Outcome("protocol")
            self._note(delivery, outcome)
        finally:
            del self._under_way[delivery.webhook_id]
            self.wake()

    def _note(self, delivery: Pending, outcome: Outcome) -> None:
        now_ms, name = self._clock(), self.endpoint.name
        self.figures.note(outcome.failure, (now_ms - delivery.taken_at_ms) / 1000)
        if outcome.failure is None:
            self._book.delivered(delivery, outcome.status, now_ms)
        else:
            log.warning(
                "endpoint %s: attempt %d at %s failed: %s%s",
                name,
                delivery.attempts + 1,
                delivery.webhook_id,
                outcome.failure,
                f" {outcome.status}" if outcome.status else "",
            )
            if outcome.status in THROTTLED_STATUSES:
                pause_ms = round(max(outcome.retry_after_s, self.endpoint.retry_delays_s[0]) * 1000)
                self._paused_until_ms = now_ms + min(pause_ms, PAUSE_MS_MAX)
            self._book.failed(
                delivery,
                outcome.failure,
                status=outcome.status,
                retry_after_s=outcome.retry_after_s,
                delays_s=self.endpoint.retry_delays_s,
                chance=self._chance(),
                now_ms=now_ms,
            )
        self._changed()
