"""How long a decision takes from the event that causes it to the gate that obeys it, measured all the time.

Keys of their own are called beyond their burst in turn, a few times a second. Such a burst brings the key into debt,
the worker blocks it, and a follower, as each gate has one, hears of it. One sample a burst.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

from sluicegate import Brokers, Follower, FollowerSettings, Publisher
from sluicegate.clock import epoch_ms
from sluicegate.follower import Change
from sluicegate.operator.publish import publish
from sluicegate_schemas.accounts import KeyPut, OrganizationPut
from sluicegate_schemas.limits import RateLimits
from sluicegate_schemas.wire_decision import WireDecision
from stack.freshness import percentiles
from tests.pipeline import Pipeline

KEYS: Final = 16
BURST: Final = 2
EXCESS: Final = 6
"""Events beyond it: a debt of 1.2 s, so that it is not paid already when a busy machine gets round to the burst."""
BURSTS_PER_SECOND: Final = 5.0
"""Each key's turn comes every 3.2 s; its bucket is full again long before."""
LATE_S: Final = 10.0


def rates() -> RateLimits:
    """The probes' limits."""
    return RateLimits(requests_per_second=5, burst=BURST, requests_per_minute=60_000)


def probe_key(number: int) -> str:
    """The name of a probe's key, and of its organization behind ``org_``."""
    return f"probe_{number}"


class Latency(NamedTuple):
    """From the event's end to the gate, in ms, over ``samples`` bursts; ``missing`` brought no decision in time."""

    samples: int
    p50_ms: int | None
    p99_ms: int | None
    worst_ms: int | None
    missing: int


@dataclass(slots=True)
class _Burst:
    sent_at_ms: int
    seen_after_ms: int | None = None
    epoch: int = 0


async def publish_probes(pipeline: Pipeline) -> None:
    """Makes the probes' organizations and keys known to the workers. Once for each pipeline."""
    now = datetime.now(UTC)
    commands: list[OrganizationPut | KeyPut] = []
    for number in range(KEYS):
        name = probe_key(number)
        common = {"issued_at": now, "issued_by": "tests", "account_id": f"org_{name}", "organization_id": f"org_{name}"}
        secret = hashlib.sha256(name.encode()).hexdigest()
        commands.append(
            OrganizationPut(kind="organization.put", command_id=f"{name}-o", tier="pro", rates=rates(), **common)
        )
        commands.append(
            KeyPut(kind="key.put", command_id=f"{name}-k", api_key_id=f"key_{name}", key_sha256=secret, **common)
        )
    await publish(
        Brokers(pipeline.kafka.bootstrap),
        topic_prefix=pipeline.prefix,
        catalogue=None,
        commands=commands,
        now=now,
        by="tests",
    )


class Probe:
    """Bursts and a follower, from entering to leaving; ``since`` gives the latency of a stretch of time."""

    def __init__(self, pipeline: Pipeline, publisher: Publisher) -> None:
        self.sent = 0
        self._publisher = publisher
        self._follower = Follower(
            Brokers(pipeline.kafka.bootstrap),
            FollowerSettings(topic_prefix=pipeline.prefix),
            on_change=self._on_change,
        )
        self._bursts: dict[str, list[_Burst]] = {f"key_{probe_key(number)}": [] for number in range(KEYS)}
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._follower.start()
        assert await self._follower.wait_ready(30), "the follower caught up"
        self._task = asyncio.create_task(self._call())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        assert self._task is not None
        await self._task
        await self._follower.stop()

    def latency(self, from_ms: int, until_ms: int) -> Latency:
        """Of the bursts sent in that time (epoch ms)."""
        bursts = [
            burst for of_key in self._bursts.values() for burst in of_key if from_ms <= burst.sent_at_ms < until_ms
        ]
        seen = [burst.seen_after_ms for burst in bursts if burst.seen_after_ms is not None]
        figures = percentiles(seen)
        return Latency(len(seen), figures["p50"], figures["p99"], max(seen, default=None), len(bursts) - len(seen))

    def epochs(self, keys: Iterable[str]) -> dict[str, int]:
        """The epoch of the owner that decided last about each of ``keys``."""
        return {key: max((burst.epoch for burst in self._bursts[key]), default=0) for key in keys}

    def first_obeyed_ms(self, above: Mapping[str, int], from_ms: int) -> int | None:
        """When the follower first heard of a burst that was sent after ``from_ms``, from an owner with an epoch above
        the one given for its key; None: not yet."""
        obeyed = [
            burst.sent_at_ms + burst.seen_after_ms
            for key, epoch in above.items()
            for burst in self._bursts[key]
            if burst.sent_at_ms > from_ms and burst.seen_after_ms is not None and burst.epoch > epoch
        ]
        return min(obeyed, default=None)

    async def _call(self) -> None:
        began = time.monotonic()
        for number in itertools.count():
            if self._stopping:
                return
            self._burst(f"key_{probe_key(number % KEYS)}")
            await asyncio.sleep(max(0.0, began + (number + 1) / BURSTS_PER_SECOND - time.monotonic()))

    def _burst(self, key: str) -> None:
        now_ms = epoch_ms()
        self._bursts[key].append(_Burst(now_ms))
        for _ in range(BURST + EXCESS):
            self.sent += self._publisher.publish(
                org_id=f"org_{key.removeprefix('key_')}",
                api_key_id=key,
                operation="collections.list",
                started_at_ms=now_ms,
                ts_ms=now_ms,
                duration_ms=0,
                status=200,
            )

    def _on_change(self, change: Change) -> None:
        decision = change.record
        if not isinstance(decision, WireDecision) or decision.verdict != "block" or decision.cause is None:
            return
        cause_ms = decision.cause.ts_ms
        for burst in reversed(self._bursts.get(decision.scope.id, [])):
            if burst.sent_at_ms == cause_ms:
                if burst.seen_after_ms is None:
                    burst.seen_after_ms = epoch_ms() - cause_ms
                    burst.epoch = decision.sequence.epoch
                return
            if burst.sent_at_ms < cause_ms:
                return
