"""A plan: everything that one history is made of, drawn from one seed.

A plan is explicit and can be shrunk: any element of ``traffic`` or ``faults`` may be left out, and what is left is a
plan. What a play draws beside (the content of an event, a delay) comes from streams named by (seed, purpose, place), so
that leaving one element out disturbs the rest as little as possible.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sluicegate_schemas.bounds import to_epoch_ms

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something breaks at ``at_ms`` of virtual time for ``for_ms``. ``target`` is a number where there are several."""

    at_ms: int
    kind: str
    target: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class Send:
    """Somebody (``by``) does something (``kind``, see ``traffic.KINDS``) at ``at_ms`` of virtual time.

    ``number`` names the stream that its content is drawn from.
    """

    at_ms: int
    kind: str
    by: int
    number: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One history. ``start_ms`` is the epoch time at virtual 0."""

    seed: int
    partitions: int
    workers: int
    gateways: int
    duration_ms: int
    start_ms: int
    traffic: tuple[Send, ...]
    faults: tuple[Fault, ...]


def stream(seed: int, *names: object) -> random.Random:
    """The random stream of ``names``; the same in every process."""
    return random.Random("/".join(map(str, (seed, *names))))


# Kinds of traffic with their weights; a new kind is one more entry here and one in ``traffic.KINDS``.
TRAFFIC: Final[tuple[tuple[str, int], ...]] = (
    ("requests", 26),
    ("envelope", 30),
    ("burst", 5),
    ("json", 10),
    ("cloud event", 4),
    ("repeat", 12),
    ("storage", 6),
    ("stray", 6),
    ("poison", 5),
    ("edge", 8),
    ("plan change", 3),
    ("command", 2),
    ("order", 12),
    ("gauge", 6),
    ("catalogue", 1),
    ("restart", 1),
)

LEAPS_MS: Final = (3 * MINUTE_MS, 20 * MINUTE_MS, 3 * HOUR_MS, 3 * HOUR_MS, 25 * HOUR_MS, 8 * DAY_MS)

# Kinds of faults: weight, how many there are to hit, shortest and longest duration in ms.
FAULTS: Final[tuple[tuple[str, int, Callable[[Plan], int], int, int], ...]] = (
    ("worker kill", 12, lambda plan: plan.workers, 100, 3_000),
    ("worker pause", 8, lambda plan: plan.workers, 500, 8_000),
    ("zombie", 8, lambda plan: plan.workers, 4_500, 9_000),
    ("worker stop", 4, lambda plan: plan.workers, 300, 3_000),
    ("worker cut", 6, lambda plan: plan.workers, 300, 6_000),
    ("worker slow", 5, lambda plan: plan.workers, 500, 5_000),
    ("replies lost", 8, lambda plan: plan.workers, 300, 2_500),
    ("rebalance", 6, lambda plan: 1, 0, 0),
    ("broker down", 3, lambda plan: 1, 300, 4_000),
    ("disk full", 3, lambda plan: 1, 300, 3_000),
    ("group deleted", 1, lambda plan: 1, 0, 0),
    ("hole", 3, lambda plan: plan.partitions, 0, 0),
    ("compaction", 8, lambda plan: plan.partitions, 0, 0),
    ("clock back", 2, lambda plan: 1, 500, 20_000),
    ("leap", 6, lambda plan: 1, 0, 0),
    ("sink kill", 10, lambda plan: 1, 100, 3_000),
    ("sink pause", 4, lambda plan: 1, 1_000, 6_000),
    ("clickhouse down", 4, lambda plan: 1, 500, 5_000),
    ("clickhouse flaky", 8, lambda plan: 1, 500, 6_000),
    ("gateway kill", 8, lambda plan: plan.gateways, 100, 2_000),
    ("gateway cut", 4, lambda plan: plan.gateways, 500, 5_000),
)


def draw_plan(seed: int) -> Plan:
    """The plan of ``seed``."""
    draw = stream(seed, "plan")
    duration_ms = draw.randrange(8_000, 22_000)
    bare = Plan(
        seed,
        partitions=draw.choice((1, 2, 2, 3, 4)),
        workers=draw.choice((1, 2, 2, 3)),
        gateways=draw.choice((1, 2, 3)),
        duration_ms=duration_ms,
        start_ms=_start_ms(draw, duration_ms),
        traffic=(),
        faults=(),
    )
    traffic, faults = _traffic(bare), _faults(bare)
    return Plan(seed, bare.partitions, bare.workers, bare.gateways, duration_ms, bare.start_ms, traffic, faults)


def _start_ms(draw: random.Random, duration_ms: int) -> int:
    """Mostly close before a month's end or the end of its grace, else within the week after one, else anywhere."""
    year, month = draw.randrange(2024, 2028), draw.randrange(1, 13)
    edge_ms = to_epoch_ms(datetime(year, month, 1, tzinfo=UTC))
    match draw.randrange(8):
        case 0 | 1 | 2:
            return edge_ms - draw.randrange(duration_ms)
        case 3:
            return edge_ms - draw.choice((MINUTE_MS, 20 * MINUTE_MS, HOUR_MS)) - draw.randrange(duration_ms)
        case 4 | 5:
            return edge_ms + DAY_MS - draw.randrange(duration_ms)
        case 6:
            return edge_ms + draw.randrange(7 * DAY_MS)
        case _:
            return edge_ms + draw.randrange(28 * DAY_MS)


def _traffic(plan: Plan) -> tuple[Send, ...]:
    draw = stream(plan.seed, "traffic")
    kinds, weights = zip(*TRAFFIC, strict=True)
    sends = [Send(0, "twins", 0, 0)]
    at_ms, gap_ms = 200.0, draw.choice((70, 110, 180))
    while at_ms < plan.duration_ms:
        kind = draw.choices(kinds, weights)[0]
        sends.append(Send(int(at_ms), kind, draw.randrange(6), len(sends)))
        at_ms += draw.expovariate(1 / gap_ms) if draw.random() > 0.01 else draw.uniform(1_000, 4_000)
    return tuple(sends)


def _faults(plan: Plan) -> tuple[Fault, ...]:
    draw = stream(plan.seed, "faults")
    weights = [one[1] for one in FAULTS]
    faults = []
    for _ in range(draw.choice((0, 2, 4, 6, 9, 12))):
        kind, _, targets, shortest_ms, longest_ms = draw.choices(FAULTS, weights)[0]
        at_ms = draw.randrange(300, plan.duration_ms)
        for_ms = draw.choice(LEAPS_MS) if kind == "leap" else draw.randint(shortest_ms, longest_ms)
        faults.append(Fault(at_ms, kind, draw.randrange(targets(plan)), for_ms))
    return tuple(sorted(faults, key=lambda one: (one.at_ms, one.kind, one.target, one.for_ms)))
