"""What a publisher did so far, and how it is."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStats:
    """A consistent snapshot; every figure counts events unless its name says otherwise.

    Nothing goes missing between them::

        accepted + recovered == published + buffered + in_flight + spooled + sum(lost.values())

    What was turned away at the door is in ``dropped`` and ``refused``, and was never accepted.
    """

    accepted: int
    """Taken by ``publish``."""
    recovered: int
    """Found in the spools of processes that died before they had sent them."""
    published: int
    """Acknowledged by Kafka's in-sync replicas."""
    buffered: int
    """In memory, not in an envelope yet."""
    in_flight: int
    """In an envelope in memory, not acknowledged yet."""
    spooled: int
    """On disk, not acknowledged yet."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Turned away, by reason: "buffer_full", "spool_full", "closed"."""
    refused: int
    """Turned away because no worker would accept them: a field missing, out of bounds, of the wrong type."""
    lost: dict[str, int] = field(default_factory=dict)
    """Accepted and given up, by reason: "unsent_at_close" (never sent), "unconfirmed_at_close" (sent, fate unknown),
    "spool_damaged" (unreadable on disk)."""
    retries: int
    """Sends that failed and were, or will be, done again."""
    envelopes: int
    """Envelopes acknowledged."""
    oldest_ms: float
    """Age of the oldest event in memory, 0 without one."""
    spool_bytes: int
    spool_damaged_bytes: int
    connected: bool
    """The last word from Kafka was a good one."""
    last_error: str | None
    """The last trouble, in words; it stays readable after it has passed."""
    producer_id: str
