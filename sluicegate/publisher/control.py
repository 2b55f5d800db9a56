"""Records beside the events, on the same way: gauges, and what a node asks and gives back (leases)."""

from dataclasses import dataclass
from typing import Final

CONTROLS_MAX: Final = 1_000
"""Control records that wait in a lane; a further one is not taken."""


@dataclass(slots=True)
class Control:
    """A record that stands behind every event of its lane that was published before it.

    It is in memory alone: a process that dies takes it along, since whoever comes next serves and holds nothing of what
    it speaks of. ``is_sent`` turns true when it is in the log.
    """

    key: bytes
    value: bytes
    after: int
    """How many events its lane had taken before it."""
    is_sent: bool = False
