"""The rotation of faults: real processes die under load, round by round, and afterwards nothing differs.

A round is over when the system is seen to move again: the workers have taken in all that was in the usage log when the
last part was started, the sink has written all that was in the state, the publishers have sent what they had on disk,
and the API nodes answer calls. Every ``checkpoint_every`` rounds the load is stopped, everything drains, and the
verifier compares.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from clickhouse.intake import SUNK
from sluicegate_schemas import topics
from stack.node_log import read_node_logs
from streams.health import FILE_NAME, complaint
from tests.faults.differences import Difference, table
from tests.faults.journal import last_stand, now_ms, read_journal
from tests.faults.parts import Part, Parts
from tests.faults.positions import Offsets, Positions, reached
from tests.faults.promises import Losses, durable_differences, node_differences
from tests.faults.rotation_plan import Extra, Round
from tests.faults.verifier import Verifier

WAIT_LIMIT_S: Final = 180.0
AGREE_LIMIT_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5
RESTARTS_MAX: Final = 4
"""How often one part may give up by itself between two moments at which all moves."""
NOT_METERED: Final = ("401", "503")


class RotationError(AssertionError):
    """Something did not recover, or something differs; the message has the logs' last lines."""


class Rotation:
    """Runs rounds over ``parts``, which are started here and closed by the caller."""

    def __init__(self, parts: Parts, console: Console, *, checkpoint_every: int = 10) -> None:
        self.losses = Losses()
        self.restarts = 0
        self._parts = parts
        self._console = console
        self._checkpoint_every = checkpoint_every
        self._positions = Positions(parts.pipeline)
        self._given_up: dict[str, int] = {}
        self._verifier: Verifier | None = None
        self._began_s = time.monotonic()
        self._published: dict[str, int] = {}
        self._fault = "the start"

    @property
    def verifier(self) -> Verifier:
        """What compares."""
        assert self._verifier is not None, "started"
        return self._verifier

    async def run(self, rounds: Sequence[Round]) -> None:
        """All rounds. Raises RotationError."""
        parts = self._parts
        engine = parts.pipeline.clickhouse
        await parts.start()
        clickhouse = {"host": engine.host, "port": engine.port, "username": engine.username}
        clickhouse |= {"password": engine.password, "database": parts.pipeline.address.database}
        self._verifier = Verifier(parts.pipeline.kafka.bootstrap, parts.pipeline.prefix, clickhouse)
        await parts.start_load()
        took_s = await self._moves()
        self._say(f"all parts run: everything moves after {took_s:.1f} s")
        for one in rounds:
            is_last = one.number == len(rounds)
            is_checked = is_last or one.number % self._checkpoint_every == 0
            words = await self._round(one)
            self._fault = words
            took = "the next fault comes at once"
            if is_checked or not one.hasty:
                took = f"moves again after {await self._moves():.1f} s"
            self._say(f"round {one.number}/{len(rounds)}: {words}; {took}")
            if is_checked:
                await self._checkpoint(is_last=is_last)

    async def _round(self, one: Round) -> str:
        """Its faults; returns them in words."""
        parts = self._parts
        victim = parts.choose(one.component, one.which)
        assert victim is not None
        words = f"kill -9 {victim.name}"
        besides: list[Awaitable[Any]] = []
        if one.extra is not None:
            described, doing = self._extra(one.extra, victim)
            words += f" during {described}"
            besides = [doing]
        await asyncio.gather(_after(one.delay_s, victim, one.down_s), *besides)
        return words + (f", away {one.down_s:.1f} s" if one.down_s else "")

    def _extra(self, extra: Extra, victim: Part) -> tuple[str, Awaitable[Any]]:
        """The fault beside the kill, in words and to be awaited."""
        parts = self._parts
        if extra.fault == "grow":
            return "growth to 3 workers", parts.grow()
        if extra.fault == "shrink":
            return "shrinking to 1 worker", parts.shrink()
        if extra.fault == "rolling restart":
            return f"rolling restart of {len(parts.workers)} workers", self._roll()
        target = parts.choose(extra.component, extra.which, victim)
        if target is None:
            return "nothing else (no other one is there)", asyncio.sleep(0)
        if extra.fault == "SIGTERM":
            return f"SIGTERM to {target.name}", target.restart()
        return f"SIGSTOP of {target.name} for {extra.for_s:.1f} s", target.pause(extra.for_s)

    async def _roll(self) -> None:
        """All workers in turn: SIGTERM, and the next one when it works again."""
        for worker in list(self._parts.workers):
            folder = self._parts.worker_folder(worker)
            await worker.stop()
            (folder / FILE_NAME).unlink(missing_ok=True)
            await worker.start()
            await self._until(f"{worker.name} is not ready", _is_well, folder)

    async def _moves(self) -> float:
        """Waits until everything moves; returns how long that took, in seconds."""
        parts = self._parts
        began_s, began_ms, answered = time.monotonic(), now_ms(), parts.answered_now().total()
        await self._until("the workers do not move", self._counted, await self._ends(topics.USAGE))
        await self._until("the sink does not move", self._shown, topics.STATE, await self._ends(topics.STATE))
        for publisher in parts.publishers:
            await self._until(f"{publisher.name} does not send", _has_sent, publisher, began_ms)
        for node in parts.nodes:
            await self._until(f"{node.name} is not ready", parts.is_answering, node)
        await self._until("no call is answered", lambda: parts.answered_now().total() > answered)
        self._given_up.clear()
        return time.monotonic() - began_s

    async def _checkpoint(self, *, is_last: bool) -> None:
        """Stops the load, drains, compares; goes on unless it ``is_last``. Raises RotationError."""
        parts, began_s = self._parts, time.monotonic()
        await parts.stop_load()
        for what in ("what was sent", "what was forwarded for it"):
            await self._until(f"{what} is not counted", self._counted, await self._ends(topics.USAGE))
        for topic in SUNK:
            await self._until(f"ClickHouse lacks {topic.name}", self._shown, topic, await self._ends(topic))
        deadline = time.monotonic() + AGREE_LIMIT_S
        while (found := await self._differences()) and time.monotonic() < deadline:
            await self._supervise()
            await asyncio.sleep(LOOK_EVERY_S)
        if found:
            self._console.print(table(found))
            raise RotationError(f"{len(found)} differences, the first: {found[0]}\n{self._tails()}")
        totals = self.verifier.totals
        self._say(
            f"checkpoint: 0 differences; {totals.events_logged:,} events logged, {totals.events_counted:,} counted, "
            f"{totals.events_duplicate:,} duplicate, {totals.events_rejected:,} rejected, "
            f"{totals.credits_micro / 1e6:,.1f} credits; {time.monotonic() - began_s:.1f} s"
        )
        if not is_last:
            await parts.start_load()
            await self._moves()

    async def _differences(self) -> list[Difference]:
        parts, losses, logged = self._parts, Losses(), self.verifier.logged
        found = await self.verifier.look()
        runs = [(run, read_journal(run.path)) for part in parts.publishers for run in part.runs]
        found += durable_differences(runs, logged, losses)
        lives = [run for part in parts.nodes for run in part.runs]
        logs = [(run.killed_at_ms is not None, read_node_logs(run.path.parent)) for run in lives]
        found += node_differences(logs, logged, len(await self._ends(topics.USAGE)), losses)
        events = sum(count for count, _ in logged.envelopes.values())
        metered = sum(count for status, count in parts.answered.items() if status not in (*NOT_METERED, "unreachable"))
        if events > metered + parts.answered["unreachable"]:
            found.append(Difference("events of API nodes", "all", "", f"at most {metered}", events))
        losses.node_events = max(0, metered - events)
        left = [path.name for path in parts.spool.rglob("*.spool")]
        found += [Difference("left in the spool", name, "", 0, 1) for name in left]
        self.losses = losses
        return found

    async def _counted(self, ends: Offsets) -> bool:
        return reached(await self._positions.counted(), ends)

    async def _shown(self, topic: topics.Topic, ends: Offsets) -> bool:
        return reached(await self._positions.shown(topic), ends)

    async def _ends(self, topic: topics.Topic) -> Offsets:
        deadline = time.monotonic() + WAIT_LIMIT_S
        while (ends := await self._positions.ends(topic)) is None:
            if time.monotonic() > deadline:
                raise RotationError(f"The broker does not answer within {WAIT_LIMIT_S:g} s.\n{self._tails()}")
        return ends

    async def _until(self, otherwise: str, holds: Callable[..., bool | Awaitable[bool]], *arguments: object) -> None:
        """Until ``holds(*arguments)``; meanwhile who gave up is started again. Raises RotationError."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while True:
            answer = holds(*arguments)
            if answer is True or (isawaitable(answer) and await answer):
                return
            await self._supervise()
            if time.monotonic() > deadline:
                raise RotationError(f"{WAIT_LIMIT_S:g} s after {self._fault} {otherwise}.\n{self._tails()}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _supervise(self) -> None:
        """Starts workers and sink again that gave up (the broker was away), as in production; nobody else may end."""
        parts = self._parts
        for part in parts.all:
            if part.running or part.busy.locked() or not part.wanted:
                continue
            if part not in parts.supervised:
                raise RotationError(f"{part.name} ended by itself.\n{self._tails()}")
            self.restarts += 1
            self._given_up[part.name] = self._given_up.get(part.name, 0) + 1
            if self._given_up[part.name] > RESTARTS_MAX:
                raise RotationError(f"{part.name} keeps ending.\n{self._tails()}")
            await part.start()

    def _tails(self) -> str:
        """The last lines of every part's log."""
        return "\n".join(f"--- {part.name}\n{part.log_tail()}" for part in self._parts.all)

    def _say(self, words: str) -> None:
        """One line: the time, what happened, and the events that the publishing processes sent so far."""
        for publisher in self._parts.publishers:
            for run in publisher.runs[-2:]:
                if (stand := last_stand(run.path)) is not None:
                    self._published[run.path.name] = stand.published
        elapsed_s = time.monotonic() - self._began_s
        events = sum(self._published.values()) + (self._parts.answered + self._parts.answered_now()).total()
        clock = f"{int(elapsed_s // 60):2d}:{int(elapsed_s % 60):02d}"
        self._console.print(
            f"{clock}  {words}  [dim]({events:,} events, {events / elapsed_s:.0f}/s)[/dim]",
            soft_wrap=True,
            highlight=False,
        )


async def _after(delay_s: float, victim: Part, down_s: float) -> None:
    await asyncio.sleep(delay_s)
    await victim.kill(down_s)


def _is_well(folder: Path) -> bool:
    return complaint(folder) is None


def _has_sent(publisher: Part, since_ms: int) -> bool:
    stand = last_stand(publisher.runs[-1].path)
    return stand is not None and stand.at_ms > since_ms and stand.published > 0 and stand.spooled == 0
