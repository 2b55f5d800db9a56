"""All that an API service needs, wired: publisher, follower, gate and middleware."""

import os
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sluicegate_schemas.topics import PREFIX_DEFAULT

from .brokers import Brokers
from .errors import ConfigurationError
from .follower import Follower, FollowerSettings
from .gate import Gate, GateSettings
from .gauges import Gauges
from .lending import Lending
from .metering import Usage, current
from .middleware import App, Describe, Middleware
from .node_process import NodeProcess
from .operations import FindOperation, Routes, by_routes
from .publisher import Publisher, PublisherSettings

READY_TIMEOUT_S: Final = 10.0


class Sluicegate:
    """Gating and metering in three lines::

        sluicegate = Sluicegate.from_environment()
        app = Starlette(routes=routes, lifespan=sluicegate.lifespan)
        app.add_middleware(sluicegate.middleware, operations={"POST /v1/search": "search.knn"})

    A handler reports what it used: ``sluicegate.current().quantities["tokens"] = 812``. A service with a lifespan of
    its own enters ``async with sluicegate:`` there.
    """

    def __init__(self, publisher: Publisher, follower: Follower, gate: Gate) -> None:
        self.gauges = Gauges(gate.in_flight, publisher.send_control)
        self._lending: Lending | None = None
        self.publisher = publisher
        self.follower = follower
        self.gate = gate

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, *, linger_ms: float | None = None) -> Self:
        """Reads what ``Brokers.from_environment`` reads, and SLUICEGATE_TOPIC_PREFIX, SLUICEGATE_NODE (the host's name
        where absent), SLUICEGATE_SPOOL_DIRECTORY (usage waits there while Kafka is away; without it, in memory up to a
        limit) and SLUICEGATE_WHEN_NOT_READY ("refuse" or "admit", see ``GateSettings``). ``linger_ms``
        is how long usage waits for company, where that is not for the publisher to say (``PublisherSettings``).

        Raises ConfigurationError, naming the variable or setting.
        """
        values = os.environ if environment is None else environment
        try:
            brokers = Brokers.from_environment(values)
            spool = values.get("SLUICEGATE_SPOOL_DIRECTORY")
            publisher_settings = PublisherSettings(
                brokers=brokers,
                node=values.get("SLUICEGATE_NODE") or _host_name(),
                topic_prefix=values.get("SLUICEGATE_TOPIC_PREFIX", PREFIX_DEFAULT),
                overflow="spool" if spool else "drop",
                spool_directory=Path(spool) if spool else None,
            )
            if linger_ms is not None:
                publisher_settings = replace(publisher_settings, linger_ms_min=linger_ms, linger_ms_max=linger_ms)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        follower = Follower(brokers, FollowerSettings(topic_prefix=publisher_settings.topic_prefix))
        match values.get("SLUICEGATE_WHEN_NOT_READY", "refuse"):
            case "refuse":
                gate = Gate(follower, GateSettings(when_not_ready="refuse"))
            case "admit":
                gate = Gate(follower, GateSettings(when_not_ready="admit"))
            case other:
                raise ConfigurationError(f"SLUICEGATE_WHEN_NOT_READY is {other!r}, but must be refuse or admit")
        return cls(Publisher(publisher_settings), follower, gate)

    async def __aenter__(self) -> Self:
        """Starts to publish and to follow, and waits until the gate is ready, at most ``READY_TIMEOUT_S``; a service
        whose broker is away then starts all the same, and its gate answers as ``when_not_ready`` says."""
        await self.publisher.start()
        process = NodeProcess.this(self.publisher.settings.node)
        self.gauges.start(process)
        self._lending = Lending(self.follower.view, self.publisher.send_control, process.node, process.boot_id)
        self.gate.borrow(self._lending.reserve)
        self.follower.listen(self._lending.on_change)
        self._lending.start()
        self.follower.start()
        await self.follower.wait_ready(READY_TIMEOUT_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops following, says that nothing runs here any more and gives leases back, then flushes and closes the
        publisher."""
        await self.follower.stop()
        await self.gauges.stop()
        if self._lending is not None:
            await self._lending.stop()
        await self.publisher.close()

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """The lifespan of an ASGI application: runs from its startup to its shutdown."""
        async with self:
            yield

    def middleware(
        self,
        app: App,
        *,
        operations: Routes | FindOperation,
        open_paths: Iterable[str] = (),
        describe: Describe | None = None,
    ) -> Middleware:
        """Wraps an ASGI application. ``operations`` maps routes to operations (see ``by_routes``), or finds the
        operation of an ASGI scope; ``open_paths=("/health",)`` lists what is neither gated nor metered. Every other
        request is answered 404; see ``Middleware``. Raises ConfigurationError, naming the route."""
        return Middleware(
            app,
            gate=self.gate,
            meter=self.publisher,
            find_operation=operations if callable(operations) else by_routes(operations),
            open_paths=open_paths,
            describe=describe,
        )

    def current(self) -> Usage:
        """The usage of the request that is being handled; see ``sluicegate.current``."""
        return current()


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("._-")[:64] or "node"
