"""What operators' routes ask of Kafka, as one seam: the real one in a process, a fake in a test."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, Protocol

from sluicegate.operator.balances import kept_balances
from sluicegate.operator.catalogues import publications
from sluicegate.operator.commands import Outcome
from sluicegate.operator.decisions import Found
from sluicegate.operator.doctor import Diagnosis, Select, diagnose
from sluicegate.operator.doctor.lags import Groups
from sluicegate.operator.earlier import find_command
from sluicegate.operator.explain import Explanation, explain
from sluicegate.operator.groups import Topology, topology
from sluicegate.operator.log_page import Page
from sluicegate.operator.organizations import Put
from sluicegate.operator.own_values import own_values, read_puts, standing_put
from sluicegate.operator.publish import Published, publish
from sluicegate.operator.submit import KafkaCommandLog, Make, outcome_so_far, submit
from sluicegate.operator.system import System
from sluicegate.operator.tailed import Tailed, TailedRecord, tail_page
from sluicegate.operator.trail import trail_page
from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.outputs import Balance, TrailEntry

from .problems import away

AT_ONCE: Final = 8
PACKAGES: Final = ("sluicegate", "aiokafka", "pydantic", "msgspec", "fastapi", "clickhouse-connect")
"""Whose versions a diagnosis tells."""
WAITING_MAX: Final = 32
"""Requests that wait for their turn; further ones are answered 503."""


class Desk(Protocol):
    """Times are aware and in UTC. All may raise KafkaError or TopicsMissingError."""

    async def submit(
        self, make: Make, *, account_id: str, command_id: str, now: datetime, wait_s: float
    ) -> tuple[AnyCommand, Outcome]:
        """See ``sluicegate.operator.submit``."""

    async def outcome(self, account_id: str, command_id: str) -> Outcome | None:
        """What became of a command; None where there is none of that id."""

    async def own_values(self, account_id: str) -> Mapping[str, Put]:
        """See ``sluicegate.operator.own_values``."""

    async def standing_put(self, account_id: str, organization_id: str, *, now: datetime, wait_s: float) -> Put | None:
        """See ``sluicegate.operator.own_values``. Raises PendingError."""

    async def puts_before(self, account_id: str, organization_id: str, offset: int) -> Sequence[Put]:
        """The organization's puts that stand in the log below ``offset``, whatever became of them, the oldest first."""

    async def catalogues(self) -> Mapping[int, CatalogueRecord]:
        """The published versions, with who published each."""

    async def publish(self, catalogue: Catalogue, *, now: datetime, by: str, lead: timedelta) -> Published:
        """Publishes a catalogue. Raises PublishRefusedError."""

    async def publish_accounts(self, commands: Sequence[AnyCommand], *, now: datetime) -> Published:
        """Publishes the commands that were not published before. Raises PublishRefusedError."""

    async def trail(self, *, limit: int, account_id: str | None, before: Mapping[int, int] | None) -> Page[TrailEntry]:
        """See ``sluicegate.operator.trail``."""

    async def explain(self, found: Found, *, now: datetime, last: int) -> Explanation:
        """See ``sluicegate.operator.explain``."""

    async def topology(self) -> Topology:
        """Who has which partition, and how far behind."""

    async def tail(
        self, what: Tailed, *, limit: int, about: Collection[str] | None, before: Mapping[int, int] | None
    ) -> Page[TailedRecord]:
        """See ``sluicegate.operator.tailed``."""

    async def kept_balances(self, about: Collection[str], *, account_id: str, month: str | None) -> Sequence[Balance]:
        """See ``sluicegate.operator.balances``."""

    async def diagnose(self, *, now: datetime, partitions: int, clickhouse_url: str, select: Select) -> Diagnosis:
        """See ``sluicegate.operator.doctor``."""


class RealDesk:
    """A broker, asked anew for each request, ``AT_ONCE`` at a time: operators are few."""

    def __init__(self, system: System, *, worker_group: str, sink_group: str) -> None:
        self._system = system
        self._groups = Groups(worker_group, sink_group)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._look_ups = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def submit(
        self, make: Make, *, account_id: str, command_id: str, now: datetime, wait_s: float
    ) -> tuple[AnyCommand, Outcome]:
        """See ``Desk``."""
        async with self._turn():
            log = KafkaCommandLog(self._system, account_id=account_id, command_id=command_id, wait_s=wait_s)
            return await submit(log, make, now=now, wait_s=wait_s)

    async def outcome(self, account_id: str, command_id: str) -> Outcome | None:
        """See ``Desk``."""
        async with self._turn():
            earlier = await find_command(self._system, account_id, command_id)
            return None if earlier is None else await outcome_so_far(self._system, earlier)

    async def own_values(self, account_id: str) -> Mapping[str, Put]:
        """See ``Desk``."""
        async with self._turn():
            return await own_values(self._system, account_id)

    async def standing_put(self, account_id: str, organization_id: str, *, now: datetime, wait_s: float) -> Put | None:
        """See ``Desk``. Takes turns of their own, since ``submit``, which has one of the others, asks for it."""
        async with self._look_ups:
            return await standing_put(self._system, account_id, organization_id, now=now, wait_s=wait_s)

    async def puts_before(self, account_id: str, organization_id: str, offset: int) -> Sequence[Put]:
        """See ``Desk``, and ``standing_put``."""
        async with self._look_ups:
            puts = await read_puts(self._system, account_id)
        before = (put for put in puts if put.position.offset < offset)
        return [put for put in before if put.command.organization_id == organization_id]

    async def catalogues(self) -> Mapping[int, CatalogueRecord]:
        """See ``Desk``."""
        async with self._turn():
            return await publications(self._system)

    async def publish(self, catalogue: Catalogue, *, now: datetime, by: str, lead: timedelta) -> Published:
        """See ``Desk``."""
        async with self._turn():
            return await self._publish(catalogue, (), now=now, by=by, lead=lead)

    async def publish_accounts(self, commands: Sequence[AnyCommand], *, now: datetime) -> Published:
        """See ``Desk``."""
        async with self._turn():
            return await self._publish(None, commands, now=now, by="file", lead=timedelta(0))

    async def _publish(
        self, catalogue: Catalogue | None, commands: Sequence[AnyCommand], *, now: datetime, by: str, lead: timedelta
    ) -> Published:
        return await publish(
            self._system.brokers,
            topic_prefix=self._system.topic_prefix,
            catalogue=catalogue,
            commands=commands,
            now=now,
            by=by,
            lead=lead,
        )

    async def trail(self, *, limit: int, account_id: str | None, before: Mapping[int, int] | None) -> Page[TrailEntry]:
        """See ``Desk``."""
        async with self._turn():
            return await trail_page(self._system, limit=limit, account_id=account_id, before=before)

    async def explain(self, found: Found, *, now: datetime, last: int) -> Explanation:
        """See ``Desk``."""
        async with self._turn():
            return await explain(self._system, found, now, last=last)

    async def topology(self) -> Topology:
        """See ``Desk``."""
        async with self._turn():
            return await topology(self._system, worker_group=self._groups.worker, sink_group=self._groups.sink)

    async def tail(
        self, what: Tailed, *, limit: int, about: Collection[str] | None, before: Mapping[int, int] | None
    ) -> Page[TailedRecord]:
        """See ``Desk``."""
        async with self._turn():
            return await tail_page(self._system, what, limit=limit, about=about, before=before)

    async def kept_balances(self, about: Collection[str], *, account_id: str, month: str | None) -> Sequence[Balance]:
        """See ``Desk``."""
        async with self._turn():
            return await kept_balances(self._system, about, account_id=account_id, month=month)

    async def diagnose(self, *, now: datetime, partitions: int, clickhouse_url: str, select: Select) -> Diagnosis:
        """See ``Desk``."""
        async with self._turn():
            return await diagnose(
                self._system,
                now=now,
                groups=self._groups,
                partitions=str(partitions),
                clickhouse_url=clickhouse_url,
                select=select,
                packages=PACKAGES,
            )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING_MAX:
            raise away("Too many operators' requests wait", 1)
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()
