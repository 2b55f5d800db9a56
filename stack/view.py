"""What a person sees while the pipeline runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sluicegate_schemas.money import credits_text
from sluicegate_schemas.outputs import Balance
from stack.freshness import percentiles
from stack.receiver import Received
from stack.watch import Sight

ORGANIZATIONS_SHOWN: Final = 6
DECISIONS_SHOWN: Final = 5
ALERTS_SHOWN: Final = 4
RATE_WINDOW_S: Final = 5.0
LINE_EVERY_S: Final = 5.0


@dataclass(slots=True)
class Rate:
    """Events a second over the last ``RATE_WINDOW_S`` seconds, from a growing count."""

    _points: deque[tuple[float, int]] = field(default_factory=deque)

    def update(self, count: int, now_s: float) -> float:
        """Take in ``count`` at ``now_s``; returns the rate."""
        self._points.append((now_s, count))
        while len(self._points) > 2 and now_s - self._points[0][0] > RATE_WINDOW_S:
            self._points.popleft()
        since_s, before = self._points[0]
        return (count - before) / (now_s - since_s) if now_s > since_s else 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to show: the topics, the callers' counts, the measured ages in ClickHouse, the time that passed,
    the alerts that came to the subscriber, the oldest first, and how far the scenes are, by name."""

    sight: Sight
    callers: Mapping[str, Any]
    fresh_ms: list[int]
    elapsed_s: float
    alerts: Sequence[Received] = ()
    scenes: Mapping[str, Any] = field(default_factory=dict)


class View:
    """Draws one ``Moment`` after another."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rate = Rate()
        self._said_at = float("-inf")
        self._alerts_said = 0
        self._scenes_said: set[str] = set()

    def render(self, moment: Moment) -> RenderableType:
        """The whole screen."""
        sight = moment.sight
        eps = self._rate.update(sight.events_logged, time.monotonic())
        head = Text.assemble(
            (f"{eps:,.0f} events/s", "bold"),
            f"   {sight.events_logged:,} published   lag ",
            (f"{sight.lag_events:,} events", "yellow" if sight.lag_events > 1_000 else "green"),
            f"   rejects {sight.rejects:,}   ClickHouse {_fresh(moment.fresh_ms)}   {moment.elapsed_s:,.0f} s",
        )
        return Group(
            Panel(head, title=self._title),
            Panel(_organizations(sight), title="Organizations: credits of the month"),
            Panel(_decisions(sight), title="Decisions, newest first"),
            Panel(_scenes(moment.scenes), title="Each kind of block, once: refused by a limit, and let in again"),
            Panel(_alerts(moment.alerts), title="Alerts that a webhook's receiver got and verified, newest first"),
            Panel(_answers(moment.callers), title="Answers to the callers"),
        )

    def line(self, console: Console, moment: Moment) -> None:
        """One plain line every ``LINE_EVERY_S`` seconds, and one for each alert and each turn of a scene."""
        now, sight = time.monotonic(), moment.sight
        for alert in moment.alerts[self._alerts_said :]:
            said = f"alert {alert.state} ({alert.severity}): {alert.sentence}"
            console.print(f"{moment.elapsed_s:4.0f} s  {said}", highlight=False, soft_wrap=True, markup=False)
        self._alerts_said = len(moment.alerts)
        for said in (said for name, act in moment.scenes.items() for said in _turns(name, act)):
            if said not in self._scenes_said:
                self._scenes_said.add(said)
                console.print(f"{moment.elapsed_s:4.0f} s  {said}", highlight=False, soft_wrap=True, markup=False)
        eps = self._rate.update(sight.events_logged, now)
        if now - self._said_at < LINE_EVERY_S:
            return
        self._said_at = now
        answers = " ".join(f"{status}:{count}" for status, count in moment.callers.get("answers", {}).items())
        console.print(
            f"{moment.elapsed_s:4.0f} s  {eps:,.0f} events/s, lag {sight.lag_events:,} events, "
            f"{sight.decisions:,} decisions, answers {answers or 'none yet'}",
            highlight=False,
            soft_wrap=True,
        )


def _fresh(samples_ms: list[int]) -> str:
    middle = percentiles(samples_ms[-2_000:])["p50"]
    return "not yet" if middle is None else f"{middle:,} ms behind"


def _organizations(sight: Sight) -> Table:
    table = Table(box=None, expand=True)
    for name in ("organization", "used", "left", "of", "requests"):
        table.add_column(name, justify="left" if name == "organization" else "right")
    busiest = sorted(sight.balances, key=lambda balance: (-balance.used_micro, balance.id))
    for balance in busiest[:ORGANIZATIONS_SHOWN]:
        table.add_row(balance.id, _credits(balance.used_micro), *_left(balance), f"{balance.requests:,}")
    return table


def _left(balance: Balance) -> tuple[Text | str, str]:
    if balance.total_micro is None:
        return "–", "no limit"
    left = max(0, balance.total_micro - balance.used_micro)
    share = left / balance.total_micro if balance.total_micro else 0.0
    style = "bold red" if left == 0 else "yellow" if share < 0.2 else "green"
    return Text(_credits(left), style=style), _credits(balance.total_micro)


def _credits(micro: int) -> str:
    whole, _, part = credits_text(micro).partition(".")
    return f"{int(whole):,}" + (f".{part}" if part else "")


def _decisions(sight: Sight) -> Table:
    table = Table(box=None, expand=True)
    for name in ("scope", "limit", "verdict", "observed / limit", "until", "after the event"):
        table.add_column(name, justify="right" if name in ("observed / limit", "after the event") else "left")
    for seen in list(sight.recent_decisions)[: -DECISIONS_SHOWN - 1 : -1]:
        decision = seen.decision
        is_money = decision.limit_name == "credits"
        amounts = [_credits(n) if is_money else f"{n:,}" for n in (decision.observed, decision.limit)]
        table.add_row(
            decision.scope.text(),
            decision.limit_name,
            Text(decision.verdict, style="red" if decision.verdict == "block" else "green"),
            " / ".join(amounts),
            f"{decision.until:%Y-%m-%d %H:%M:%S}" if decision.until else "–",
            "–" if seen.seen_after_ms is None else f"{seen.seen_after_ms:,} ms",
        )
    return table


def _turns(name: str, act: Mapping[str, Any]) -> list[str]:
    """What happened in a scene so far."""
    turns = [f"{name}: {act['status']} by {act['refused_by']}"] if act["refused_by"] else []
    turns += [f"{name}: let in again by {act['cleared_by']}"] if act["cleared_by"] else []
    return turns + ([f"{name}: {act['failure']}"] if act["failure"] else [])


def _scenes(scenes: Mapping[str, Any]) -> Table:
    table = Table(box=None, expand=True, show_header=False)
    for name, act in scenes.items():
        refused = f"{act['status']} {act['refused_by']} at {act['refused_at_s']:g} s" if act["refused_by"] else ""
        cleared = f"let in by {act['cleared_by']} at {act['cleared_at_s']:g} s" if act["cleared_by"] else act["failure"]
        table.add_row(name, Text(refused, style="red"), Text(cleared, style="green" if act["cleared_by"] else ""))
    return table


def _alerts(alerts: Sequence[Received]) -> Text:
    text = Text()
    for alert in list(alerts)[: -ALERTS_SHOWN - 1 : -1]:
        style = (
            "green" if alert.state == "cleared" else {"critical": "bold red", "warning": "yellow"}.get(alert.severity)
        )
        text.append(f"{alert.state:<8}", style=style or "").append(f"{alert.sentence}\n")
    return text if alerts else Text("none yet")


def _answers(callers: Mapping[str, Any]) -> Text:
    styles = {"2": "green", "4": "red", "5": "bold red"}
    text = Text()
    for status, count in callers.get("answers", {}).items():
        text.append(f"{status}: {count:,}   ", style=styles.get(status[0], ""))
    if unreachable := callers.get("unreachable", 0):
        text.append(f"no answer: {unreachable:,}   ", style="bold red")
    if (behind_ms := callers.get("behind_ms", 0)) > 1_000:
        text.append(f"(the callers are {behind_ms / 1000:.1f} s behind their schedule)", style="yellow")
    return text
