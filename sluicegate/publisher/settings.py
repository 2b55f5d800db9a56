"""What a publisher may use, and when it sends."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sluicegate_schemas import bounds
from sluicegate_schemas.topics import PREFIX_DEFAULT, USAGE

from ..brokers import BOOTSTRAP_SERVERS_DEFAULT, Brokers

Overflow = Literal["drop", "spool"]
_NODE: Final = bounds.full_match(bounds.NAME_PATTERN)
ENVELOPE_HEAD_BYTES: Final = 256
"""Room that an envelope's own fields may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSettings:
    """Bounds and timings of a publisher. Raises ValueError, naming the field, where a value makes no sense.

    ``overflow`` says what happens while Kafka does not take what is published:

    - "drop": events wait in memory; at its bounds the newest are dropped and counted;
    - "spool": what Kafka has not acknowledged ``spool_after_ms`` after it was published is sealed and written to
      ``spool_directory``, first in, first out, and outlives the process.

    A caller that would rather wait for room than lose an event uses ``publish_wait`` with either.
    """

    bootstrap_servers: str = BOOTSTRAP_SERVERS_DEFAULT
    node: str
    """The name of this API node, on every envelope: one word of 1 to 64 signs."""
    brokers: Brokers | None = None
    """Addresses with credentials; instead of ``bootstrap_servers`` where the broker asks for them."""
    topic_prefix: str = PREFIX_DEFAULT
    overflow: Overflow = "drop"

    envelope_events_max: int = bounds.ENVELOPE_EVENTS_MAX
    envelope_bytes_max: int = 256 * 1024
    linger_ms_min: float = 3.0
    """How long the first event of an envelope waits at most for company when there is little traffic; envelopes of all
    partitions are due at multiples of it."""
    linger_ms_max: float = 10.0
    """The same at ``linger_full_eps`` and above; between the two it grows with the rate, since few large envelopes cost
    the worker less than many small ones: an event in an envelope of 16 costs it a quarter more than in one of 200. What
    lingers longer delays each decision by as much, and saves no more."""
    linger_full_eps: float = 5_000.0
    """Events per second and partition."""

    buffer_events_max: int = 100_000
    """Events held in memory: waiting, or sent and not yet acknowledged."""
    buffer_bytes_max: int = 64 * 1024 * 1024

    spool_directory: Path | None = None
    """Local disk, shared by the processes of one host; each keeps a folder of its own in it, locked."""
    spool_after_ms: int = 1_000
    """The age at which an event goes to disk: kill -9 loses what is younger, and nothing else."""
    spool_bytes_max: int = 1024 * 1024 * 1024
    """Per process, with what it took over from dead ones."""
    spool_fsync_ms: int = 1_000
    """How often written envelopes are forced to the device: a power cut loses at most what is younger. A killed process
    loses nothing that was written, with or without it."""
    spool_takeover_ms: int = 30_000
    """How often the folders of dead processes are looked for; always at the start."""

    request_timeout_ms: int = 10_000
    retry_ms_min: int = 50
    retry_ms_max: int = 5_000

    def __post_init__(self) -> None:
        if _NODE.match(self.node) is None:
            raise ValueError("node must be one word of 1 to 64 letters, digits and ._:/@-")
        if self.overflow not in ("drop", "spool"):
            raise ValueError("overflow must be 'drop' or 'spool'")
        if self.overflow == "spool" and self.spool_directory is None:
            raise ValueError("overflow='spool' needs spool_directory")
        largest = bounds.ENVELOPE_BYTES_MAX
        smallest = bounds.EVENT_BYTES_MAX + ENVELOPE_HEAD_BYTES
        for name, low, high in (
            ("envelope_events_max", 1, bounds.ENVELOPE_EVENTS_MAX),
            ("envelope_bytes_max", smallest, largest),
            ("linger_ms_min", 0, self.linger_ms_max),
            ("linger_ms_max", 0, 10_000),
            ("linger_full_eps", 1, 1e9),
            ("buffer_events_max", 1, 10**8),
            ("buffer_bytes_max", smallest, 2**40),
            ("spool_after_ms", 10, 60_000),
            ("spool_bytes_max", 2 * largest, 2**50),
            ("spool_fsync_ms", 10, 3_600_000),
            ("spool_takeover_ms", 10, 86_400_000),
            ("request_timeout_ms", 100, 600_000),
            ("retry_ms_min", 1, self.retry_ms_max),
            ("retry_ms_max", 1, 600_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, but must lie from {low} to {high}")

    @property
    def topic(self) -> str:
        """The usage topic's full name."""
        return self.topic_prefix + USAGE.name
