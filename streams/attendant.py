"""What stands beside the work of a process: endpoint, watchdog, the look at its progress, and leaving when it is stuck.

One of it belongs to each worker and sink; it starts with the app and ends with the process. It only reads the work.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable
from time import monotonic
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from .endpoint import Answer, Endpoint
from .engine.batching import BatchApp, BatchConsumer
from .health import INTERVAL_S, MAX_AGE_S_DEFAULT, Health
from .log_ends import LogEnds
from .progress import UNREADY_AFTER_S, Halt, Progress, Work
from .settings import Settings
from .watchdog import EXIT_STUCK, Watchdog

log = logging.getLogger(__name__)

LEAVE_LIMIT_S: Final = 10.0
"""How long an orderly leave may take: the healthy partitions are flushed, the group is left."""


class Worked(Protocol):
    """What an attendant needs to know of the work."""

    @property
    def ends(self) -> LogEnds:
        """Where its logs end."""

    def works(self) -> Iterable[Work]:
        """Each step of each partition, as of now."""

    def health(self, halts: Collection[Halt]) -> Health:
        """What is said of the process, given what does not go on."""


class Attendant:
    """Call ``start`` on the event loop of ``app``. ``end`` ends the process with a status."""

    def __init__(
        self,
        settings: Settings,
        worked: Worked,
        collectors: Iterable[Collector],
        *,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._settings = settings
        self._worked = worked
        self._end = end
        self._progress = Progress(settings.stuck_max_s)
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        self._registry.register(ProcessCollector(registry=None))
        self._app: BatchApp | None = None
        self._endpoint: Endpoint | None = None
        self._watchdog = Watchdog(settings.loop_blocked_max_s, leave=self._leave_group, end=end)
        self._health = Health.now([], "its start")
        self._said: frozenset[tuple[str, str, str]] = frozenset()

    def start(self, app: BatchApp) -> None:
        """Listens, watches and looks until the process ends. Raises ListenError."""
        self._app = app
        self._endpoint = Endpoint(
            self._settings.health_listen, registry=self._registry, live=self.live, ready=self.ready
        )
        self._watchdog.start()
        for work in (self._watchdog.beat(), self._worked.ends.run(), self._look_forever()):
            app.add_future(work)

    def health(self) -> Health:
        """As of the last look, at most a second ago."""
        return msgspec.structs.replace(self._health, listens=self._endpoint.netloc if self._endpoint else "")

    def live(self) -> Answer:
        """False where a new start would help: the event loop does not run, or a partition is stuck."""
        blocked_s, stuck = self._watchdog.blocked_s, self._health.stuck
        body = {"event_loop_blocked_s": round(blocked_s, 1), "stuck": stuck}
        return Answer(blocked_s <= MAX_AGE_S_DEFAULT and not stuck, body)

    def ready(self) -> Answer:
        """Whether it does its work on all that it was given, within its bounds."""
        return Answer(self._health.ready and self._watchdog.blocked_s <= MAX_AGE_S_DEFAULT, self._health)

    async def _look_forever(self) -> None:
        while True:
            halts = self._progress.look(monotonic(), self._worked.works())
            self._health = self._worked.health(halts)
            self._say(halts)
            if error := self._group_error():
                await self._end_in_order(f"its part in the group has ended: {error}")
            if stuck := [halt for halt in halts if halt.stuck]:
                now = monotonic()
                of_one = [halt for halt in halts if halt.partition == stuck[0].partition and not halt.waits]
                steps = (f"its {one.step} has not gone on for {now - one.since:.0f} s, on {one.on}" for one in of_one)
                await self._end_in_order(f"{stuck[0].partition}: {'; '.join(steps)}")
            await asyncio.sleep(INTERVAL_S)

    def _say(self, halts: list[Halt]) -> None:
        """Each halt once, when it has lasted; and its end."""
        now = monotonic()
        lasting = {halt for halt in halts if now - halt.since >= UNREADY_AFTER_S}
        names = frozenset((halt.partition, halt.step, "waits for" if halt.waits else "halts on") for halt in lasting)
        for halt in lasting:
            word = "waits for" if halt.waits else "halts on"
            if (halt.partition, halt.step, word) not in self._said:
                log.warning(
                    "%s: its %s %s %s, since %.0f s", halt.partition, halt.step, word, halt.on, now - halt.since
                )
        for partition, step, _ in self._said - names:
            if not any((partition, step) == (halt.partition, halt.step) for halt in lasting):
                log.warning("%s: its %s goes on", partition, step)
        self._said = names

    def _group_error(self) -> BaseException | None:
        consumer: Any = None if self._app is None else self._app.consumer
        return consumer.group_error if isinstance(consumer, BatchConsumer) else None

    async def _end_in_order(self, why: str) -> None:
        """Flushes what can be, leaves the group, and ends the process."""
        log.critical(
            "STUCK: %s. Leaving the group and ending with status %d, so that others take over. Nothing is lost: "
            "the state stands at the last flush.",
            why,
            EXIT_STUCK,
        )
        limit = threading.Timer(LEAVE_LIMIT_S, self._end, (EXIT_STUCK,))
        limit.daemon = True
        limit.start()
        assert self._app is not None
        # Stopping the app cancels this task, so another one has to end the process.
        ending = asyncio.ensure_future(self._stop_and_end(self._app))
        await asyncio.shield(ending)

    async def _stop_and_end(self, app: BatchApp) -> None:
        try:
            await app.stop()
        except Exception:
            log.exception("the app could not be stopped in order")
        logging.shutdown()
        self._end(EXIT_STUCK)

    def _leave_group(self) -> None:
        """From another thread than the event loop's, which is blocked."""
        consumer: Any = None if self._app is None else self._app.consumer
        if isinstance(consumer, BatchConsumer):
            consumer.leave(LEAVE_LIMIT_S)
