"""One key, offered many times its limit at four gateways at once: how far the limit is passed, beside the stated bound.

A bucket promises at most capacity + rate x t over any time t (requirements, section 9). What was admitted is read from
the gateways' own logs, by the start of each request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from fractions import Fraction
from typing import Final, NamedTuple

from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.limits import RateLimits
from stack.freshness import percentiles
from stack.node_log import Applied, Published
from tests.bucket_promise import most_beyond
from tests.faults.findings import Report
from tests.faults.gateways import NODES, Gateways
from tests.faults.spending_books import organization

ORGANIZATION: Final = "org_shared-rate"
GOAL_PERCENT: Final = 1.0


class Offer(NamedTuple):
    """A key's limit, and what is offered of it for how long, evenly over all gateways."""

    per_minute: int
    for_s: float
    times: int = 10

    @property
    def per_s(self) -> int:
        """Requests offered to all gateways together."""
        return -(-self.per_minute * self.times // 60)

    def commands(self) -> list[AnyCommand]:
        """The organization; only its minute is tight."""
        rates = RateLimits(requests_per_second=10_000, burst=10_000, requests_per_minute=self.per_minute)
        return organization(ORGANIZATION, rates=rates)


async def shared_rate(scene: Gateways, report: Report, offer: Offer) -> None:
    """Offers it, and notes what was admitted."""
    await _offer(scene, offer._replace(per_minute=60, for_s=1.0))  # connections are there, and what is loaded late
    before = [len(scene.lines(number)) for number in range(NODES)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await _offer(scene, offer)
    took_s = loop.time() - began
    gates = [await scene.gate(number, offer.per_s) for number in range(NODES)]
    lines = [scene.lines(number)[before[number] :] for number in range(NODES)]
    applied = [one for some in lines for one in some if isinstance(one, Applied) and one.cause_ts_ms is not None]
    started = sorted(
        line.event.started_at_ms
        for number in range(NODES)
        for line in scene.lines(number)
        if isinstance(line, Published) and line.event.org_id == ORGANIZATION and line.event.status == 200
    )
    promised = offer.per_minute + offer.per_minute * took_s / 60
    beyond = float(most_beyond(started, offer.per_minute, Fraction(offer.per_minute, 60_000)))
    bound = max(gate["bound"]["requests"] for gate in gates)
    lag_ms = max(gate["bound"]["lag_ms"] for gate in gates)
    percent = 100 * max(0.0, beyond) / promised
    report.figures["shared rate"] = {
        "gateways": NODES, "limit_per_minute": offer.per_minute, "offered": answers.total(), "seconds": took_s,
        "answers": {str(status): count for status, count in answers.items()}, "admitted": len(started),
        "promised": promised, "beyond": beyond, "overshoot_percent": percent, "goal_percent": GOAL_PERCENT,
        "stated_bound": bound, "stated_lag_ms": lag_ms, "gates": gates,
        "lag_from_log_ms": percentiles([one.at_ms - (one.cause_logged_at_ms or 0) for one in applied]),
        "lag_from_end_ms": percentiles([one.at_ms - (one.cause_ts_ms or 0) for one in applied]),
    }  # fmt: skip
    lags = report.figures["shared rate"]["lag_from_end_ms"]
    report.judge(
        beyond <= bound and answers[0] == 0 and len(started) >= answers[200],
        f"shared rate: {NODES} gateways were offered {answers.total()} requests of one key in {took_s:.1f} s, "
        f"{offer.times} times its {offer.per_minute} a minute; {len(started)} were admitted, at most {beyond:.1f} "
        f"beyond capacity + rate x t over any time; the gates state {bound} at a lag of {lag_ms} ms; from a request's "
        f"end to its decision in force p50 {lags['p50']} ms, p99 {lags['p99']} ms. Overshoot {percent:.2f} % of what "
        f"is promised over that time (goal: {GOAL_PERCENT:g} % over a minute).",
    )


async def _offer(scene: Gateways, offer: Offer) -> Counter[int]:
    """An open loop: each gateway is called on time, whatever it does."""
    loop = asyncio.get_running_loop()
    calls: list[asyncio.Task[int]] = []
    began = loop.time()
    for number in range(int(offer.per_s * offer.for_s)):
        await asyncio.sleep(max(0.0, began + number / offer.per_s - loop.time()))
        calls.append(asyncio.create_task(scene.call(number % NODES, ORGANIZATION, "/v1/collections")))
    return Counter(await asyncio.gather(*calls))
