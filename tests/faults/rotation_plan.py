"""What happens in which round: drawn from a seed, so that a seed repeats a rotation. Pure.

Six rounds in a row kill each component once, in any order. Eight rounds in a row hold each further fault of
``EXTRAS`` once: it begins with the round, and the kill comes while it lasts. Two in eight rounds are hasty: the next
one begins while the system recovers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeVar

Component = Literal["worker", "sink", "broker", "ClickHouse", "publisher", "API node"]
Fault = Literal["pause", "long pause", "SIGTERM", "grow", "rolling restart", "shrink"]

COMPONENTS: Final[tuple[Component, ...]] = ("worker", "sink", "broker", "ClickHouse", "publisher", "API node")
EXTRAS: Final[tuple[Fault | None, ...]] = (
    "pause", "long pause", "SIGTERM", "grow", "rolling restart", "shrink", None, None
)  # fmt: skip
IN_ORDER: Final = ("grow", "rolling restart", "shrink")
"""Three workers are restarted in turn, and then there is one again."""
HASTY: Final = (True, True, False, False, False, False, False, False)
PAUSED: Final[dict[Fault, tuple[float, float]]] = {"pause": (0.3, 2.5), "long pause": (8.0, 10.0)}
"""Seconds; a long pause outlasts the session (``tests.pipeline.SESSION_S``)."""

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Extra:
    """A fault beside the kill. ``which`` (0 to 1) chooses among several of ``component``; ``for_s`` is a pause's."""

    fault: Fault
    component: Component
    which: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """One kill -9: after ``delay_s``, of the ``component`` that ``which`` (0 to 1) chooses; started again after
    ``down_s``. After a ``hasty`` one nobody waits for the recovery."""

    number: int
    component: Component
    which: float
    delay_s: float
    down_s: float
    extra: Extra | None
    hasty: bool


def plan(seed: int, count: int) -> list[Round]:
    """The rounds 1 to ``count``; those of a smaller count are the first of a larger one."""
    return list(islice(_rounds(random.Random(seed)), count))


def _rounds(draw: random.Random) -> Iterator[Round]:
    kills, extras, hastes = _shuffled(draw, COMPONENTS), _extras(draw), _shuffled(draw, HASTY)
    for number, component, fault, hasty in zip(_count(), kills, extras, hastes, strict=False):
        extra = None if fault is None else _extra(draw, fault, component)
        down_s = draw.choice((0.0, draw.uniform(0.2, 3.0)))
        yield Round(number, component, draw.random(), draw.uniform(0.0, 2.0), down_s, extra, hasty)


def _extra(draw: random.Random, fault: Fault, killed: Component) -> Extra:
    others: list[Component] = [one for one in COMPONENTS if one != killed]
    component: Component = "worker" if fault in IN_ORDER else draw.choice(others)
    return Extra(fault, component, draw.random(), draw.uniform(*PAUSED.get(fault, (0.0, 0.0))))


def _extras(draw: random.Random) -> Iterator[Fault | None]:
    while True:
        block = draw.sample(EXTRAS, len(EXTRAS))
        places = [place for place, fault in enumerate(block) if fault in IN_ORDER]
        for place, fault in zip(places, IN_ORDER, strict=True):
            block[place] = fault
        yield from block


def _shuffled(draw: random.Random, items: Sequence[ItemT]) -> Iterator[ItemT]:
    while True:
        yield from draw.sample(items, len(items))


def _count() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number
