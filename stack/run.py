"""``python -m stack run``: the whole pipeline with real traffic, watched by a person or checked unattended."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.live import Live

from clickhouse.intake import SUNK
from sluicegate_schemas import topics
from sluicegate_schemas.topics import PARTITIONS_DEFAULT
from stack.commands import app, clear_endings
from stack.errors import StackError
from stack.evidence import Evidence, read_clickhouse, read_log, read_nodes
from stack.folder import CHECKOUT, data_folder
from stack.freshness import Freshness
from stack.interrupts import only_end_now
from stack.kept import require_whole
from stack.pipeline import PREFIX, Pipeline, last_counts, wait_for
from stack.report import make_report, write_report
from stack.topic_log import end_offsets
from stack.trace import read_trace
from stack.verify import Answers, Check, check_all, failure_sentence, scenes_played
from stack.view import Moment, View
from stack.watch import Watcher

__all__ = ["app"]

TRACE: Final = CHECKOUT / "examples" / "data" / "AzureLLMInferenceTrace_code.csv"
DRAW_EVERY_S: Final = 0.5
ASK_EVERY_S: Final = 0.5
TRAFFIC_GRACE_S: Final = 60.0
DRAIN_LIMIT_S: Final = 180.0
BALANCE_LIMIT_S: Final = 20.0
SCENES_S: Final = 120.0
"""A run of this length shows every scene to its end."""
_SHOWN_QUERY: Final = "SELECT org_id, sum(events) FROM usage_minute FINAL GROUP BY org_id"
_POSITION_QUERY: Final = "SELECT topic, partition, max(next_offset) FROM sink_position GROUP BY topic, partition"


@app.command()
def run(
    trace: Annotated[Path, typer.Option(help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens.")] = TRACE,
    speed: Annotated[float, typer.Option(min=0.001, max=100_000, help="How many times as fast as recorded.")] = 20.0,
    for_s: Annotated[
        float | None,
        typer.Option("--for", min=1, max=86_400, help="Seconds of traffic; then drain, check, report. Else: Ctrl-C."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, max=16, help="API nodes.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Faust workers.")] = 1,
    report: Annotated[Path | None, typer.Option(help="Where the report goes (with --for).")] = None,
    data: Annotated[Path | None, typer.Option(help="Go on with this data folder. Default: a fresh one.")] = None,
    view: Annotated[bool, typer.Option("--view/--no-view", help="The live view, on a terminal.")] = True,
) -> None:
    """Run everything with real traffic; with --for, check that all totals agree."""
    folder = data.expanduser().absolute() if data else _fresh_folder()
    with clear_endings(lambda: _interrupted(folder, is_named=data is not None)):
        if report is not None and for_s is None:
            raise StackError("--report needs --for: a run without an end is not checked", kept="Nothing was started")
        read_trace(trace)  # a file that cannot be replayed is refused before anything starts
        settings = {"trace": trace.name, "speed": speed, "for_s": for_s, "nodes": nodes, "workers": workers}
        console = Console(stderr=True)
        # Calls by hand, of the usage API too, are not in the callers' own count, which a checked run is held against.
        pipeline = Pipeline(folder, nodes=nodes, workers=workers, say=console.print, usage_api=for_s is None)
        demonstration = Demonstration(pipeline, console, view)
        try:
            demonstration.run(trace, settings, report)
        except Exception:
            if folder.exists():
                sys.stderr.write(f"Logs and data of this run: {folder} (to go on with them: --data {folder})\n")
            raise
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
            sys.stderr.write("The data of this run was removed; --data FOLDER keeps it.\n")


def _interrupted(folder: Path, *, is_named: bool) -> str:
    """What a person is told after an interrupt: a run without a named folder begins anew when it is started again."""
    if not folder.exists():
        return "Interrupted: nothing had been started."
    if is_named:
        return f"Interrupted: all was stopped, the data was kept in {folder}; run the same command to go on."
    return (
        f"Interrupted: all was stopped, the logs and data were kept in {folder}; --data {folder} goes on with them, "
        "the same command begins anew."
    )


def _fresh_folder() -> Path:
    return data_folder() / "runs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


class Demonstration:
    """One run of a pipeline: start, traffic, drain, check, report, stop."""

    def __init__(self, pipeline: Pipeline, console: Console, live: bool) -> None:
        self._pipeline = pipeline
        self._console = console
        self._live = live and console.is_terminal
        self._started_at_ms = time.time_ns() // 1_000_000
        self._freshness = Freshness(self._started_at_ms)
        self._answered = threading.Event()

    def run(self, trace: Path, settings: dict[str, Any], report: Path | None) -> None:
        """All of it. Raises StackError where a part fails or a check does not hold."""
        pipeline, for_s = self._pipeline, settings["for_s"]
        events_before = read_nodes(pipeline.node_logs, PARTITIONS_DEFAULT).events
        began = time.monotonic()
        failure = ""
        watcher: Watcher | None = None
        try:
            pipeline.start()
            if for_s is not None:
                asyncio.run(require_whole(pipeline.bootstrap, PREFIX))
            started_s = time.monotonic() - began
            watcher = Watcher(pipeline.bootstrap, PREFIX, self._freshness)
            watcher.start()
            with self._asking():
                self._watch(watcher, trace, settings["speed"], for_s)
                drained_s = self._drain(watcher) if for_s is not None else 0.0
            if for_s is not None:
                spent = {"start_s": round(started_s, 1), "drain_s": round(drained_s, 1)}
                facts = {**settings, **spent, "started_at_ms": self._started_at_ms}
                self._check(facts, events_before, report)
        except StackError as error:
            failure = str(error)
            raise
        finally:
            only_end_now()
            self._console.print("Stopping everything", highlight=False)
            if watcher is not None:
                watcher.stop()
            pipeline.stop(failure)

    def _watch(self, watcher: Watcher, trace: Path, speed: float, for_s: float | None) -> None:
        """Show what happens until the callers are done; without an end of their own, until an interrupt."""
        traffic, scenes = self._pipeline.start_traffic(trace, speed=speed, for_s=for_s), self._pipeline.start_scenes()
        for line in self._hints() if for_s is None else ():
            self._console.print(line, highlight=False, soft_wrap=True)
        began = time.monotonic()
        try:
            with self._screen(View(f"{trace.name} at {speed:g} times its speed")) as show:
                while traffic.running:
                    self._pipeline.check()
                    watcher.check()
                    elapsed_s = time.monotonic() - began
                    if for_s is not None and elapsed_s > for_s + TRAFFIC_GRACE_S:
                        raise StackError(f"The callers did not end within {TRAFFIC_GRACE_S:g} s after their time")
                    shown, alerts = last_counts(scenes).get("scenes", {}), self._pipeline.alerts_received()
                    fresh_ms = self._freshness.samples_ms()
                    show(Moment(watcher.sight(), last_counts(traffic), fresh_ms, elapsed_s, alerts, shown))
                    time.sleep(DRAW_EVERY_S)
        except KeyboardInterrupt:
            if for_s is not None:
                raise
            return
        if for_s is None or traffic.exit_code != 0:
            traffic.check()
        scenes.stop()
        if scenes.exit_code != 0:
            scenes.check()

    @contextmanager
    def _screen(self, view: View) -> Iterator[Callable[[Moment], None]]:
        """Where ``view`` is drawn: in place on a terminal, else as lines."""
        if not self._live:
            yield lambda moment: view.line(self._console, moment)
            return
        with Live(console=self._console, auto_refresh=False) as screen:
            yield lambda moment: screen.update(view.render(moment), refresh=True)

    def _hints(self) -> list[str]:
        """Where to look, and what a person can type to be throttled, and to be told that the credits are gone."""
        address, keys = self._pipeline.node_addresses[0], self._pipeline.secrets
        call = "curl -i -H 'Authorization: Bearer {}' {}{}"
        finch = f"-H 'Authorization: Bearer {keys['key_finch_1']}' {address}/v1/collections"
        return [
            f"Dashboard: {self._pipeline.api_address}/dashboard/",
            f"  sign in with {keys['key_wren_1']}: its credits run out within a minute, and it says why",
            f"  as an operator with {self._pipeline.operator_credential}",
            "Try it by hand, in another terminal (Ctrl-C here ends all):",
            "  one call:            " + call.format(keys["key_heron_1"], address, "/v1/collections"),
            "  until throttled:     for i in $(seq 80); do "
            f"curl -s -o /dev/null -w '%{{http_code}} ' {finch}; done; echo",
            "  out of credits:      " + call.format(keys["key_wren_1"], address, "/v1/search/web -d '{}'"),
        ]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Asks ClickHouse in the background what it shows, for the freshness."""
        stopping = threading.Event()
        client = self._pipeline.clickhouse().connect()

        def ask() -> None:
            while not stopping.wait(ASK_EVERY_S):
                self._ask(client)

        thread = threading.Thread(target=ask, name="stack-freshness", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(timeout=10)
            client.close()

    def _ask(self, client: Client) -> None:
        try:
            rows = client.query(_SHOWN_QUERY).result_rows
        except (ClickHouseError, OSError):
            return  # an outage makes usage stale, which the next answer shows
        self._freshness.shown([(str(row[0]), int(row[1])) for row in rows], time.time_ns() // 1_000_000)

    def _drain(self, watcher: Watcher) -> float:
        """Bring everything to rest, from the front: nodes, workers, sink. Returns how long that took, in seconds."""
        pipeline, began = self._pipeline, time.monotonic()
        say = self._pipeline.say
        say("Draining: API nodes send what they metered")
        for node in pipeline.nodes:
            node.stop()
        pipeline.nodes.clear()
        say("Draining: workers count what is left")
        self._apply(watcher, "The workers did not count all usage")
        self._apply(watcher, "The workers did not count what they had forwarded to its home")
        wait_for(watcher.published, BALANCE_LIMIT_S, "The balances did not come to rest")
        for worker in pipeline.workers:
            worker.stop()
        pipeline.workers.clear()
        say("Draining: ClickHouse gets the rest")
        ends_by_topic = {
            PREFIX + topic.name: asyncio.run(end_offsets(pipeline.bootstrap, PREFIX + topic.name)) for topic in SUNK
        }
        client = pipeline.clickhouse().connect()
        try:
            wait_for(lambda: self._sunk(client, ends_by_topic), DRAIN_LIMIT_S, "The sink did not write everything")
            time.sleep(2 * ASK_EVERY_S)  # one more look at the freshness, of the last events
        finally:
            client.close()
        return time.monotonic() - began

    def _apply(self, watcher: Watcher, failure: str) -> None:
        """Wait until the workers have applied what the usage log holds by now."""
        ends = asyncio.run(end_offsets(self._pipeline.bootstrap, PREFIX + topics.USAGE.name))

        def applied() -> bool:
            self._pipeline.check()
            watcher.check()
            return watcher.applied(ends)

        wait_for(applied, DRAIN_LIMIT_S, failure)

    def _sunk(self, client: Client, ends: dict[str, dict[int, int]]) -> bool:
        self._pipeline.check()
        held = {(str(row[0]), int(row[1])): int(row[2]) for row in client.query(_POSITION_QUERY).result_rows}
        return all(
            held.get((topic, partition), 0) >= end for topic, parts in ends.items() for partition, end in parts.items()
        )

    def _check(self, facts: dict[str, Any], events_before: int, path: Path | None) -> None:
        pipeline = self._pipeline
        pipeline.say("Checking: expected totals against the ledger and ClickHouse")
        client = pipeline.clickhouse().connect()
        try:
            evidence = Evidence(
                read_nodes(pipeline.node_logs, PARTITIONS_DEFAULT),
                asyncio.run(read_log(pipeline.bootstrap, PREFIX)),
                read_clickhouse(client),
            )
        finally:
            client.close()
        assert pipeline.traffic is not None
        assert pipeline.scenes is not None
        played = last_counts(pipeline.scenes)
        scenes: dict[str, Any] = played.pop("scenes", {})
        callers = _sum(last_counts(pipeline.traffic), played)
        checks = check_all(evidence, Answers(callers["answers"], callers["unreachable"], events_before))
        if facts["for_s"] >= SCENES_S:
            checks.append(scenes_played(scenes))
        checks.append(Check("the continuous audit finds no drift", *pipeline.audited()))
        checks.append(Check("every alert came to its receiver, signed", *pipeline.alerted()))
        fresh_ms = self._freshness.samples_ms()
        made = make_report(evidence, checks, callers=callers, scenes=scenes, run=facts, fresh_ms=fresh_ms)
        for check in checks:
            self._console.print(
                f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}", highlight=False, soft_wrap=True
            )
        if path is not None:
            write_report(path, made)
            pipeline.say(f"Report: {path}")
        if (sentence := failure_sentence(checks)) is not None:
            raise StackError(sentence, kept="All data was kept")


def _sum(callers: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of ``callers`` with the calls of ``others``."""
    answers = Counter(callers.get("answers", {})) + Counter(others.get("answers", {}))
    totals = {name: callers.get(name, 0) + others.get(name, 0) for name in ("sent", "unreachable")}
    return {**callers, **totals, "answers": dict(sorted(answers.items()))}
