"""Four gateways that share limits, as real processes: ``python -m tests.faults.spending``.

A broker, a worker and four gateways of its own on this machine. Parts (all unless named):

- ``spending``: limits on credits and budgets, each held hard and soft, while calls burst, are too large, end at or far
  below their worst case;
- ``crowd``: 250 organizations run into theirs at once;
- ``disturbances``: parts are killed, stopped or cut off in the middle;
- ``rate``: one key is offered ten times its limit at all gateways for a minute;
- ``death``: a gateway is killed that holds credits and requests.

Writes a report as JSON, in which a part that is not played keeps its last figures, and docs/spending.md of it. Ends
with status 1 where a hard limit was overspent, a soft one or a rate by more than its stated bound, anything admitted is
missing from the ledger, or what a dead gateway held is not free after its time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from sluicegate_schemas.accounts import AnyCommand
from stack.errors import StackError
from stack.report import environment
from tests.faults import gateway_death, spending_page, spending_plays
from tests.faults.findings import Report, Say
from tests.faults.gateways import NODES, Gateways
from tests.faults.proxied_kafka import ProxiedKafka
from tests.faults.proxy import Proxy
from tests.faults.shared_rate import Offer, shared_rate
from tests.faults.spending_books import KINDS, Kind, limited
from tests.faults.spending_plays import below, burst, comes_back, crowd, disturbed, exact, oversized

PARTS: Final = ("spending", "disturbances", "crowd", "rate", "death")
DISTURBANCES: Final = (
    "worker-killed",
    "gateway-killed",
    "gateway-paused",
    "gateway-cut-off",
    "broker-paused",
    "broker-killed",
)
PAUSED_S: Final = 8.0
"""Longer than a lease lasts."""
CUT_OFF_S: Final = 12.0
BROKER_AWAY_S: Final = 30.0
CROWD: Final = 250
LATE_MS: Final = 30_000
"""How long events of a gateway that is cut off may be on their way."""
MINUTE: Final = Offer(per_minute=600, for_s=60.0)
GLIMPSE: Final = Offer(per_minute=60, for_s=4.5, times=20)
BACK: Final = Kind("hard", "credits")


async def briefly(scene: Gateways, report: Report) -> None:
    """The short form: what is cheap, at the same time; then a gateway dies."""
    async with scene.called():
        await shared_rate(scene, report, GLIMPSE)
        hard = [kind for kind in KINDS if kind.mode == "hard"]
        plays = [burst(scene, kind, report) for kind in KINDS]
        plays += [oversized(scene, kind, report) for kind in hard]
        plays += [below(scene, BACK, report), exact(scene, hard[-1], report)]
        await asyncio.gather(*plays)
        await gateway_death.gateway_dies(scene, report)


def commands(offer: Offer, crowd: int = 0, disturbances: Sequence[str] = ()) -> list[AnyCommand]:
    """All organizations."""
    return [
        *spending_plays.commands(disturbances, crowd),
        *limited(BACK, BACK.organization("back"), 10**9),
        *offer.commands(),
        *gateway_death.commands(),
    ]


async def at_length(scene: Gateways, proxy: Proxy, parts: Sequence[str], report: Report, say: Say) -> None:
    """The long form."""
    async with scene.called():
        if "rate" in parts:
            say("one key is offered ten times its limit for a minute")
            await _noted(report, shared_rate(scene, report, MINUTE))
        if "spending" in parts:
            for play in (burst, oversized, below, exact):
                say(play.__name__)
                for kind in KINDS:
                    await _noted(report, play(scene, kind, report))
        if "disturbances" in parts:
            await _disturbances(scene, proxy, report, say)
        if "crowd" in parts:
            for kind in KINDS:
                say(f"{CROWD} organizations at once, {kind}")
                await _noted(report, crowd(scene, kind, report, CROWD))
        if "death" in parts:
            say("a gateway dies")
            await _noted(report, gateway_death.gateway_dies(scene, report))


async def _disturbances(scene: Gateways, proxy: Proxy, report: Report, say: Say) -> None:
    async def cut_off() -> None:
        proxy.hold()
        await asyncio.sleep(CUT_OFF_S)
        proxy.heal()

    disturb: dict[str, Callable[[], Awaitable[None]]] = {
        "worker-killed": scene.kill_the_worker,
        "gateway-killed": scene.kill_a_gateway,
        "gateway-paused": lambda: scene.pause_a_gateway(PAUSED_S),
        "gateway-cut-off": cut_off,
        "broker-paused": lambda: scene.pause_the_broker(PAUSED_S),
        "broker-killed": lambda: scene.kill_the_broker(BROKER_AWAY_S),
    }
    for name in DISTURBANCES:
        say(f"calls, and in the middle: {name}")
        await _noted(report, disturbed(scene, report, name, disturb[name]))
        if name == "gateway-cut-off":
            await _noted(report, comes_back(scene, report, BACK.organization("back")))


async def _noted(report: Report, play: Awaitable[None]) -> None:
    """What did not come about in time is a finding; what follows is played all the same."""
    try:
        await play
    except (AssertionError, StackError) as error:
        report.failures.append(str(error))


async def _everything_of_its_own(parts: Sequence[str], report: Report, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="sluicegate-spending-") as name:
        kafka = ProxiedKafka(Path(name) / "kafka")
        scene = Gateways(kafka, "spending", Path(name), behind=kafka.proxy_bootstrap, late_ms=LATE_MS)
        try:
            await asyncio.to_thread(kafka.start)
            async with Proxy(kafka.proxied_port, kafka.proxy_port) as proxy:
                say("starting a worker and four gateways")
                await scene.start(commands(MINUTE, CROWD if "crowd" in parts else 0, DISTURBANCES))
                await at_length(scene, proxy, parts, report, say)
        finally:
            scene.close()
            kafka.kill()


def _keep(report: Report, path: Path) -> None:
    """Writes what was found, beside the last figures of what was not played, and the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text("utf-8"))["figures"] if path.exists() else {}
    findings = {"ok": not report.failures, "sentences": report.sentences, "failures": report.failures}
    content = {**findings, "gateways": NODES, "figures": {**known, **report.figures}, "environment": environment()}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    spending_page.write(content["figures"], content["environment"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.spending", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="what is played (default: all)")
    parser.add_argument(
        "--report", type=Path, default=Path("bench/work/spending.json"), help="where the figures are kept"
    )
    options = parser.parse_args()
    began = time.monotonic()

    report = Report()

    def say(line: str) -> None:
        _keep(report, options.report)
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    try:
        asyncio.run(_everything_of_its_own(options.part or PARTS, report, say))
    finally:
        _keep(report, options.report)
    print("\n".join(report.sentences))
    for failure in report.failures:
        print(f"NOT AS IT SHOULD BE: {failure}", file=sys.stderr)
    print(f"The figures are in {options.report}.")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
