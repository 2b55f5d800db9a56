"""The time that leases live by: it goes on only while the log does.

A lease may be freed only when all that was used of it is in the log. Where the log stood still (the broker was away,
the partition had no owner and no traffic), or its clock was set forward, that time did nothing for a node whose events
wait. So lease time follows the log's time in steps of at most ``STEP_MS_MAX``: never faster than the log, and through a
silence hardly at all.
"""

from typing import Final

from .tables import ChangedRows, LeaseTimeRow, row_key

BEAT_MS: Final = 1_000
"""How often it is brought up to date while anything is lent."""
STEP_MS_MAX: Final = 10_000
"""The longest silence of the log that counts in full: twice the ticks of an idle partition."""
_KEY: Final = row_key("et", "leases")


class LeaseTime:
    """A partition's lease time; its row also holds the figures of breaches."""

    def __init__(self, changed: ChangedRows) -> None:
        self._changed = changed.rows
        self.row = LeaseTimeRow()

    @property
    def now_ms(self) -> int:
        """Lease time, in milliseconds since nothing in particular."""
        return self.row.now_ms

    @property
    def next_beat_ms(self) -> int:
        """The log time at which it is to be brought up to date."""
        return self.row.log_time_ms + BEAT_MS

    def advance(self, log_time_ms: int) -> None:
        """The log has come to ``log_time_ms``."""
        row = self.row
        if log_time_ms > row.log_time_ms:
            row.now_ms += min(log_time_ms - row.log_time_ms, STEP_MS_MAX)
            row.log_time_ms = log_time_ms
            self.mark()

    def mark(self) -> None:
        """Something in the row changed."""
        self._changed[_KEY] = self.row

    def restore(self, name: str, row: LeaseTimeRow) -> None:
        """Takes in the recovered row."""
        self.row = row
