"""The engine of one worker: ties each assigned partition's core to Faust's group, assignment and consumer."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, time
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from sluicegate.consumers import is_cancelled
from sluicegate_schemas.topics import DECISIONS, STATE, USAGE

from ..health import Health
from ..settings import Settings
from .batching import Batch, BatchApp, BatchConsumer
from .broker import Broker
from .core import PartitionCore
from .figures import Figures
from .followers import AccountsFollower, CatalogueFollower, SinkFollower
from .limits import Limits
from .machine import Machine
from .runner import Runner

log = logging.getLogger(__name__)

TICK_S = 0.02
_REJOIN_EVERY_S = 1.0

MachineFactory = Callable[[int], Machine]
"""A new, empty machine for the partition."""


class EngineRefusedError(RuntimeError):
    """The worker must not go on; the message says why and what to do."""


class Engine:
    """All partitions of one worker. Connect it with ``install``; hand it each batch with ``fetched``."""

    def __init__(
        self,
        settings: Settings,
        machine_factory: MachineFactory,
        recovering: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """``recovering`` is entered for the time of each recovery; see ``garbage``, for a process that is a worker."""
        self.settings = settings
        self.broker = Broker(settings.brokers, settings.batch_bytes_max, settings.topic(DECISIONS.name))
        self.runners: dict[int, Runner] = {}
        self.figures = Figures()
        self._app: BatchApp | None = None
        self._machine_factory = machine_factory
        self._recovering = recovering
        self._limits = Limits(
            flush_interval_s=settings.flush_interval_ms / 1000,
            rows_max=settings.rows_max,
            batch_bytes_max=settings.batch_bytes_max,
            tick_interval_s=settings.tick_interval_s,
            catalogue_age_max_s=settings.catalogue_age_max_s,
        )
        self._parked: dict[int, Runner] = {}
        self._assigned: list[int] | None = None
        self._usage_topic = settings.topic(USAGE.name)
        self._accounts = AccountsFollower(self.broker, settings, self._live)
        self._catalogue = CatalogueFollower(self.broker, settings, self._live)
        self._sink = SinkFollower(settings, self._live)
        self._followers: list[asyncio.Task[None]] = []
        self._round = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._producer_lost = False
        self._rejoined_at = float("-inf")
        self._refused: str | None = None

    def install(self, app: BatchApp) -> None:
        """Connects the engine to the signals of ``app``, whose ``positions`` must be this engine's."""
        self._app = app
        app.on_rebalance_complete.connect(self._on_assigned)
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_before_shutdown.connect(self._on_shutdown)

    def _live(self) -> Collection[Runner]:
        return list(self.runners.values())

    @property
    def _consumer(self) -> BatchConsumer:
        assert self._app is not None
        consumer = self._app.consumer
        assert isinstance(consumer, BatchConsumer)
        return consumer

    def health(self) -> Health:
        """Ready once the group has answered and each partition that it gave is recovered and not given up."""
        ready = [number for number, runner in sorted(self.runners.items()) if runner.ready]
        waits_for = ""
        if self._assigned is None:
            waits_for = "its broker, or for the group to assign partitions"
        elif missing := [number for number in self._assigned if number not in ready]:
            waits_for = f"partitions {missing}, which are not recovered or were given up"
        return Health.now([f"{self._usage_topic}/{number}" for number in ready], waits_for)

    @property
    def assigned(self) -> list[int] | None:
        """The partitions that the group gave last; None while it is asked."""
        return self._assigned

    @property
    def catalogue_seen_at(self) -> float | None:
        """When the catalogue topic was last read to its end with a version in it (monotonic seconds)."""
        return self._catalogue.seen_at

    @property
    def lease_until(self) -> float:
        """Before that no other worker can have been given this one's partitions (monotonic seconds)."""
        settings = self.settings
        return self._consumer.heartbeat_sent_at + settings.session_s - settings.lease_margin_s

    # What Faust asks.

    async def positions(self, assigned: frozenset[TP]) -> Mapping[TP, int]:
        """Where to read on: after what the state has applied."""
        wanted = {}
        for tp in assigned:
            runner = self.runners.get(tp.partition) if tp.topic == self._usage_topic else None
            if runner is not None and runner.ready:
                wanted[tp] = runner.core.usage_next
        return wanted

    def fetched(self, batch: Batch, event: Any) -> None:
        """A batch of usage records, with the Faust event that acknowledges it."""
        runner = self.runners.get(batch.partition)
        if runner is not None:
            runner.fetched(batch, event)

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        app, consumer = self._app, self._consumer
        assert app is not None
        generation = app.consumer_generation_id
        mine = sorted(tp.partition for tp in consumer.assignment() if tp.topic == self._usage_topic)
        self._assigned = mine
        self._round += 1
        self.figures.rebalances += 1
        this_round = self._round
        parked = self._unharmed_parked()
        self._close(self.runners.values())
        self.runners = {}
        started_at = monotonic()
        try:
            with self._recovering():
                if mine:
                    await self._connect()
                for partition in mine:
                    runner = await self._runner(partition, parked.pop(partition, None), generation)
                    if self._round != this_round:
                        runner.close()
                        return
                    self.runners[partition] = runner
                runners = list(self.runners.values())
                for runner in runners:
                    await runner.recovered.wait()
        except (KafkaError, OSError) as error:
            log.warning("the partitions cannot be recovered yet (%s: %s); rejoining", type(error).__name__, error)
            self._close(self.runners.values())
            self._rejoin_soon()
            return
        finally:
            self._close(parked.values())
        if mine and self._round == this_round:
            ready = [runner.partition for runner in runners if runner.ready]
            log.info(
                "READY generation %d, partitions %s of %s, after %.2f s",
                generation, ready, mine, monotonic() - started_at,
            )  # fmt: skip

    def _close(self, runners: Iterable[Runner]) -> None:
        for runner in runners:
            runner.close()

    def _unharmed_parked(self) -> dict[int, Runner]:
        """The partitions that were given back and may go on with their epoch.

        None where the producers are made anew: what the old ones hold may land behind what the new ones send, and must
        be known by its older epoch then.
        """
        parked, self._parked = self._parked, {}
        if self._producer_lost:
            self._close(parked.values())
            parked = {}
        return parked

    async def _connect(self) -> None:
        await self.broker.start()
        if self._producer_lost:
            await self.broker.renew()
            self._producer_lost = False
        if not self._followers:
            works = (self._accounts.run(), self._catalogue.run(), self._sink.run(), self._tick())
            self._followers = [asyncio.ensure_future(self._guard(work)) for work in works]

    async def _runner(self, partition: int, parked: Runner | None, generation: int) -> Runner:
        if parked is not None:
            state_end = await self.broker.end(self.settings.topic(STATE.name), partition)
            if parked.come_back(generation, state_end):
                self._catalogue.brief(parked)  # a version that came meanwhile was told to the live ones alone
                return parked
        core = PartitionCore(
            partition,
            self._machine_factory(partition),
            self._limits,
            accept_lost_source=self.settings.accept_lost_source,
        )
        runner = Runner(core, self)
        runner.figures = self.figures
        self._catalogue.brief(runner)
        runner.start(generation, secrets.randbits(32), int(time() * 1000))
        return runner

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self._assigned = None
        self._round += 1
        self._close([runner for runner in self.runners.values() if not runner.ready])
        owned = [runner for runner in self.runners.values() if runner.ready]
        timeout_s = self.settings.session_s / 3
        kept = await asyncio.gather(*(runner.give_back(timeout_s) for runner in owned))
        self.runners = {}
        for runner, keep in zip(owned, kept, strict=True):
            if keep:
                self._parked[runner.partition] = runner
        if owned:
            log.info("gave back %d partitions, %d of them clean", len(owned), sum(kept))

    async def _on_shutdown(self, *_: Any, **__: Any) -> None:
        await self._on_revoked()
        for task in self._followers:
            task.cancel()
        if self._followers:
            await asyncio.wait(self._followers)
        for runner in self._parked.values():
            runner.close()
        await self.broker.stop()

    # What runners ask.

    def dropped(self, runner: Runner, reason: str) -> None:
        """The partition may belong to another worker: forget it, and rejoin with new producer ids."""
        log.warning("partition %d given up: %s", runner.partition, reason)
        self._producer_lost = True
        if self.runners.get(runner.partition) is runner:
            self._rejoin_soon()

    def stalled(self, runner: Runner) -> None:
        """No usage comes in, not even the ticks: rejoin."""
        log.warning("partition %d: not even its own ticks were delivered lately; rejoining", runner.partition)
        self._rejoin_soon()

    def _rejoin_soon(self) -> None:
        task = asyncio.ensure_future(self._rejoin())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rejoin(self) -> None:
        asked_in = self._round
        wait_s = self._rejoined_at + _REJOIN_EVERY_S - monotonic()
        self._rejoined_at = max(monotonic(), self._rejoined_at + _REJOIN_EVERY_S)
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if self._round != asked_in:
            return  # a rebalance has begun meanwhile: it makes all runners anew
        if self._app is not None and not self._app.should_stop:
            self.figures.rejoins += 1
            self._consumer.rejoin()

    def refused(self, reason: str) -> None:
        """Going on would count wrongly: stop the worker."""
        if self._refused is None:
            self._refused = reason
            log.critical("STOPPED: %s", reason)
            assert self._app is not None
            task = asyncio.ensure_future(self._app.crash(EngineRefusedError(reason)))
            self._tasks.add(task)

    def refresh_accounts(self, runner: Runner) -> None:
        """See ``AccountsFollower.refresh``."""
        self._accounts.refresh(runner)

    async def seek(self, tp: TP, offset: int) -> None:
        """Seeks usage."""
        await self._consumer.seek_wait({tp: offset})

    def set_paused(self, tp: TP, *, paused: bool) -> None:
        """Pauses or resumes fetching of one partition."""
        if paused:
            self._consumer.pause_partitions([tp])
        else:
            self._consumer.resume_partitions([tp])

    # Time.

    async def _tick(self) -> None:
        while True:
            for runner in list(self._live()):
                runner.tick(monotonic(), self.lease_until)
                await asyncio.sleep(0)  # a tick may flush, which takes milliseconds: others' decisions go first
            await asyncio.sleep(TICK_S)

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            self.refused("a part of the engine was cancelled by a client of Kafka. Nothing was lost: start it anew.")
        except Exception as error:
            log.exception("the engine failed")
            self.refused(f"{type(error).__name__}: {error}. Nothing was lost: the state stands at the last flush.")
