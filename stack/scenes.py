"""The scenes of the demonstration: each kind of block once, and how it clears (``python -m stack.scenes``).

Each scene is a customer of its own organization (``examples/scenes.toml``) who calls until it is refused by the limit
that the scene is about, and then until it is let in again. Where only an operator can clear a block, the operator's
command line is run. The scenes play side by side. Each second, and at the end, a line of JSON goes to standard output:
the calls that were made, and how far each scene is.
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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final, NamedTuple

import httpx
import typer

from stack.callers import FREE_CALL, Call
from stack.folder import CHECKOUT
from stack.traffic import ANSWER_LIMIT_S, REPORT_EVERY_S, SECRETS_VARIABLE, Counts

SCENE_LIMIT_S: Final = 110.0
PAUSE_S: Final = 0.25
TAKES_MS: Final = 4_000
"""How long the requests of a scene take that is about requests at a time."""


class SceneError(Exception):
    """A scene did not go as it should; the message says how far it came."""


class Answered(NamedTuple):
    """An answer: its status, the limits that fired, the seconds to wait."""

    status: int
    limit_names: tuple[str, ...] = ()
    retry_after_s: float = 0.0

    @property
    def is_let_in(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300


@dataclass(slots=True)
class Act:
    """How far a scene is; times in seconds after the start."""

    refused_by: str = ""
    status: int = 0
    refused_at_s: float | None = None
    cleared_by: str = ""
    cleared_at_s: float | None = None
    failure: str = ""


@dataclass(slots=True)
class Stage:
    """What a scene plays on: calls with its key, over the nodes in turn, each of them counted."""

    client: httpx.AsyncClient
    nodes: Iterator[str]
    secret: str
    counts: Counts
    began_s: float
    ended: asyncio.Event
    operate: Callable[..., Awaitable[None]]
    act: Act = field(default_factory=Act)

    async def call(self, call: Call) -> Answered:
        """One call. Raises SceneError where the time for calls is over."""
        if self.ended.is_set():
            raise SceneError("the callers were stopped")
        self.counts.sent += 1
        try:
            answer = await self.client.request(
                call.method,
                next(self.nodes) + call.path,
                json=call.body,
                headers={"Authorization": f"Bearer {self.secret}"},
            )
        except httpx.HTTPError:
            self.counts.unreachable += 1
            return Answered(0)
        except asyncio.CancelledError:  # it may have been metered, or not
            self.counts.unreachable += 1
            raise
        self.counts.answers[str(answer.status_code)] += 1
        return Answered(answer.status_code, _limits_of(answer), float(answer.headers.get("Retry-After", 0)))

    async def until_refused(self, calls: Iterator[Call], *limit_names: str, pause_s: float = PAUSE_S) -> Answered:
        """Calls until one of the limits refuses it."""
        while True:
            answered = await self.call(next(calls))
            if fired := [name for name in answered.limit_names if name in limit_names]:
                self.act.refused_by, self.act.status = fired[0], answered.status
                self.act.refused_at_s = self._now_s()
                return answered
            if answered.status in (403, 429):
                pause_s = max(pause_s, min(answered.retry_after_s, 2.0))  # another limit fired first
            await self.rest(pause_s)

    async def until_let_in(
        self, call: Call, cleared_by: str, *, after_s: float = 0.0, first: Call | None = None, pause_s: float = PAUSE_S
    ) -> None:
        """Waits, then calls until it is let in, each time after ``first``."""
        await self.rest(after_s)
        while True:
            if first is not None:
                await self.call(first)
                await self.rest(pause_s)
            if (await self.call(call)).is_let_in:
                break
            await self.rest(pause_s)
        self.act.cleared_by, self.act.cleared_at_s = cleared_by, self._now_s()

    async def rest(self, seconds: float) -> None:
        """Waits, or until the time for calls is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)

    def _now_s(self) -> float:
        return round(time.monotonic() - self.began_s, 1)


def _limits_of(answer: httpx.Response) -> tuple[str, ...]:
    """The limits that a refusal names, the one that it is told by first."""
    if answer.status_code not in (403, 429):
        return ()
    try:
        details: Mapping[str, Any] = answer.json()["error"]["details"]
        names = [details.get("limit_name"), *(limit.get("limit_name") for limit in details.get("limits", ()))]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def _videos() -> Call:
    return Call("POST", "/v1/videos", {"milliseconds": 1_000, "takes_ms": TAKES_MS})


EMBEDDING: Final = Call("POST", "/v1/inference/embedding", {"model": "text-small", "text": "the same"})
DOCUMENTS: Final = Call("POST", "/v1/documents", {"documents": 10})
WEB: Final = Call("POST", "/v1/search/web", {})


async def rate(stage: Stage) -> None:
    """A burst of requests."""
    refused = await stage.until_refused(
        itertools.repeat(FREE_CALL), "requests_per_second", "requests_per_minute", pause_s=0
    )
    await stage.until_let_in(FREE_CALL, "time", after_s=refused.retry_after_s)


async def category(stage: Stage) -> None:
    """More requests of a category than its share of the key's."""
    refused = await stage.until_refused(itertools.repeat(EMBEDDING), "compute_per_minute")
    await stage.until_let_in(EMBEDDING, "time", after_s=refused.retry_after_s)


async def concurrency(stage: Stage) -> None:
    """More requests at a time than the organization may have."""
    call = _videos()
    async with asyncio.TaskGroup() as group:
        running = {group.create_task(stage.call(call)) for _ in range(3)}
        await stage.rest(1.0)
        await stage.until_refused(itertools.repeat(call), "concurrency")
        await asyncio.wait(running)
        await stage.until_let_in(call, "the end of a request")


async def credit(stage: Stage) -> None:
    """Credits that run out, and a grant."""
    await stage.until_refused(itertools.repeat(DOCUMENTS), "credits")
    await stage.operate("grant", "put", "org_plover", _fresh("grant"), "--credits", "200")
    await stage.until_let_in(DOCUMENTS, "a grant")


async def quota(stage: Stage) -> None:
    """More collections than the quota, and a delete."""
    create = Call("POST", "/v1/collections", {"name": "collection-1"})
    await stage.until_refused(itertools.repeat(create), "quota_collections")
    delete = Call("DELETE", "/v1/collections/collection-1")
    await stage.until_let_in(create, "a delete", first=delete, pause_s=1.0)  # more than one, if more were let in


async def budget(stage: Stage) -> None:
    """A day's budget that is used up, and a larger one."""
    put = ("budget", "put", "org_crane", "day", "--threshold", "80", "--block", "--credits")
    await stage.operate(*put, "150")  # an earlier run over the same data left the larger one
    await stage.until_refused(itertools.repeat(DOCUMENTS), "budget_day")
    await stage.operate(*put, "10000")
    await stage.until_let_in(DOCUMENTS, "a larger budget")


async def operation_interval(stage: Stage) -> None:
    """The same batch twice in a minute."""
    call = Call("POST", f"/v1/batches/{_fresh('batch')}/submit", {})
    refused = await stage.until_refused(itertools.repeat(call), "operation_interval")
    await stage.until_let_in(call, "time", after_s=refused.retry_after_s)


async def operation_concurrency(stage: Stage) -> None:
    """Two runs of one cluster at a time."""
    call = Call("POST", "/v1/clusters/cluster-1/execute", {"dataset_size": 10, "takes_ms": TAKES_MS})
    async with asyncio.TaskGroup() as group:
        running = group.create_task(stage.call(call))
        await stage.rest(1.0)
        await stage.until_refused(itertools.repeat(call), "operation_concurrency")
        await running
        await stage.until_let_in(call, "the end of a run")


async def operation_quantity(stage: Stage) -> None:
    """More searches of the web than ten a minute."""
    refused = await stage.until_refused(itertools.repeat(WEB), "operation_quantity")
    await stage.until_let_in(WEB, "time", after_s=refused.retry_after_s)


SCENES: Final[Mapping[str, tuple[str, Callable[[Stage], Awaitable[None]]]]] = {
    "rate": ("key_robin_1", rate),
    "category": ("key_dunnock_1", category),
    "concurrency": ("key_swift_1", concurrency),
    "credits": ("key_plover_1", credit),
    "quota": ("key_stork_1", quota),
    "budget": ("key_crane_1", budget),
    "operation, again too soon": ("key_tern_1", operation_interval),
    "operation, at a time": ("key_tern_1", operation_concurrency),
    "operation, a minute": ("key_tern_1", operation_quantity),
}
"""Each scene's name, key and course."""


def _fresh(word: str) -> str:
    """A name that no earlier run over the same data has used."""
    return f"{word}-{time.time_ns() // 1_000_000}"


async def operate(*words: str) -> None:
    """Runs the operator's command line. Raises SceneError with what it says where it does not end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sluicegate.cli", *words),
        cwd=CHECKOUT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SceneError(f"sluicegate {' '.join(words)}: {output.decode(errors='replace')[-300:]}")


class Play:
    """All scenes, side by side."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        nodes: Sequence[str],
        secrets: Mapping[str, str],
        *,
        scenes: Mapping[str, tuple[str, Callable[[Stage], Awaitable[None]]]] = SCENES,
        operate: Callable[..., Awaitable[None]] = operate,
        limit_s: float = SCENE_LIMIT_S,
    ) -> None:
        self.counts = Counts()
        self._scenes = scenes
        self._limit_s = limit_s
        self._ended = asyncio.Event()
        turns, began_s = itertools.cycle(nodes), time.monotonic()
        self._stages = {
            name: Stage(client, turns, secrets[key], self.counts, began_s, self._ended, operate)
            for name, (key, _) in scenes.items()
        }

    def stop(self) -> None:
        """No further call is made; those under way are still answered."""
        self._ended.set()

    async def run(self) -> None:
        """Plays all scenes to their ends, and prints how they go."""
        ticker = asyncio.create_task(self._report())
        try:
            await asyncio.gather(*(self._play(name) for name in self._scenes))
        finally:
            ticker.cancel()
            print(self.to_json(), flush=True)

    async def _play(self, name: str) -> None:
        stage = self._stages[name]
        try:
            async with asyncio.timeout(self._limit_s):
                await self._scenes[name][1](stage)
        except* TimeoutError:
            stage.act.failure = f"not within {self._limit_s:g} s"
        except* SceneError as errors:
            stage.act.failure = str(errors.exceptions[0])

    async def _report(self) -> None:
        while True:
            print(self.to_json(), flush=True)
            await asyncio.sleep(REPORT_EVERY_S)

    def to_json(self) -> str:
        """One line."""
        counts = json.loads(self.counts.to_json())
        return json.dumps({**counts, "scenes": {name: asdict(stage.act) for name, stage in self._stages.items()}})


async def play(nodes: Sequence[str], secrets: Mapping[str, str]) -> None:
    """All scenes against ``nodes``, or as far as they come until SIGTERM or SIGINT."""
    async with httpx.AsyncClient(timeout=ANSWER_LIMIT_S, trust_env=False) as client:
        whole = Play(client, nodes, secrets)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, whole.stop)
        with contextlib.suppress(asyncio.CancelledError):
            await whole.run()


def main(node: Annotated[list[str], typer.Option(help="Base address of an API node; give it once for each")]) -> None:
    """Show each kind of block once, and clear it."""
    try:
        secrets: dict[str, str] = json.loads(os.environ[SECRETS_VARIABLE])
        missing = {key for key, _ in SCENES.values()} - secrets.keys()
    except (KeyError, ValueError, AttributeError) as error:
        sys.exit(f"{SECRETS_VARIABLE} must hold the scenes' API keys ({type(error).__name__}). Nothing was sent.")
    if missing:
        sys.exit(f"{SECRETS_VARIABLE} lacks {', '.join(sorted(missing))}. Nothing was sent.")
    asyncio.run(play(node, secrets))


if __name__ == "__main__":
    typer.run(main)
