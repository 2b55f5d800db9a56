"""Looks from time to time at which accounts will run out of credits before the reset, and tells the alerts topic.

It runs in the audit's process, which already reads the ledgers and holds the one place that alerts are written from
beside the workers (ADR 23). What it cannot read it waits for: nothing of the audit hangs on it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import ValidationError

from sluicegate.errors import TopicsMissingError
from sluicegate.operator.topic_io import read_to_end
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.topics import ALERTS, CATALOG
from streams.settings import Settings

from ..connection import ClickHouse
from ..projection import Projection, project
from ..queries import month_range, usage_by
from .books import Books
from .log import AlertSender, read_alerts
from .run_out import Look, RunOutBook, Standing, read_alert, with_costliest

logger = logging.getLogger(__name__)

COSTLIEST_MAX: Final = 3


class Forecaster:
    """``books`` are the state's, folded by the audit."""

    def __init__(
        self, settings: Settings, clickhouse: ClickHouse, sender: AlertSender, books: Callable[[], Books]
    ) -> None:
        self._settings = settings
        self._clickhouse = clickhouse
        self._sender = sender
        self._books = books
        self._book: RunOutBook | None = None
        self._client: Client | None = None
        self._is_blocked = False

    async def step(self, now: datetime) -> None:
        """Looks once, and sends what fired or cleared. What is away is said once, and looked at again next time."""
        try:
            await self._look(now)
        except (KafkaError, TopicsMissingError, ClickHouseError, OSError) as error:
            if not self._is_blocked:
                logger.warning("whose credits run out cannot be told (%s); trying again", error)
            self._is_blocked = True
        else:
            self._is_blocked = False

    async def _look(self, now: datetime) -> None:
        brokers, alerts = self._settings.brokers, self._settings.topic(ALERTS.name)
        catalogue = await self._catalogue(now)
        if catalogue is None:
            return
        if self._book is None:
            book = RunOutBook()
            await read_alerts(brokers, alerts, read_alert, book.restore)
            self._book = book
        month = f"{now:%Y-%m}"
        standings, account_of = standings_of(self._books(), month)
        left = {account_id: one.total_micro - one.used_micro for account_id, one in standings.items()}
        found = await asyncio.to_thread(self._project, now, left, account_of)
        look = Look(now, month, month_range(month)[1], catalogue, standings, {one.org_id: one for one in found})
        for change in self._book.changes(look):
            alert = change
            if alert.state == "fired":
                members = [name for name, account_id in account_of.items() if account_id == alert.account_id]
                names = await asyncio.to_thread(self._costliest, [alert.account_id, *members], month)
                alert = with_costliest(alert, names)
            await self._sender.send(alert)
            self._book.restore(alert)
            logger.warning("alert %s: %s", alert.state, alert.sentence)

    async def _catalogue(self, now: datetime) -> Catalogue | None:
        """The version in force."""
        versions = []
        async for record in read_to_end(self._settings.brokers, self._settings.topic(CATALOG.name)):
            try:
                versions.append(CatalogueRecord.model_validate_json(record.value or b"").catalogue)
            except ValidationError:
                continue  # the worker tells of it
        begun = [one for one in versions if one.effective_at <= now]
        return max(begun, key=lambda one: (one.effective_at, one.version), default=None)

    def _project(self, now: datetime, left: dict[str, int], account_of: dict[str, str]) -> list[Projection]:
        if self._client is None:
            self._client = self._clickhouse.connect()
        return project(self._client, now, left, account_of)

    def _costliest(self, organization_ids: list[str], month: str) -> tuple[str, ...]:
        assert self._client is not None
        costs: dict[str, int] = {}
        for organization_id in organization_ids[:100]:
            for one in usage_by(self._client, organization_id, "operation", *month_range(month)):
                costs[one.name] = costs.get(one.name, 0) + one.usage.credits_micro
        ranked = sorted((name for name, micro in costs.items() if micro), key=lambda name: (-costs[name], name))
        return tuple(ranked[:COSTLIEST_MAX])


def standings_of(books: Books, month: str) -> tuple[dict[str, Standing], dict[str, str]]:
    """The accounts that have a limit of credits in ``month``, and the accounts of the organizations that share one,
    those that used most of the month first."""
    standings: dict[str, Standing] = {}
    account_of: dict[str, str] = {}
    used_micro: Counter[str] = Counter()
    for source in books.sources.values():
        for (account_id, when), row in source.accounts.items():
            if when == month and row.total_micro is not None:
                standings[account_id] = Standing(row.total_micro, row.used_micro)
        account_of |= source.payers
        ledgers = ((name, source.ledgers.get((name, month))) for name in source.payers)
        used_micro.update({name: ledger.used_micro for name, ledger in ledgers if ledger is not None})
    return standings, {name: account_of[name] for name in sorted(account_of, key=lambda one: (-used_micro[one], one))}
