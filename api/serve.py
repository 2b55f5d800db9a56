"""The API as a process: its followers and its publisher, then HTTP, until it is told to stop."""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, ProcessCollector
from uvicorn.loops.auto import auto_loop_factory

from sluicegate import Sluicegate
from sluicegate.operator.system import System
from streams.endpoint import Answer, ListenError
from streams.endpoint import Endpoint as HealthEndpoint
from streams.health import Health, write_forever

from .alerts import AlertTable
from .app import create_app
from .balances import BalanceTable
from .connections import configuration, listening_socket
from .desk import RealDesk
from .directory import Directory
from .history import ClickHouseHistory
from .metrics import ApiCollector
from .operators import load_operators
from .parts import Parts
from .roster import Roster
from .settings import ApiSettings
from .stream import follow_alerts, follow_balances

log = logging.getLogger(__name__)

LINGER_MS: Final = 25.0
"""How long the API's own usage waits for company: a question costs nothing that has to be counted at once, and sending
each one alone cost the API a fifth of its time, and the worker a wake-up."""
_SETTLE_CHECK_S: Final = 0.5


def run(serving: Coroutine[None, None, None]) -> None:
    """Runs ``serve`` to its end, on uvloop where that is installed."""
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serving)


async def serve(settings: ApiSettings, sluicegate: Sluicegate | None = None) -> None:
    """Serves until SIGTERM or SIGINT, metered by ``sluicegate`` or one from the environment. Raises ListenError,
    FileError, ConfigurationError, OSError."""
    listening = _listen(settings)
    process = settings.process
    operators = load_operators(settings.operators_file) if settings.operators_file else ()
    sluicegate = sluicegate or Sluicegate.from_environment(linger_ms=LINGER_MS)
    directory = Directory(sluicegate.follower.view)
    sluicegate.follower.listen(directory.on_change)
    roster = Roster()
    sluicegate.follower.listen(roster.take)
    balances, alerts = BalanceTable(), AlertTable()
    balances_from = follow_balances(process.brokers, process.topic_prefix, balances)
    alerts_from = follow_alerts(process.brokers, process.topic_prefix, alerts)
    history = ClickHouseHistory(settings.clickhouse)
    kafka = System(process.brokers, process.topic_prefix)
    parts = Parts(
        knowledge=sluicegate.follower,
        knowledge_from=sluicegate.follower,
        directory=directory,
        balances=balances,
        balances_from=balances_from,
        alerts=alerts,
        alerts_from=alerts_from,
        history=history,
        clickhouse_url=settings.clickhouse.url,
        system=kafka,
        partitions=process.partitions,
        gate=sluicegate.gate,
        meter=sluicegate.publisher,
        operators=operators,
        desk=RealDesk(
            System(settings.operators_brokers, process.topic_prefix),
            worker_group=process.group,
            sink_group=process.sink_group,
        ),
        roster=roster,
    )
    app = create_app(parts)
    sluicegate.follower.listen(app.state.news.on_change)
    try:
        _set_aside()
        async with _watched(settings, parts, app), balances_from, alerts_from, sluicegate:
            await _answer(app, listening)
    finally:
        history.close()


async def _answer(app: FastAPI, listening: socket.socket) -> None:
    server = uvicorn.Server(configuration(app))
    host, port = listening.getsockname()[:2]
    sys.stdout.write(f"http://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listening])


def _listen(settings: ApiSettings) -> socket.socket:
    """Bound before anything starts: a port that is taken is said at once."""
    try:
        return listening_socket(settings.host, settings.port)
    except OSError as error:
        raise ListenError(f"nothing can listen on {settings.host}:{settings.port} ({error.strerror})") from error


@asynccontextmanager
async def _watched(settings: ApiSettings, parts: Parts, app: FastAPI) -> AsyncIterator[None]:
    """Health and metrics, as of every process."""

    def health() -> Health:
        """Kafka being away is waited for, and no reason to start this process anew."""
        return Health.now((), "" if parts.ready else "what stands in its topics")

    folder = Path(settings.process.data_dir)
    await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
    registry = CollectorRegistry()
    registry.register(ApiCollector(parts, (app.state.hub, app.state.operators_hub), app.state.served))
    registry.register(ProcessCollector(registry=None))
    endpoint = HealthEndpoint(
        settings.process.health_listen,
        registry=registry,
        live=lambda: Answer(True, {"state": "runs"}),
        ready=lambda: Answer((now := health()).ready, now),
    )
    beside = asyncio.create_task(write_forever(folder, health)), asyncio.create_task(_settle(parts))
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        endpoint.close()


async def _settle(parts: Parts) -> None:
    """Sets aside what stood in the topics, once all of it is known."""
    while not parts.ready:  # noqa: ASYNC110  # three followers know it together
        await asyncio.sleep(_SETTLE_CHECK_S)
    _set_aside()


def _set_aside() -> None:
    """The garbage collector looks no more through what is there: code and tables stay, and each full look would stop
    all answers for as long as it takes. It is done before the first answer, too, so that the second time is short."""
    gc.collect()
    gc.freeze()
