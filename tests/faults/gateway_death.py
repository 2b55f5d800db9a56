"""A gateway is killed that holds credits and requests: both are free again after the stated times."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

from sluicegate.gauges import GaugeSettings
from sluicegate_schemas.accounts import AnyCommand
from tests.faults.findings import Report
from tests.faults.gateways import NODES, Gateways, until
from tests.faults.spending_books import MICRO, Kind, booked, limited, organization
from tests.faults.spending_plays import CALL, judge, settled

CROWDED: Final = "org_crowded"
CONCURRENCY: Final = 50
HELD_MS: Final = 45_000
"""How long the requests would run."""
LENT: Final = Kind("hard", "credits")
VICTIM: Final = 3
SLACK_S: Final = 15.0
"""How much later than stated something may be free on a busy machine."""
PLACES_S: Final = 5.0
GAUGE_S: Final = GaugeSettings().ttl_ms / 1000


def commands() -> list[AnyCommand]:
    """An organization with so many requests at a time, and one whose credits one gateway can hold."""
    return [
        *limited(LENT, LENT.organization("death"), CALL),
        *organization(CROWDED, concurrency=CONCURRENCY),
    ]


async def gateway_dies(scene: Gateways, report: Report) -> None:
    """Both; the gateway stays dead."""
    share = CONCURRENCY // NODES
    own = [share + (number < CONCURRENCY % NODES) for number in range(NODES)]
    held = [asyncio.create_task(_hold(scene, number)) for number in range(NODES) for _ in range(own[number])]
    try:
        for number in range(NODES):
            await until("all requests are known everywhere", lambda number=number: _is_full(scene, number))  # type: ignore[misc]  # bound early
        name, body = LENT.organization("death"), {"input_tokens": 1_000, "output_tokens": 0}
        first = await scene.call(VICTIM, name, "/v1/inference/llm", body)
        lent_micro = booked(await scene.rows(), LENT, [name])[name].lent_micro
        before = [task for task in held if task.done()]
        await asyncio.to_thread(scene.nodes[VICTIM].kill)
        died = time.monotonic()
        slots_s, (lease_s, answers) = await asyncio.gather(
            until("the requests' places are free", lambda: _runs(scene)), _lent_again(scene, name, died)
        )
        again = await _take_places(scene, held, own[VICTIM])
        report.figures["death"] = {
            "held": own, "ended_before": len(before), "free_after_s": slots_s, "stated_free_s": GAUGE_S,
            "free_again": again, "lent_micro": lent_micro, "lent_again_after_s": lease_s,
            "stated_lent_again_s": scene.stated_s,
        }  # fmt: skip
        report.judge(
            not before and slots_s < GAUGE_S + SLACK_S and again == own[VICTIM],
            f"death: of {CONCURRENCY} requests at {NODES} gateways {own[VICTIM]} were at the one that was killed; "
            f"their places were free after {slots_s:.1f} s (stated: {GAUGE_S:g} s from its last gauge), and then "
            f"{again} more were admitted, the next one refused.",
        )
        cost_micro = CALL // 10 * (first == 200) + answers[200] * MICRO // 5
        judge(report, "death", LENT, cost_micro, (await settled(scene, {name: cost_micro}, LENT))[name], answers)
        report.judge(
            lent_micro > 0 and answers[200] == 1 and lease_s < scene.stated_s + SLACK_S,
            f"death: {lent_micro // MICRO} credits that the killed gateway held were lent again after {lease_s:.1f} s; "
            f"stated are {scene.stated_s:g} s from when they were lent.",
        )
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def _hold(scene: Gateways, number: int) -> int:
    body = {"milliseconds": 0, "takes_ms": HELD_MS}
    return await scene.call(number, CROWDED, "/v1/videos", body)


async def _is_full(scene: Gateways, number: int) -> bool:
    return await scene.call(number, CROWDED, "/v1/collections") == 429


async def _runs(scene: Gateways) -> bool:
    return await scene.call(0, CROWDED, "/v1/collections") == 200


async def _take_places(scene: Gateways, held: list[asyncio.Task[int]], places: int) -> int:
    """More requests at the first gateway, until there is no place; returns how many run. After its own counts changed a
    gateway takes the others for busier than they are, for 2 s: so it is asked for longer than that."""
    running, began = 0, time.monotonic()
    while running <= places and time.monotonic() - began < PLACES_S:
        tasks = [asyncio.create_task(_hold(scene, 0)) for _ in range(places - running + 1)]
        _, run = await asyncio.wait(tasks, timeout=0.5)
        running += len(run)
        held += run
    return running


async def _lent_again(scene: Gateways, name: str, died: float) -> tuple[float, Counter[int]]:
    answers = Counter[int]()
    while not answers[200] and time.monotonic() - died < scene.stated_s + SLACK_S:
        answers[await scene.call(1, name, "/v1/search/hybrid", {})] += 1
        await asyncio.sleep(0.25)
    return time.monotonic() - died, answers
