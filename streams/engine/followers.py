"""The topics that a worker follows beside usage: operator commands, the catalogue, and how far the sink has come."""

import asyncio
import logging
from collections.abc import Callable, Collection
from time import monotonic

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.topics import ACCOUNTS, CATALOG, STATE

from ..settings import Settings
from .broker import Broker, Reading
from .runner import Runner, input_record

log = logging.getLogger(__name__)

_POLL_MS = 50
_COMMANDS_MAX = 100
_RETRY_S = 0.5
_SINK_POLL_S = 2.0
_WAITING_LOG_S = 10.0
_CATALOGUES_MAX = 256
"""Catalogue versions that are known; above it the one that took effect first goes, and what happened under it is rated
by the next. The order of the records plays no part, so all workers know the same ones."""


class AccountsFollower:
    """Hands each owned partition the operator commands of its accounts partition, soon after they are appended.

    Not through the group: the positions live in the flush headers, with the state that they belong to.
    """

    def __init__(self, broker: Broker, settings: Settings, runners: Callable[[], Collection[Runner]]) -> None:
        self._broker = broker
        self._topic = settings.topic(ACCOUNTS.name)
        self._runners = runners
        self._refreshes: dict[Runner, int | None] = {}
        self._assigned: dict[TopicPartition, Runner] = {}

    def refresh(self, runner: Runner) -> None:
        """Tells the core of ``runner`` once it has all commands that stand now."""
        self._refreshes[runner] = None

    async def run(self) -> None:
        """Follows until cancelled; a broker that is away is waited for."""
        while True:
            try:
                async with Reading(self._broker.consumer()) as consumer:
                    self._assigned = {}
                    while True:
                        await self._cycle(consumer)
            except (KafkaError, OSError) as error:
                log.warning("the accounts topic cannot be read (%s); trying again", error)
                await asyncio.sleep(_RETRY_S)

    async def _cycle(self, consumer: AIOKafkaConsumer) -> None:
        owned = {TopicPartition(self._topic, runner.partition): runner for runner in self._runners() if runner.ready}
        if owned != self._assigned:
            consumer.assign(list(owned))
            for tp, runner in owned.items():
                consumer.seek(tp, runner.core.accounts_next)
            self._assigned = owned
        now = monotonic()
        open_tps = [tp for tp, runner in owned.items() if runner.ready and runner.core.accepts_input(now)]
        if not open_tps:
            await asyncio.sleep(_POLL_MS / 1000)
            return
        for runner in list(self._refreshes):
            self._refreshes[runner] = await self._broker.end(self._topic, runner.partition)
        timeout_ms = 5 if self._refreshes else _POLL_MS
        fetched = await consumer.getmany(*open_tps, timeout_ms=timeout_ms, max_records=_COMMANDS_MAX)
        for tp, run in fetched.items():
            runner = owned[tp]
            if runner.ready:
                runner.perform(runner.core.accounts_fetched([input_record(record) for record in run]))
            if runner.core.accounts_next <= run[-1].offset:
                self._assigned = {}  # not taken in (the partition is being given back): read again from where it stands
        for runner, end in list(self._refreshes.items()):
            tp = TopicPartition(self._topic, runner.partition)
            if not runner.ready:
                del self._refreshes[runner]
            elif owned.get(tp) is not runner:
                continue  # it became ready after this cycle began: the next one reads its partition
            elif end is not None and await consumer.position(tp) >= end:
                del self._refreshes[runner]
                runner.perform(runner.core.accounts_current())


class CatalogueFollower:
    """Reads the catalogue topic to its end and follows it; every runner hears of each version, and of the end seen."""

    def __init__(self, broker: Broker, settings: Settings, runners: Callable[[], Collection[Runner]]) -> None:
        self._broker = broker
        self._tp = TopicPartition(settings.topic(CATALOG.name), 0)
        self._runners = runners
        self._versions: dict[int, Catalogue] = {}
        self.seen_at: float | None = None
        """When the topic was last read to its end, and held a version (monotonic seconds)."""
        self._told_at = float("-inf")

    def brief(self, runner: Runner) -> None:
        """Tells a new runner what is known so far, before anything is restored or applied."""
        if self._versions:
            runner.core.catalogues(self._rising())
        if self._versions and self.seen_at is not None:
            runner.core.catalogue_seen(self.seen_at)

    def _rising(self) -> list[Catalogue]:
        return [self._versions[version] for version in sorted(self._versions)]

    async def run(self) -> None:
        """Follows until cancelled; a broker that is away is waited for."""
        while True:
            try:
                async with Reading(self._broker.consumer()) as consumer:
                    consumer.assign([self._tp])
                    consumer.seek(self._tp, 0)
                    while True:
                        await self._cycle(consumer)
            except (KafkaError, OSError) as error:
                log.warning("the catalogue topic cannot be read (%s); trying again", error)
                await asyncio.sleep(_RETRY_S)

    async def _cycle(self, consumer: AIOKafkaConsumer) -> None:
        asked_at = monotonic()
        end = await self._broker.end(self._tp.topic, 0)
        added = False
        while True:
            for run in (await consumer.getmany(self._tp, timeout_ms=200)).values():
                for record in run:
                    added |= self._take(record.value)
            if await consumer.position(self._tp) >= end:
                break
        if not self._versions:
            if asked_at - self._told_at >= _WAITING_LOG_S:
                self._told_at = asked_at
                log.warning("no catalogue is published yet (topic %s); waiting: nothing can be rated", self._tp.topic)
            return
        self.seen_at = asked_at
        for runner in self._runners():
            if added:
                runner.core.catalogues(self._rising())
            runner.core.catalogue_seen(asked_at)

    def _take(self, value: bytes | None) -> bool:
        if value is None:
            return False
        try:
            catalogue = CatalogueRecord.model_validate_json(value).catalogue
        except ValidationError as error:
            log.error("a record of the catalogue topic is not usable, and is left out: %s", error)
            return False
        known = self._versions.setdefault(catalogue.version, catalogue)
        if known != catalogue:
            log.error("catalogue version %d was published again with other content; the first stands", known.version)
        if len(self._versions) > _CATALOGUES_MAX:
            first = min(self._versions.values(), key=lambda one: (one.effective_at, one.version))
            del self._versions[first.version]
        return known is catalogue


class SinkFollower:
    """Tells each runner which of its state records the sink holds, by the offsets that the sink's group committed."""

    def __init__(self, settings: Settings, runners: Callable[[], Collection[Runner]]) -> None:
        self._settings = settings
        self._topic = settings.topic(STATE.name)
        self._runners = runners

    async def run(self) -> None:
        """Follows until cancelled. While the sink has never committed, nothing is evicted."""
        while True:
            try:
                admin = AIOKafkaAdminClient(**self._settings.brokers.options())
                try:
                    await admin.start()
                    while True:
                        await self._cycle(admin)
                        await asyncio.sleep(_SINK_POLL_S)
                finally:
                    await admin.close()
            except (KafkaError, OSError) as error:
                log.warning("the sink's position cannot be read (%s); trying again", error)
                await asyncio.sleep(_SINK_POLL_S)

    async def _cycle(self, admin: AIOKafkaAdminClient) -> None:
        runners = {TopicPartition(self._topic, runner.partition): runner for runner in self._runners() if runner.ready}
        if not runners:
            return
        committed = await admin.list_consumer_group_offsets(self._settings.sink_group, partitions=list(runners))
        for tp, position in committed.items():
            if position.offset >= 0 and (runner := runners.get(tp)) is not None:
                runner.figures.of(tp.partition).sink_offset = position.offset
                runner.core.cells_durable_until(position.offset)
