"""The dispatcher as a process: metrics and health, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from sluicegate_schemas.topics import ALERTS, DELIVERIES
from streams.endpoint import Answer
from streams.endpoint import Endpoint as HealthEndpoint
from streams.health import Health, write_forever
from streams.settings import Settings

from .dispatcher import Dispatcher
from .endpoints import Endpoint
from .metrics import DispatcherCollector


async def serve(settings: Settings, endpoints: Sequence[Endpoint]) -> None:
    """Dispatches until SIGTERM or SIGINT. Raises ListenError."""
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)  # they log URLs, which may be secrets
    dispatcher = Dispatcher(
        settings.brokers,
        endpoints,
        alerts_topic=settings.topic(ALERTS.name),
        deliveries_topic=settings.topic(DELIVERIES.name),
    )
    folder = Path(settings.data_dir)
    await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
    registry = CollectorRegistry()
    registry.register(DispatcherCollector(dispatcher.status))
    registry.register(ProcessCollector(registry=None))

    def health() -> Health:
        """Kafka being away is waited for, and no reason to start this process anew."""
        return Health.now(dispatcher.status.partitions, dispatcher.waits_for())

    listening = HealthEndpoint(
        settings.health_listen,
        registry=registry,
        live=lambda: Answer(True, {"state": "runs"}),
        ready=lambda: Answer((now := health()).ready, now),
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    writing = asyncio.create_task(write_forever(folder, health))
    running = asyncio.create_task(dispatcher.run())
    told = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await dispatcher.drain()
            running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        for task in (writing, told, running):
            task.cancel()
        listening.close()
