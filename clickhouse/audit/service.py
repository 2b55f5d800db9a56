"""The audit as a process: walks, alerts, metrics and health, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError
from prometheus_client import CollectorRegistry

from sluicegate.consumers import is_cancelled
from sluicegate.errors import TopicsMissingError
from sluicegate_schemas.topics import ALERTS, STATE
from streams.endpoint import Answer, Endpoint
from streams.health import Health, write_forever
from streams.settings import Settings

from ..connection import ClickHouse
from .alerts import AlertBook, read_alert
from .ask import Asker
from .auditor import Auditor
from .forecast import Forecaster
from .log import AlertSender, StateLog, read_alerts
from .metrics import AuditCollector, Status
from .settings import AuditSettings
from .words import difference_words

logger = logging.getLogger(__name__)

AGE_MAX_S: Final = 3_600.0
"""Not ready where everything was last compared longer ago than this."""
WAITS_FOR: Final = {"clickhouse": "ClickHouse", "kafka": "Kafka"}


class Service:
    """One audit process."""

    def __init__(self, settings: Settings, clickhouse: ClickHouse, audit: AuditSettings) -> None:
        self._settings = settings
        self._audit = audit
        self._asker = Asker(clickhouse)
        self._log = StateLog(settings.brokers, settings.topic(STATE.name))
        self._alerts_topic = settings.topic(ALERTS.name)
        self._sender = AlertSender(settings.brokers, self._alerts_topic)
        self._auditor = Auditor(self._log, self._asker, audit)
        self._forecaster = Forecaster(settings, clickhouse, self._sender, lambda: self._auditor.books)
        self._book: AlertBook | None = None
        self._log_is_open = False
        self._said: set[object] = set()
        self.status = Status(self._auditor.findings)

    def health(self) -> Health:
        """ClickHouse or Kafka being away is waited for, and no reason to start this process anew."""
        status = self.status
        waits_for = ""
        if status.blocked_by:
            waits_for = WAITS_FOR[status.blocked_by]
        elif status.findings.walked_at_s is None:
            waits_for = "its first comparison of everything"
        elif status.age_s(time.time()) > AGE_MAX_S:
            waits_for = f"a comparison of everything: the last is older than {AGE_MAX_S:g} s"
        return Health.now(status.partitions, waits_for)

    async def run(self) -> None:
        """Audits until SIGTERM or SIGINT. Raises what waiting does not heal (see ``Auditor``), and ListenError."""
        folder = Path(self._settings.data_dir)
        await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
        registry = CollectorRegistry()
        registry.register(AuditCollector(self.status))
        endpoint = Endpoint(
            self._settings.health_listen,
            registry=registry,
            live=lambda: Answer(True, {"state": "runs"}),
            ready=lambda: _answer(self.health()),
        )
        audit = asyncio.create_task(self._audit_forever())
        health = asyncio.create_task(write_forever(folder, self.health))
        forecast = asyncio.create_task(self._forecast_forever())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, audit.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await audit
        finally:
            for task in (health, forecast):
                task.cancel()
            endpoint.close()
            await self._sender.close()
            await self._log.close()
            self._asker.close()

    async def _audit_forever(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._walk()
            except (KafkaError, TopicsMissingError) as error:
                self._log_is_open = False
                self._blocked("kafka", error)
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                self._log_is_open = False
                self._blocked("kafka", error)
            except (ClickHouseError, OSError) as error:
                self._blocked("clickhouse", error)
            await asyncio.sleep(max(0.0, self._audit.interval_s - (time.monotonic() - began)))

    async def _forecast_forever(self) -> None:
        """Alerts of what runs out, beside the audit: neither waits for the other."""
        while True:
            await asyncio.sleep(self._audit.forecast_interval_s)
            if self.status.has_begun:
                try:
                    await self._forecaster.step(datetime.now(UTC))
                except Exception:  # whatever it was: alerts that never come again would be missed by nobody
                    logger.exception("the forecast failed, and is tried again")

    async def _walk(self) -> None:
        status = self.status
        if not self._log_is_open and status.has_begun:
            await self._auditor.reopen()
        if self._book is None:
            book = AlertBook()
            await read_alerts(self._settings.brokers, self._alerts_topic, read_alert, book.restore)
            self._book = book
        if not status.has_begun:
            await self._auditor.begin()
            status.partitions = sorted(self._auditor.books.sources)
            status.has_begun = True
        self._log_is_open = True
        async for _ in self._auditor.walk():
            self._free()
            await self._tell(self._book, all_looked=False)
        await self._tell(self._book, all_looked=True)

    async def _tell(self, book: AlertBook, *, all_looked: bool) -> None:
        differences = self.status.differences = self._auditor.findings.differences()
        for difference in differences:
            if difference.place not in self._said:
                logger.error("drift: %s", difference_words(difference))
        self._said = {difference.place for difference in differences}
        now_ms = time.time_ns() // 1_000_000
        for alert in book.changes(differences, all_looked=all_looked, now_ms=now_ms):
            await self._sender.send(alert)
            book.restore(alert)
            logger.warning("alert %s: %s", alert.state, alert.sentence)
        self.status.alerts_open = len(book.open)

    def _blocked(self, by: str, error: BaseException) -> None:
        if self.status.blocked_by != by:
            reason = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
            logger.warning(
                "nothing can be compared, %s cannot be read (%s); what was found before stands. Trying again without "
                "end.",
                WAITS_FOR[by],
                reason,
            )
        self.status.blocked_by = by

    def _free(self) -> None:
        if self.status.blocked_by:
            logger.warning("%s can be read again.", WAITS_FOR[self.status.blocked_by])
            self.status.blocked_by = ""


def _answer(health: Health) -> Answer:
    return Answer(health.ready, health)
