"""Tells work that waits for a reason from work that is stuck, by looking at it again and again; pure, with time given.

A ``Work`` is one step of what a process does for one partition. It moves while its ``at`` changes, rests while nothing
is there to be done, waits while there is an ``excuse``, and halts otherwise. A halt that lasts is stuck: the process
then says so and leaves its group, so that others take over. The table of all steps is in docs/health.md.
"""

from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

PAUSE_S: Final = 5.0
"""A step that was not looked at for so long was not slow: the process was stopped, or its partition was elsewhere. That
time does not count."""
FORGOTTEN_AFTER_S: Final = 60.0
UNREADY_AFTER_S: Final = 10.0
"""What has something to do and does not go on for so long is not ready."""


class Work(NamedTuple):
    """One step of one partition, as it is seen now."""

    partition: str
    """``topic/number``."""
    step: str
    at: Hashable
    """Changes whenever something was done."""
    has_more: bool
    """Something is there to be done."""
    on: str
    """What it would be stuck on, in words."""
    excuse: str = ""
    """What it rightly waits for, in words; never a reason to leave."""


class Halt(NamedTuple):
    """A step that does not go on."""

    partition: str
    step: str
    since: float
    """When it last went on (seconds, the clock of ``look``)."""
    on: str
    waits: bool
    """It has an excuse; ``on`` is that."""
    stuck: bool
    """It has halted for too long without one."""


class _Seen:
    __slots__ = ("at", "excused", "looked_at", "since")

    def __init__(self, at: Hashable, now: float) -> None:
        self.at = at
        self.since = now
        self.excused = now
        """Until then it needed no excuse, or had one."""
        self.looked_at = now

    def look(self, now: float) -> None:
        gap_s = now - self.looked_at
        self.looked_at = now
        if gap_s > PAUSE_S:
            self.since += gap_s
            self.excused += gap_s


class Progress:
    """Looks at all steps of a process, about once a second. ``stuck_after_s`` is how long one may halt."""

    def __init__(self, stuck_after_s: float) -> None:
        self._stuck_after_s = stuck_after_s
        self._seen: dict[tuple[str, str], _Seen] = {}

    def look(self, now: float, works: Iterable[Work]) -> list[Halt]:
        """The steps that do not go on, in the order of ``works``: what others wait on comes first there."""
        halts = []
        for work in works:
            seen = self._seen.setdefault((work.partition, work.step), _Seen(work.at, now))
            seen.look(now)
            if seen.at != work.at or not work.has_more:
                seen.at, seen.since, seen.excused = work.at, now, now
                continue
            if work.excuse:
                seen.excused = now
            stuck = now - max(seen.since, seen.excused) >= self._stuck_after_s
            if now > seen.since:
                halts.append(
                    Halt(work.partition, work.step, seen.since, work.excuse or work.on, bool(work.excuse), stuck)
                )
        self._seen = {name: seen for name, seen in self._seen.items() if now - seen.looked_at <= FORGOTTEN_AFTER_S}
        return halts
