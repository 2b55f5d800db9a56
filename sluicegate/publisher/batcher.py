"""Events of one partition become envelopes: when one is due, and what is in it. No I/O, no clock."""

from collections import deque
from dataclasses import dataclass
from math import exp
from typing import Final, Protocol

import msgspec

from sluicegate_schemas.envelope import ENCODE, ENVELOPE_VERSION

from .settings import ENVELOPE_HEAD_BYTES, PublisherSettings

EVENT_OVERHEAD_BYTES: Final = 160
"""What an event in memory costs beside its own bytes, rounded up."""
_RATE_MEMORY_MS: Final = 500.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who numbers envelopes: random for each process and fork, so its sequences start at 1 and its epoch stays."""

    producer_id: str
    producer_epoch: int = 1


class Waiting(msgspec.Struct, gc=False, frozen=True):
    """An encoded event that waits for its envelope. ``arrived_ms`` is on the monotonic clock."""

    account_id: str
    data: bytes
    arrived_ms: float

    @property
    def held_bytes(self) -> int:
        return len(self.data) + EVENT_OVERHEAD_BYTES


class Source(Protocol):
    """A first-in-first-out queue of envelopes on disk."""

    def pop(self) -> None:
        """Forgets the first envelope: Kafka has it."""


@dataclass(slots=True)
class Envelope:
    """A sealed envelope: ``value`` goes to ``partition`` as it is, as often as it takes."""

    partition: int
    sequence: int
    key: bytes
    value: bytes
    events: int
    oldest_ms: float
    held_bytes: int
    source: "Source | None" = None
    """The queue on disk whose first record it is; None while it is in memory alone."""


class _EncodedEnvelope(msgspec.Struct, array_like=True, gc=False):
    """``WireEnvelope`` whose events are encoded already."""

    version: int
    producer_id: str
    producer_epoch: int
    sequence: int
    sent_at_ms: int
    node: str | None
    events: list[msgspec.Raw]


class Batcher:
    """The events of one partition that have no sequence yet, oldest first.

    The linger grows from ``linger_ms_min`` to ``linger_ms_max`` with the partition's rate, which is a moving average
    over about half a second.
    """

    __slots__ = (
        "_bytes", "_events", "_linger_ms", "_rate_eps", "_sealed_ms", "_settings", "added", "partition", "sequence",
    )  # fmt: skip

    def __init__(self, settings: PublisherSettings, partition: int, now_ms: float) -> None:
        self._settings = settings
        self._events: deque[Waiting] = deque()
        self._bytes = 0
        self._rate_eps = 0.0
        self._linger_ms = settings.linger_ms_min
        self._sealed_ms = now_ms
        self.partition = partition
        self.sequence = 0
        self.added = 0
        """Events ever added."""

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        """What waits fills an envelope."""
        return (
            len(self._events) >= self._settings.envelope_events_max
            or self._bytes >= self._settings.envelope_bytes_max - ENVELOPE_HEAD_BYTES
        )

    @property
    def linger_ms(self) -> float:
        return self._linger_ms

    @property
    def oldest_ms(self) -> float | None:
        """When the oldest waiting event arrived; None where nothing waits."""
        return self._events[0].arrived_ms if self._events else None

    def add(self, event: Waiting) -> bool:
        """Appends ``event``; True where whoever seals should look again: the first to wait, or an envelope is full."""
        was_full = self.full
        self.added += 1
        self._events.append(event)
        self._bytes += len(event.data)
        return len(self._events) == 1 or (self.full and not was_full)

    def due_in_ms(self, now_ms: float) -> float | None:
        """How long until an envelope should be sealed, 0 or less for now; None where nothing waits.

        Due times are multiples of the shortest linger, so that partitions go together, in one request to the broker.
        """
        if not self._events:
            return None
        if self.full:
            return 0.0
        due_ms, grid_ms = self._events[0].arrived_ms + self._linger_ms, self._settings.linger_ms_min
        return (due_ms - due_ms % grid_ms if grid_ms else due_ms) - now_ms

    def take(self, now_ms: float) -> list[Waiting]:
        """Removes the events of the next envelope and adapts the linger. At least one must wait."""
        room = self._settings.envelope_bytes_max - ENVELOPE_HEAD_BYTES
        taken: list[Waiting] = []
        while self._events and len(taken) < self._settings.envelope_events_max:
            room -= len(self._events[0].data)
            if room < 0 and taken:
                break
            taken.append(self._events.popleft())
            self._bytes -= len(taken[-1].data)
        elapsed_ms = max(now_ms - self._sealed_ms, 1.0)
        weight = 1.0 - exp(-elapsed_ms / _RATE_MEMORY_MS)
        self._rate_eps += weight * (len(taken) * 1_000.0 / elapsed_ms - self._rate_eps)
        self._sealed_ms = now_ms
        low, high = self._settings.linger_ms_min, self._settings.linger_ms_max
        self._linger_ms = low + (high - low) * min(1.0, self._rate_eps / self._settings.linger_full_eps)
        return taken

    def seal(self, taken: list[Waiting], identity: Identity, epoch_ms: int) -> Envelope:
        """Gives ``taken`` the next sequence. From here on it must arrive, and before any later one.

        The record's key is the first event's account: all accounts of an envelope share the partition, so that a tool
        which partitions by key again, as Kafka's default partitioner does, puts it where it was.
        """
        self.sequence += 1
        value = ENCODE(
            _EncodedEnvelope(
                ENVELOPE_VERSION,
                identity.producer_id,
                identity.producer_epoch,
                self.sequence,
                epoch_ms,
                self._settings.node,
                [msgspec.Raw(event.data) for event in taken],
            )
        )
        return Envelope(
            partition=self.partition,
            sequence=self.sequence,
            key=taken[0].account_id.encode(),
            value=value,
            events=len(taken),
            oldest_ms=taken[0].arrived_ms,
            held_bytes=sum(event.held_bytes for event in taken),
        )
