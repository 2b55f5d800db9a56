"""What happens now, by organization: balances, decisions and alerts, to whoever listens (server-sent events).

A listener that does not keep up is let go and comes again. The newest events are kept for a while, so that one who was
away for a moment misses none.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from .answers import encode
from .problems import ProblemError, away

OPERATORS: Final = "operators"
"""Who listens to all organizations' blocks: on a hub of their own, so that no customer's events make room."""
LISTENERS_MAX: Final = 500
OF_ORGANIZATION_MAX: Final = 8
OF_ORGANIZATION_CROWDED: Final = 2
"""So many while half of all places are taken: a few organizations do not keep out the others."""
OPENINGS_MAX: Final = 32
OPENING_S: Final = 0.25
"""An organization may open so many at once, and one more after each such time: all its streams come again each two
seconds at the most."""
WAITING_MAX: Final = 64
"""Events that wait for one listener; at the next it is let go."""
KEPT_MAX: Final = 2_000
"""Events of all organizations that are kept for who comes again."""


class Event(NamedTuple):
    """One event: its number in this process, whose it is, its kind and its data (JSON)."""

    number: int
    organization_id: str
    kind: str
    data: bytes


class Listener:
    """One stream's queue."""

    def __init__(self, organization_id: str) -> None:
        self.organization_id = organization_id
        self.is_slow = False
        self.waiting: asyncio.Queue[Event] = asyncio.Queue(WAITING_MAX)

    def put(self, event: Event) -> None:
        """Hands on an event; a full queue says that nobody reads."""
        try:
            self.waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.is_slow = True


class Hub:
    """All listeners. Events that nobody could see again are not even made: ``tell`` is cheap without listeners.
    ``clock`` is one that only rises, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._opened: dict[str, float] = {}
        """By organization, when the pace of its openings (GCRA) has made up for all that there were."""
        self.boot = secrets.token_hex(4)
        self._listeners: dict[str, set[Listener]] = {}
        self._count = 0
        self._number = 0
        self._kept: deque[Event] = deque(maxlen=KEPT_MAX)
        self._told: dict[str, None] = {}

    def __len__(self) -> int:
        return self._count

    def hears(self, organization_id: str) -> bool:
        """Whether somebody listens to the organization, or did lately."""
        return organization_id in self._told

    def tell(self, organization_id: str, kind: str, body: object) -> None:
        """Tells everybody who listens to the organization."""
        self._number += 1
        event = Event(self._number, organization_id, kind, encode(body))
        self._kept.append(event)
        for listener in self._listeners.get(organization_id, ()):
            listener.put(event)

    @contextmanager
    def listening(self, organization_id: str) -> Iterator[Listener]:
        """A listener for the time of the context. Raises ProblemError: 429 or 503 where there are too many."""
        self._keep_pace(organization_id)
        allowed = OF_ORGANIZATION_MAX if self._count < LISTENERS_MAX // 2 else OF_ORGANIZATION_CROWDED
        if len(self._listeners.get(organization_id, ())) >= allowed:
            raise ProblemError(429, "There are as many streams as one may have.", {"Retry-After": "30"})
        if self._count >= LISTENERS_MAX:
            raise away("There are as many streams as there may be", 30)
        listener = Listener(organization_id)
        mine = self._listeners.setdefault(organization_id, set())
        mine.add(listener)
        self._told[organization_id] = None
        self._count += 1
        try:
            yield listener
        finally:
            mine.discard(listener)
            self._count -= 1
            if not mine:
                self._listeners.pop(organization_id, None)
                while len(self._told) > KEPT_MAX:
                    self._forget()

    def _keep_pace(self, organization_id: str) -> None:
        now_s = self._clock()
        made_up_s = max(now_s, self._opened.pop(organization_id, now_s))
        if made_up_s > now_s + (OPENINGS_MAX - 1) * OPENING_S:
            self._opened[organization_id] = made_up_s
            raise ProblemError(429, "Streams are opened too often.", {"Retry-After": "1"})
        self._opened[organization_id] = made_up_s + OPENING_S
        while len(self._opened) > KEPT_MAX:
            del self._opened[next(iter(self._opened))]

    def _forget(self) -> None:
        for organization_id in list(self._told):
            if organization_id not in self._listeners:
                del self._told[organization_id]
                return

    def identify(self, event: Event) -> str:
        """The event's id for the stream."""
        return f"{self.boot}-{event.number}"

    def since(self, organization_id: str, last_event_id: str) -> list[Event] | None:
        """What came after an event; None where that cannot be told: the listener has to begin anew."""
        boot, _, number = last_event_id.partition("-")
        if boot != self.boot or not number.isdigit() or len(number) > 16:
            return None
        last = int(number)
        oldest = self._kept[0].number if self._kept else self._number + 1
        if last + 1 < oldest or last > self._number:
            return None
        return [event for event in self._kept if event.number > last and event.organization_id == organization_id]
