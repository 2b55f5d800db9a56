"""What is done to limits on spending: bursts, calls that are too large, a limit that ends while parts are away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from sluicegate_schemas.accounts import AnyCommand
from tests.faults.findings import Report
from tests.faults.gateways import NODES, Gateways, until
from tests.faults.spending_books import KINDS, MICRO, Booked, Kind, booked, limited

CALL: Final = 100 * MICRO
"""The worst case of a call of a language model: what 10,000 tokens cost."""
TOTALS: Final = {"burst": 4 * CALL, "oversized": CALL // 2, "below": 6 * CALL, "exact": 6 * CALL}
DISTURBED: Final = 12 * CALL
"""What the organizations have whose limit ends while something is away."""
CROWD: Final = 4 * CALL
PLAYED_S: Final = 75.0
CROWDED_S: Final = 120.0
ROUND_S: Final = 0.2
WORDS: Final = 2
"""A gateway passes a soft limit by one worst case in 30 s without the workers' word: by so many here."""


def commands(disturbances: Sequence[str], crowd: int) -> list[AnyCommand]:
    """All organizations."""
    totals = {**TOTALS, **dict.fromkeys(disturbances, DISTURBED)}
    totals |= {f"crowd-{number}": CROWD for number in range(crowd)}
    return [
        one
        for kind in KINDS
        for scenario, total in totals.items()
        for one in limited(kind, kind.organization(scenario), total)
    ]


def stated_micro(kind: Kind, total_micro: int) -> int:
    """By how much a limit may be overspent: a soft one by what was left for the other gateways at the workers' last
    word, here at most all of it, and a worst case of each gateway (ADR 19)."""
    return 0 if kind.mode == "hard" else (NODES - 1) * total_micro + WORDS * NODES * CALL


def judge(
    report: Report, scenario: str, kind: Kind, admitted_micro: int, stands: Booked, more: Mapping[Any, object]
) -> None:
    """Notes what was overspent, and what is missing."""
    stated, missing = stated_micro(kind, stands.total_micro), admitted_micro - stands.used_micro
    figures = {"overspend_micro": stands.over_micro, "stated_micro": stated, "missing_micro": max(0, missing)}
    report.figures[f"{scenario}, {kind}"] = {
        str(name): value for name, value in {**figures, **stands._asdict(), **more}.items()
    }
    report.judge(
        missing <= 0 and stands.over_micro <= stated,
        f"{scenario}, {kind}: overspent by {stands.over_micro} micro-credits of {stands.total_micro}, stated are at "
        f"most {stated}; {max(0, missing)} of what was answered are missing from the ledger, which has "
        f"{stands.used_micro}.",
    )


async def settled(scene: Gateways, admitted_micro: Mapping[str, int], kind: Kind) -> dict[str, Booked]:
    """How the limits of organizations stand, once what was answered is in the ledger, or has had the time for it."""
    found: dict[str, Booked] = {}
    began = time.monotonic()
    while time.monotonic() - began < PLAYED_S:
        rows = await scene.rows()
        found = booked(rows, kind, list(admitted_micro))
        if all(found[name].used_micro >= micro for name, micro in admitted_micro.items()):
            break
        await asyncio.sleep(0.5)
    return found


async def burst(scene: Gateways, kind: Kind, report: Report) -> None:
    """20 calls at once where the rest pays for 4."""
    name = kind.organization("burst")
    answers = await scene.calls(20, name, 10_000)
    if kind.mode == "hard":  # a busy machine may not answer a node's first request in time: that is refused
        answers += await scene.calls(20, name, 10_000)
    admitted = answers[200] * CALL
    judge(report, "burst", kind, admitted, (await settled(scene, {name: admitted}, kind))[name], answers)
    report.judge(
        kind.mode == "soft" or answers[200] == 4,
        f"burst, {kind}: {answers[200]} of {answers.total()} parallel calls were admitted, 4 are paid for.",
    )


async def oversized(scene: Gateways, kind: Kind, report: Report) -> None:
    """One call whose worst case is more than all there is, and a small one that is paid for."""
    name = kind.organization("oversized")
    large = await _answer(scene, 0, name, "/v1/inference/llm", {"input_tokens": 10_000, "output_tokens": 0})
    small = await _answer(scene, 1, name, "/v1/search/web", {})
    admitted = CALL * (large == 200) + 10 * MICRO * (small == 200)
    stands = (await settled(scene, {name: admitted}, kind))[name]
    judge(report, "oversized", kind, admitted, stands, {"large": large, "small": small})
    report.judge(
        kind.mode == "soft" or (large, small) == (403, 200),
        f"oversized, {kind}: answered {large}, and {small} to a small call.",
    )


async def _answer(scene: Gateways, number: int, name: str, path: str, body: dict[str, Any]) -> int:
    """The first answer that is not 503: a busy machine may not lend in time."""
    for _ in range(5):
        if (status := await scene.call(number, name, path, body)) != 503:
            return status
    return 503


async def below(scene: Gateways, kind: Kind, report: Report) -> None:
    """Calls that end at a tenth of their worst case, until they are refused."""
    await _streaming(scene, kind, report, "below", 1_000, least_micro=3 * CALL)


async def exact(scene: Gateways, kind: Kind, report: Report) -> None:
    """Calls that end at their worst case exactly, until they are refused."""
    await _streaming(scene, kind, report, "exact", 10_000, least_micro=6 * CALL)


async def _streaming(
    scene: Gateways, kind: Kind, report: Report, scenario: str, tokens: int, *, least_micro: int
) -> None:
    name, cost_micro, admitted = kind.organization(scenario), CALL * tokens // 10_000, 0
    answers, began = Counter[int](), time.monotonic()
    while time.monotonic() - began < PLAYED_S:
        more = await scene.calls(8, name, tokens)
        answers += more
        admitted = answers[200] * cost_micro
        if not more[200] and admitted > TOTALS[scenario] - CALL:
            break
        await asyncio.sleep(ROUND_S)
    stands = (await settled(scene, {name: admitted}, kind))[name]
    judge(report, scenario, kind, admitted, stands, answers)
    report.judge(
        stands.used_micro >= least_micro,
        f"{scenario}, {kind}: {answers[200]} calls that end at {cost_micro // MICRO} of {CALL // MICRO} credits used "
        f"{stands.used_micro // MICRO} of {stands.total_micro // MICRO}.",
    )


async def crowd(scene: Gateways, kind: Kind, report: Report, many: int) -> None:
    """So many organizations run into their limits at once: 6 calls of each where all it has pays for 4."""
    names = [kind.organization(f"crowd-{number}") for number in range(many)]
    answers = {name: Counter[int]() for name in names}
    open_, began = set(names), time.monotonic()
    while open_ and time.monotonic() - began < CROWDED_S:
        asked = sorted(open_)
        for name, more in zip(
            asked, await asyncio.gather(*(scene.calls(6, one, 10_000) for one in asked)), strict=True
        ):
            answers[name] = answers[name] + more
            if answers[name][200] * CALL >= CROWD:
                open_.discard(name)
    admitted = {name: answers[name][200] * CALL for name in names}
    stand = await settled(scene, admitted, kind)
    over = [one.over_micro for one in stand.values()]
    missing = sum(max(0, admitted[name] - stand[name].used_micro) for name in names)
    stated = stated_micro(kind, CROWD)
    total: Counter[int] = sum(answers.values(), Counter())
    used_up = sum(one.used_micro >= one.total_micro for one in stand.values())
    report.figures[f"crowd, {kind}"] = {
        "organizations": many, "used_up": used_up, "overspend_micro_worst": max(over), "overspend_micro_sum": sum(over),
        "stated_micro_each": stated, "missing_micro": missing, "answers": {str(one): total[one] for one in total},
    }  # fmt: skip
    report.judge(
        max(over) <= stated and not missing and used_up > many // 2,  # a busy machine lends to not all in time
        f"crowd, {kind}: {many} organizations at once, {used_up} used up their limit, none by more than {max(over)} "
        f"micro-credits beyond it, stated are at most {stated}; {missing} are missing.",
    )


async def disturbed(scene: Gateways, report: Report, scenario: str, disturb: Callable[[], Awaitable[None]]) -> None:
    """Calls of an organization of each kind that use all there is, while a part is killed, stopped or cut off."""
    names = {kind: kind.organization(scenario) for kind in KINDS}
    answers = dict(
        zip(KINDS, await asyncio.gather(*(scene.calls(8, names[kind], 1_000) for kind in KINDS)), strict=True)
    )
    await scene.rows()
    disturbing = asyncio.ensure_future(disturb())
    await asyncio.gather(*(_use_up(scene, names[kind], answers[kind], disturbing) for kind in KINDS))
    await disturbing
    for kind in KINDS:
        admitted = answers[kind][200] * CALL // 10
        stands = (await settled(scene, {names[kind]: admitted}, kind))[names[kind]]
        judge(report, scenario, kind, admitted, stands, answers[kind])


async def _use_up(scene: Gateways, name: str, answers: Counter[int], disturbing: asyncio.Future[None]) -> None:
    began, is_refused = time.monotonic(), False
    while time.monotonic() - began < PLAYED_S and not (is_refused and disturbing.done()):
        more = await scene.calls(8, name, 1_000)
        answers.update(more)
        scene.restart_ended()
        is_refused = set(more) == {403}
        await asyncio.sleep(ROUND_S)


async def comes_back(scene: Gateways, report: Report, organization_id: str) -> None:
    """The gateway that was cut off serves what costs under a hard limit again."""
    number = scene.CUT_OFF

    async def serves() -> bool:
        return await scene.call(number, organization_id, "/v1/search/hybrid", {}) == 200

    took_s = await until("the gateway that was cut off serves again", serves)
    report.figures["cut off"] = {"serves_again_after_s": took_s}
    report.sentences.append(f"cut off: {took_s:.1f} s after its end the gateway admits under a hard limit again.")
