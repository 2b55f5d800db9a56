"""A gateway in virtual time: the real middleware and gate on the real follower's view, the real gauges and lending.

Its requests come in bunches, each as a call of the middleware with a handler behind it that takes its time. Killed, it
loses what it had not sent, and comes back as another producer and another process of its node.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, Unpack

from aiokafka.structs import TopicPartition

import sluicegate.follower.follower as follower_module
import sluicegate.lending as lending_module
from sluicegate.brokers import Brokers
from sluicegate.follower import Follower
from sluicegate.follower.follower import FollowerSettings
from sluicegate.gate import Answer, Description, Gate
from sluicegate.gate.escrow import EscrowSettings
from sluicegate.gauges import Gauges, GaugeSettings
from sluicegate.lending import Lending
from sluicegate.metering import current
from sluicegate.middleware import Middleware
from sluicegate.node_process import NodeProcess
from sluicegate.operations import Operation
from sluicegate.publisher.batcher import Identity
from sluicegate_schemas.envelope import WireCharge

from . import events
from .kafka_twin import Consumer
from .loop import Process
from .plan import Send, stream
from .publisher_twin import SimPublisher
from .tenants import Tenant, secret_of
from .world import World

_FETCH_WAIT_MS = 400
ESCROW: Final = EscrowSettings(idle_ms=2_500, ahead_ms=1_000, low_ms=300)
"""As histories are short: what nobody uses goes back soon, little is asked for ahead."""
GAUGES: Final = GaugeSettings(ttl_ms=2_000)


class _Consumer(Consumer):
    """The twin of a consumer, with what a follower's staleness is read from."""

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return None


@contextmanager
def patched(world: World) -> Iterator[None]:
    """For its time, followers and lending run in ``world``."""

    async def partitions_of(_: Brokers, names: Sequence[str]) -> list[TopicPartition]:
        return [TopicPartition(name, number) for name in names for number in range(world.broker.partitions(name))]

    new: list[tuple[Any, str, Any]] = [
        (follower_module, "AIOKafkaConsumer", _Consumer),
        (follower_module, "partitions_of", partitions_of),
        (follower_module, "time", SimpleNamespace(monotonic=world.loop.time)),
        (lending_module, "monotonic_ms", lambda: int(world.loop.time() * 1000)),
    ]
    old = [(place, name, getattr(place, name)) for place, name, _ in new]
    follower_module.log.disabled = True  # that the broker is away is no news here
    try:
        for place, name, value in new:
            setattr(place, name, value)
        yield
    finally:
        follower_module.log.disabled = False
        for place, name, value in old:
            setattr(place, name, value)


class Admission(NamedTuple):
    """A gate's answer to one request. ``at_ms`` is by the gateway's clock."""

    at_ms: int
    gateway: str
    api_key_id: str
    account_id: str
    operation: str
    is_priced: bool
    status: int
    rates: tuple[int, int, int] | None
    """(per second, burst, per minute) that the gate held the key to."""
    virtual_ms: int
    up_for_ms: int
    """Virtual ms since its follower was ready."""
    blocked: tuple[str, ...]
    """The record keys of the blocks that the gate's view held against the key at that moment."""
    exempt: frozenset[str]
    """The limits that its view said are off for the key."""
    request: Request
    running: int
    """The requests of the organization that the gateway served already."""
    slots: int | None
    """How many the organization may have at a time, by the gateway's view."""


class Request(NamedTuple):
    """One request of a caller, and what its handler is going to do."""

    tenant: Tenant
    key: str
    operation: str
    quantities: dict[str, int] | None
    model: str | None
    charges: list[WireCharge]
    cached: bool
    subject: str | None
    labels: dict[str, str]
    says_quantities: bool
    """Whether the service says beforehand how much it is going to use."""
    status: int
    takes_ms: int

    @property
    def scope(self) -> dict[str, Any]:
        """As ASGI has it, with itself inside."""
        header = b"authorization", f"Bearer {secret_of(self.key)}".encode()
        return {"type": "http", "method": "POST", "path": "/", "headers": [header], "request": self}


class WatchedGate(Gate):
    """The real gate, whose answers are kept with what it knew at that moment."""

    def __init__(self, gateway: Gateway, follower: Follower) -> None:
        super().__init__(follower, clock=gateway.now_ms)
        self.request: Request | None = None
        """Of the check that comes next."""
        self._gateway = gateway
        self._follower = follower
        self._waiting: dict[int, Request] = {}

    def check(
        self, secret: str | None, operation: str, *, now_ms: int | None = None, **described: Unpack[Description]
    ) -> Answer:
        assert self.request is not None
        answer = super().check(secret, operation, now_ms=now_ms, **described)
        self._keep(self.request, answer)
        return answer

    def reconsider(self, answer: Answer, now_ms: int | None = None) -> Answer:
        request = self._waiting.pop(id(answer.pending))
        self._gateway.world.seen["gate: waited for a lease"] += 1
        after = super().reconsider(answer, now_ms)
        self._keep(request, after)
        return after

    def _keep(self, request: Request, answer: Answer) -> None:
        if answer.pending is not None:
            self._waiting[id(answer.pending)] = request
            return
        gateway, follower, tenant, now_ms = self._gateway, self._follower, request.tenant, self._gateway.now_ms()
        charged = tuple(one.operation for one in request.charges if not one.cached)
        is_live = not request.cached and not request.key.endswith("_test")
        serving = self.in_flight.serving.get(tenant.organization_id)
        terms = None if answer.admission is None else answer.admission.terms
        gateway.answers.append(
            Admission(
                now_ms, gateway.identity.producer_id, request.key, tenant.account_id, request.operation,
                is_live and _is_priced(follower, now_ms, request.operation, charged), answer.status,
                _rates(follower, tenant, now_ms), gateway.world.now_ms, gateway.world.now_ms - gateway.ready_ms,
                () if answer.key is None else _blocked(follower, request, now_ms),
                _exempt(follower, tenant) | frozenset(() if answer.key is None else answer.key.exempt),
                request, 0 if serving is None else serving.running, None if terms is None else terms.concurrency,
            )
        )  # fmt: skip
        gateway.world.seen[f"gate: {answer.status}"] += 1


class Gateway:
    """One API node, over the processes that it is one after the other."""

    def __init__(
        self,
        world: World,
        seed: int,
        number: int,
        sends: Sequence[Send],
        requests: Callable[[int, Send], Iterable[Request]] | None = None,
    ) -> None:
        """``requests`` gives those of a send of the seed; drawn where it does not say."""
        self.world = world
        self._requests = requests or drawn_requests
        self.name = f"gateway{number}"
        self.process: Process | None = None
        self.answers: list[Admission] = []
        self.follower: Follower | None = None
        self._seed = seed
        self._sends = deque(sends)
        self._lives = 0
        self._clock_ahead_ms = stream(seed, "clock", self.name).choice((0, 0, 0, -700, 900, 20_000))

    @property
    def is_done(self) -> bool:
        """All its requests came and went, and what they left is published or lost."""
        return not self._sends and not self._running and self._publisher.is_empty

    def start(self) -> None:
        """Starts a process, unless one runs."""
        if self.process is None or not self.process.alive:
            self._lives += 1
            self._running = 0
            self.identity = Identity(f"{self.name}-{self._lives}")
            self._publisher = SimPublisher(self.world, self.identity, self.now_ms)
            self.ready_ms = self.world.now_ms
            self.process = self.world.process(self.name)
            self.process.run(self._main)

    def kill(self) -> None:
        """kill -9: what it has not sent is lost with it, and so are its requests; its leases nobody gives back."""
        if self.process is not None:
            self.world.note(self.name, "killed")
            self.process.kill()
            self._running = 0
            self._publisher.lose_all()

    def now_ms(self) -> int:
        """Its clock."""
        return self.world.broker.now_ms() + self._clock_ahead_ms

    async def _main(self) -> None:
        """Wired as ``sluicegate.service`` does it."""
        world = self.world
        settings = FollowerSettings(topic_prefix=world.prefix, fetch_wait_ms=_FETCH_WAIT_MS)
        self.follower = follower = Follower(Brokers(("127.0.0.1:9",)), settings, clock=self.now_ms)
        self._gate = gate = WatchedGate(self, follower)
        node = NodeProcess(self.name, f"{self.name}-boot{self._lives}")
        gauges = Gauges(gate.in_flight, self._publisher.send_control, GAUGES, clock=self.now_ms)
        gauges.start(node)
        lending = Lending(follower.view, self._publisher.send_control, node.node, node.boot_id, ESCROW)
        gate.borrow(lending.reserve)
        follower.listen(lending.on_change)
        lending.start()
        follower.start()
        middleware = Middleware(
            self._handle, gate=gate, meter=self._publisher, find_operation=self._operation, describe=_describe,
            clock=self.now_ms,
        )  # fmt: skip
        publishing = asyncio.ensure_future(self._publisher.run())
        while self._sends:
            wait_s = self._sends[0].at_ms / 1000 - (world.loop.time() - world.started_at_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if not follower.ready:
                self.ready_ms = world.now_ms
            for request in self._requests(self._seed, self._sends.popleft()):
                self._running += 1
                asyncio.ensure_future(self._serve(middleware, request))  # noqa: RUF006  # the process keeps its tasks
        await publishing

    def _operation(self, scope: Any) -> Operation:
        request: Request = scope["request"]
        self._gate.request = request
        return Operation(request.operation)

    async def _serve(self, middleware: Middleware, request: Request) -> None:
        try:
            await middleware(request.scope, _receive, _send)
        except TimeoutError:  # it ran longer than its lease says
            self.world.seen["requests cut"] += 1
        finally:
            self._running -= 1

    @staticmethod
    async def _handle(scope: Any, receive: Any, send: Any) -> None:
        """The service behind the gate."""
        request: Request = scope["request"]
        usage = current()
        usage.quantities.update(request.quantities or {})
        usage.model = request.model
        usage.charges += request.charges
        if request.operation == "collections.create":
            usage.resource_delta["collections"] = 1
        if request.takes_ms:
            await asyncio.sleep(request.takes_ms / 1000)
        await send({"type": "http.response.start", "status": request.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def _receive() -> dict[str, Any]:
    raise AssertionError("nobody reads the body")


async def _send(message: Any) -> None:
    """The caller takes every answer."""


def _describe(scope: Mapping[str, Any]) -> Description:
    request: Request = scope["request"]
    described = Description(
        charges=request.charges, cached=request.cached, subject=request.subject, labels=request.labels
    )
    if request.model is not None:
        described["model"] = request.model
    if request.quantities is not None and request.says_quantities:
        described["quantities"] = request.quantities
    return described


def drawn_requests(seed: int, send: Send) -> Iterator[Request]:
    """A bunch of requests of one key."""
    draw = stream(seed, "send", send.number)
    tenant = events.some_caller(draw)
    key = events.some_key(draw, tenant)
    same = events.some_operation(draw) if draw.random() < 0.5 else None
    for _ in range(draw.choice((1, 1, 2, 4, 12))):
        operation, quantities, model, charges = same or events.some_operation(draw)
        yield Request(
            tenant, key, operation, quantities, model, list(charges or ()),
            cached=draw.random() < 0.06,
            subject=events.some_subject(draw, operation),
            labels=events.LABELS if draw.random() < 0.1 else {},
            says_quantities=draw.random() < 0.5 or "requests" in (quantities or ()),
            status=draw.choice((200,) * 12 + (404, 500)),
            takes_ms=draw.choice((0, 0, 0, 5, 40, 40, 300, 1_200, 4_000)),
        )  # fmt: skip


def _is_priced(follower: Follower, now_ms: int, operation: str, charges: tuple[str, ...]) -> bool:
    catalogue = follower.view.catalogue_at(now_ms)
    if catalogue is None:
        return False
    entries = (catalogue.operations.get(name) for name in (operation, *charges))
    return any(entry is not None and entry.price.kind != "free" for entry in entries)


def _rates(follower: Follower, tenant: Tenant, now_ms: int) -> tuple[int, int, int] | None:
    organization, catalogue = follower.view.organization(tenant.organization_id), follower.view.catalogue_at(now_ms)
    rates = None
    if organization is not None and catalogue is not None:
        rates = catalogue.rates(organization.tier, organization.rates)
    return None if rates is None else (rates.requests_per_second, rates.burst, rates.requests_per_minute)


def _exempt(follower: Follower, tenant: Tenant) -> frozenset[str]:
    organization = follower.view.organization(tenant.organization_id)
    return frozenset(() if organization is None else organization.exempt)


def _blocked(follower: Follower, request: Request, now_ms: int) -> tuple[str, ...]:
    """The blocks in the follower's view that stand against a request."""
    key, name = request.key, request.tenant.organization_id
    catalogue = follower.view.catalogue_at(now_ms)
    entry = None if catalogue is None else catalogue.operations.get(request.operation)
    names = (
        f"requests_per_second:key:{key}", f"requests_per_minute:key:{key}",
        f"credits:account:{request.tenant.account_id}", f"credits:organization:{name}",
        f"credits:category:{name}:{None if entry is None else entry.category}",
        f"operation_interval:operation:{name}:{request.operation}:{request.subject}",
        f"operation_concurrency:operation:{name}:{request.operation}:{request.subject}",
    )  # fmt: skip
    found = ((name, follower.view.block(name)) for name in names)
    return tuple(
        name for name, block in found if block is not None and (block.until_ms is None or now_ms < block.until_ms)
    )
