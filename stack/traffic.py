"""The callers: replays a trace over HTTP against the API nodes, as a process of its own (``python -m stack.traffic``).

Three streams of calls run side by side, each over kept-alive connections, with at most ``CONCURRENT_MAX`` calls
waiting for an answer, and round robin over the nodes:

- the trace at a chosen speed, for the tenants of ``stack.callers``' rule, started anew when it ends;
- one key that asks ``OVER_RATE_PER_S`` times a second, whatever it is answered;
- one organization that spends its credits, ``SPENDER_PER_S`` calls a second.

A stream that falls behind its schedule (slow answers, a slow machine) skips nothing: it sends as fast as answers come,
and says in ``behind_ms`` how late it is. Each second, and at the end, a line of JSON with the counts goes to standard
output.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import httpx
import typer

from stack.callers import FREE_CALL, Call, call_of, spending_calls, tenants_drawn
from stack.errors import StackError
from stack.trace import Trace, read_trace

OVER_RATE_PER_S: Final = 15.0
SPENDER_PER_S: Final = 2.0
CONCURRENT_MAX: Final = 64
ANSWER_LIMIT_S: Final = 15.0
REPORT_EVERY_S: Final = 1.0
SECRETS_VARIABLE: Final = "SLUICEGATE_CALLER_SECRETS"
"""Holds ``Secrets`` as JSON: a command line would show them to every user of the machine."""


class Secrets(NamedTuple):
    """The callers' API keys: the tenants' (one or more each) in order of their share, the one over its rate, the one
    that spends."""

    tenants: tuple[tuple[str, ...], ...]
    over_rate: str
    spender: str

    def to_json(self) -> str:
        """For ``SECRETS_VARIABLE``."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Secrets:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        return cls(tuple(tuple(keys) for keys in fields["tenants"]), fields["over_rate"], fields["spender"])


@dataclass(slots=True)
class Counts:
    """What was sent and answered so far. ``answers`` counts by HTTP status, ``unreachable`` calls without an answer;
    ``behind_ms`` is how late the slowest stream sends at this moment."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    unreachable: int = 0
    behind_ms: int = 0
    cycles: int = 0

    def to_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "sent": self.sent,
                "answers": dict(sorted(self.answers.items())),
                "unreachable": self.unreachable,
                "behind_ms": self.behind_ms,
                "cycles": self.cycles,
            }
        )


class Due(NamedTuple):
    """A call, its key, and when it is due, in seconds after the start."""

    at_s: float
    secret: str
    call: Call


def replay(trace: Trace, tenants: Sequence[Sequence[str]], speed: float, counts: Counts) -> Iterator[Due]:
    """The trace's calls, endlessly, ``speed`` times as fast as recorded."""
    drawn = tenants_drawn(tenants)
    for cycle in itertools.count():
        counts.cycles = cycle
        for row in trace.rows:
            keys = next(drawn)
            due_s = (cycle * trace.cycle_ms + row.arrival_ms) / 1000 / speed
            yield Due(due_s, keys[row.line % len(keys)], call_of(row))


def steady(secret: str, calls: Iterator[Call], per_s: float) -> Iterator[Due]:
    """``calls`` at an even rate."""
    for index, call in enumerate(calls):
        yield Due(index / per_s, secret, call)


class Callers:
    """Sends streams of calls to ``nodes`` (base addresses) until ``stop`` or until the time is up."""

    def __init__(self, client: httpx.AsyncClient, nodes: Sequence[str], counts: Counts) -> None:
        self._client = client
        self._nodes = itertools.cycle(nodes)
        self._counts = counts
        self._stopped = asyncio.Event()
        self._behind_ms: dict[int, int] = {}

    def stop(self) -> None:
        """Send nothing more; what is on its way is still answered."""
        self._stopped.set()

    async def run(self, streams: Sequence[Iterator[Due]], for_s: float | None) -> None:
        """Send all ``streams`` for ``for_s`` seconds (None: until ``stop``), and wait for the last answers."""
        ticker = asyncio.create_task(self._report())
        try:
            async with asyncio.TaskGroup() as group:
                for number, stream in enumerate(streams):
                    group.create_task(self._send_stream(number, stream, for_s))
        finally:
            ticker.cancel()
            print(self._counts.to_json(), flush=True)

    async def _send_stream(self, number: int, stream: Iterator[Due], for_s: float | None) -> None:
        places = asyncio.Semaphore(CONCURRENT_MAX)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for due in stream:
                if for_s is not None and due.at_s >= for_s:
                    await self._pause(began + for_s)
                    return
                await self._pause(began + due.at_s)
                await places.acquire()
                now = time.monotonic()
                if self._stopped.is_set() or (for_s is not None and now - began >= for_s):
                    return
                self._behind_ms[number] = max(0, round((now - began - due.at_s) * 1000))
                self._counts.sent += 1
                group.create_task(self._call(due, places))

    async def _pause(self, until: float) -> None:
        if (left_s := until - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), left_s)

    async def _call(self, due: Due, places: asyncio.Semaphore) -> None:
        try:
            answer = await self._client.request(
                due.call.method,
                next(self._nodes) + due.call.path,
                json=due.call.body,
                headers={"Authorization": f"Bearer {due.secret}"},
            )
            self._counts.answers[str(answer.status_code)] += 1
        except httpx.HTTPError:
            self._counts.unreachable += 1
        finally:
            places.release()

    async def _report(self) -> None:
        while True:
            self._counts.behind_ms = max(self._behind_ms.values(), default=0)
            print(self._counts.to_json(), flush=True)
            await asyncio.sleep(REPORT_EVERY_S)


async def send(trace: Trace, secrets: Secrets, nodes: Sequence[str], speed: float, for_s: float | None) -> Counts:
    """Replay ``trace`` against ``nodes`` for ``for_s`` seconds, or until SIGTERM or SIGINT; returns the counts."""
    counts = Counts()
    limits = httpx.Limits(max_connections=3 * CONCURRENT_MAX, max_keepalive_connections=3 * CONCURRENT_MAX)
    async with httpx.AsyncClient(limits=limits, timeout=ANSWER_LIMIT_S, trust_env=False) as client:
        callers = Callers(client, nodes, counts)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, callers.stop)
        streams = [
            replay(trace, secrets.tenants, speed, counts),
            steady(secrets.over_rate, itertools.repeat(FREE_CALL), OVER_RATE_PER_S),
            steady(secrets.spender, spending_calls(), SPENDER_PER_S),
        ]
        await callers.run(streams, for_s)
    return counts


def main(
    node: Annotated[list[str], typer.Option(help="Base address of an API node; give it once for each")],
    trace: Annotated[Path, typer.Option(help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens")],
    speed: Annotated[float, typer.Option(help="How many times as fast as recorded", min=0.001, max=100_000)] = 20.0,
    for_s: Annotated[float | None, typer.Option("--for", help="Seconds; without it, until stopped", min=0.1)] = None,
) -> None:
    """Call the API nodes as the trace says."""
    try:
        secrets = Secrets.from_json(os.environ[SECRETS_VARIABLE])
    except (KeyError, TypeError, ValueError) as error:
        sys.exit(f"{SECRETS_VARIABLE} must hold the callers' API keys ({type(error).__name__}). Nothing was sent.")
    try:
        recorded = read_trace(trace)
    except StackError as error:
        sys.exit(str(error))
    asyncio.run(send(recorded, secrets, node, speed, for_s))


if __name__ == "__main__":
    typer.run(main)
