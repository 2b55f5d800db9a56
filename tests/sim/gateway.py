"""A gateway in virtual time: the real gate on the real follower's view, and the SDK that meters what the gate let in.

Its requests come in bunches. What it publishes goes out in order, an envelope at a time; killed, it loses what it had
not sent, and comes back as another producer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition

import sluicegate.follower.follower as follower_module
from sluicegate.brokers import Brokers
from sluicegate.follower import Follower
from sluicegate.follower.follower import FollowerSettings
from sluicegate.gate import Gate
from sluicegate.publisher.batcher import Batcher, Envelope, Identity, Waiting
from sluicegate.publisher.event import encode_event
from sluicegate.publisher.settings import PublisherSettings
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import USAGE

from . import events
from .client import KafkaClient
from .kafka_twin import Consumer
from .log import NewRecord
from .loop import Process
from .plan import Send, stream
from .tenants import Tenant, secret_of
from .world import World

_FETCH_WAIT_MS = 400
_SETTINGS = PublisherSettings(node="gateway")


class _Consumer(Consumer):
    """The twin of a consumer, with what a follower's staleness is read from."""

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return None


@contextmanager
def patched(world: World) -> Iterator[None]:
    """For its time, followers run in ``world``."""

    async def partitions_of(_: Brokers, names: Sequence[str]) -> list[TopicPartition]:
        return [TopicPartition(name, number) for name in names for number in range(world.broker.partitions(name))]

    new: list[tuple[str, Any]] = [
        ("AIOKafkaConsumer", _Consumer),
        ("partitions_of", partitions_of),
        ("time", SimpleNamespace(monotonic=world.loop.time)),
    ]
    old = [(name, getattr(follower_module, name)) for name, _ in new]
    follower_module.log.disabled = True  # that the broker is away is no news here
    try:
        for name, value in new:
            setattr(follower_module, name, value)
        yield
    finally:
        follower_module.log.disabled = False
        for name, value in old:
            setattr(follower_module, name, value)


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


class Gateway:
    """One API node, over the processes that it is one after the other."""

    def __init__(self, world: World, seed: int, number: int, sends: Sequence[Send]) -> None:
        self.world = world
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
        """All its requests came, and what they left is published or lost."""
        return not self._sends and not self._outgoing

    def start(self) -> None:
        """Starts a process, unless one runs."""
        if self.process is None or not self.process.alive:
            self._lives += 1
            self._outgoing: deque[Envelope] = deque()
            self._batchers: dict[int, Batcher] = {}
            self._identity = Identity(f"{self.name}-{self._lives}")
            self._ready_ms = self.world.now_ms
            self.process = self.world.process(self.name)
            self.process.run(self._main)

    def kill(self) -> None:
        """kill -9: what it has not sent is lost with it."""
        if self.process is not None:
            self.world.note(self.name, "killed")
            self.process.kill()
            self._outgoing.clear()

    def now_ms(self) -> int:
        """Its clock."""
        return self.world.broker.now_ms() + self._clock_ahead_ms

    async def _main(self) -> None:
        world = self.world
        settings = FollowerSettings(topic_prefix=world.prefix, fetch_wait_ms=_FETCH_WAIT_MS)
        self.follower = follower = Follower(Brokers(("127.0.0.1:9",)), settings, clock=self.now_ms)
        follower.start()
        gate = Gate(follower, clock=self.now_ms)
        client, arrived = KafkaClient(), asyncio.Event()
        publishing = asyncio.ensure_future(self._publish(client, arrived))
        while self._sends:
            wait_s = self._sends[0].at_ms / 1000 - (world.loop.time() - world.started_at_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            send = self._sends.popleft()
            self._serve(gate, follower, send)
            arrived.set()
        await publishing

    def _serve(self, gate: Gate, follower: Follower, send: Send) -> None:
        """A bunch of requests of one key."""
        draw, now_ms = stream(self._seed, "send", send.number), self.now_ms()
        if not follower.ready:
            self._ready_ms = self.world.now_ms
        tenant = events.some_tenant(draw)
        key = events.some_key(draw, tenant)
        served: list[Any] = []
        same = events.some_operation(draw) if draw.random() < 0.5 else None
        for _ in range(draw.choice((1, 1, 2, 4, 12))):
            operation, quantities, model, charges = same or events.some_operation(draw)
            charged = tuple(one.operation for one in charges or ())
            cached = draw.random() < 0.06
            answer = gate.check(secret_of(key), operation, charges=charged, cached=cached, now_ms=now_ms)
            blocked = _blocked(follower, tenant, key, now_ms) if answer.key is not None else ()
            priced = _is_priced(follower, now_ms, operation, charged) and not cached and not key.endswith("_test")
            self.answers.append(
                Admission(
                    now_ms, self._identity.producer_id, key, tenant.account_id, operation, priced, answer.status,
                    _rates(follower, tenant, now_ms), self.world.now_ms, self.world.now_ms - self._ready_ms, blocked,
                    _exempt(follower, tenant) | frozenset(() if answer.key is None else answer.key.exempt),
                )
            )  # fmt: skip
            self.world.seen[f"gate: {answer.status}"] += 1
            if answer.key is None:
                continue
            status = answer.status if not answer.allowed else draw.choice((200,) * 12 + (404, 500))
            took_ms = draw.randrange(40) if answer.allowed else 0
            fields = {
                "org_id": tenant.organization_id,
                "account_id": tenant.account_id,
                "api_key_id": key,
                "operation": operation,
                "started_at_ms": now_ms,
                "ts_ms": now_ms + took_ms,
                "duration_ms": took_ms,
                "status": status,
                "quantities": quantities if answer.allowed else None,
                "charges": charges if answer.allowed else None,
                "model": model,
                "cached": cached,
            }
            served.append(fields)
        self._seal(served, now_ms)

    def _seal(self, served: list[Any], now_ms: int) -> None:
        touched = {}
        for fields in served:
            account, data = encode_event(fields)
            home = partition_of(account, self.world.partitions)
            batcher = self._batchers.get(home)
            if batcher is None:
                batcher = self._batchers[home] = Batcher(_SETTINGS, home, 0.0)
            batcher.add(Waiting(account, data, 0.0))
            touched[home] = batcher
        for batcher in touched.values():
            self._outgoing.append(batcher.seal(batcher.take(0.0), self._identity, now_ms))

    async def _publish(self, client: KafkaClient, arrived: asyncio.Event) -> None:
        """The lane: strictly in order, until Kafka has it."""
        while True:
            await arrived.wait()
            arrived.clear()
            while self._outgoing:
                envelope = self._outgoing[0]
                record = NewRecord(envelope.key, envelope.value)
                await client.append(self.world.prefix + USAGE.name, envelope.partition, [record])
                self._outgoing.popleft()


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


def _blocked(follower: Follower, tenant: Tenant, key: str, now_ms: int) -> tuple[str, ...]:
    """The blocks in the follower's view that stand against a key."""
    names = (
        f"requests_per_second:key:{key}", f"requests_per_minute:key:{key}", f"credits:account:{tenant.account_id}",
    )  # fmt: skip
    found = ((name, follower.view.block(name)) for name in names)
    return tuple(
        name for name, block in found if block is not None and (block.until_ms is None or now_ms < block.until_ms)
    )
