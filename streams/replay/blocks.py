"""From decisions to blocks: when a limit closed for a scope, and when it opened again. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sluicegate_schemas.outputs import Decision, Scope


class Block(NamedTuple):
    """One block. ``ended_at`` is None while it stands."""

    first: Decision
    ended_at: datetime | None


class Blocks:
    """Reads decisions in the order in which they were made; hands out each block once it is over.

    A block ends with the ``allow`` that contradicts it, or at its ``until``; one that is said again goes on. Open
    blocks are bounded by the standing decisions of the machine that makes them.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[Scope, str], tuple[Decision, datetime | None]] = {}

    def take(self, decision: Decision) -> Block | None:
        """The block that ``decision`` shows to be over."""
        key = decision.scope, decision.limit_name
        held = self._open.get(key)
        if decision.verdict == "allow":
            if held is None:
                return None
            del self._open[key]
            return Block(held[0], _earlier(held[1], decision.decided_at))
        if held is None or (held[1] is not None and held[1] <= decision.decided_at):
            self._open[key] = decision, decision.until
            return None if held is None else Block(*held)
        self._open[key] = held[0], decision.until
        return None

    def rest(self, now: datetime) -> Iterator[Block]:
        """What no decision has ended: over where its time is, else it stands at ``now``."""
        for first, until in self._open.values():
            yield Block(first, until if until is not None and until <= now else None)
        self._open = {}


def _earlier(until: datetime | None, at: datetime) -> datetime:
    return at if until is None else min(until, at)
