"""How much a publisher holds, against its bounds, and every event's whereabouts in numbers."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from .batcher import EVENT_OVERHEAD_BYTES, Envelope


@dataclass(slots=True)
class Room:
    """Bounded memory and the counts behind ``PublisherStats``.

    Whoever publishes may be in any thread; methods are called with ``lock`` held, for the shortest time.
    """

    events_max: int
    bytes_max: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    held_events: int = 0
    held_bytes: int = 0
    accepted: int = 0
    recovered: int = 0
    published: int = 0
    envelopes: int = 0
    in_flight: int = 0
    spooled: int = 0
    refused: int = 0
    retries: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def admits(self, data: bytes) -> bool:
        """Counts the event in, unless it would pass a bound."""
        held_bytes = self.held_bytes + len(data) + EVENT_OVERHEAD_BYTES
        if self.held_events >= self.events_max or held_bytes > self.bytes_max:
            return False
        self.held_events += 1
        self.held_bytes = held_bytes
        self.accepted += 1
        return True

    @property
    def pressed(self) -> bool:
        """More than half of it is taken."""
        return self.held_events * 2 > self.events_max or self.held_bytes * 2 > self.bytes_max

    @property
    def buffered(self) -> int:
        """Events in memory without an envelope."""
        return self.held_events - self.in_flight

    def sealed(self, envelope: Envelope) -> None:
        """Its events wait no longer, they are under way."""
        self.in_flight += envelope.events

    def written(self, envelope: Envelope) -> None:
        """It is on disk now; its memory is free."""
        self._free(envelope)
        self.spooled += envelope.events

    def acknowledged(self, envelope: Envelope) -> None:
        """It is in Kafka's log."""
        self.published += envelope.events
        self.envelopes += 1
        if envelope.source is None:
            self._free(envelope)
        else:
            self.spooled -= envelope.events

    def damaged(self, events: int) -> None:
        """Events on disk turned out to be unreadable."""
        self.spooled -= events
        self.lost["spool_damaged"] += events

    def give_up(self) -> None:
        """What is still in memory is lost."""
        for reason, events in (("unsent_at_close", self.buffered), ("unconfirmed_at_close", self.in_flight)):
            if events:
                self.lost[reason] += events
        self.held_events = self.held_bytes = self.in_flight = 0

    def _free(self, envelope: Envelope) -> None:
        self.in_flight -= envelope.events
        self.held_events -= envelope.events
        self.held_bytes -= envelope.held_bytes
