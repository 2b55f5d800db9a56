"""How often a partition flushes, looks and asks, and how much it holds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How often and how much. Times are in seconds."""

    flush_interval_s: float = 0.2
    rows_max: int = 10_000
    """Changed rows that make a flush early; the machine stops at about as many."""
    outbox_bytes_max: int = 2_000_000
    """Durable outputs that make a flush early and hold the input up."""
    unacknowledged_max: int = 20_000
    """Outputs sent and not acknowledged that hold the input up."""
    batch_bytes_max: int = 15_000_000
    """The largest record batch that the broker takes, less a margin."""
    quiet_check_s: float = 1.0
    tick_interval_s: float = 5.0
    accounts_refresh_s: float = 0.05
    catalogue_age_max_s: float = 5.0
