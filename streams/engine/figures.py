"""What the engine counts of its own work, for the metrics: plain numbers, written by the event loop, read by anyone.

They outlive the owners of a partition, so a counter goes on where a partition leaves this worker and returns. Nothing
here is touched once an event: per batch, flush or output at most.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

from .machine import Tally

BOUNDS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Times:
    """How often something took how long: a histogram over ``BOUNDS_S``."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """It took so long; what two clocks make negative counts as 0."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += max(0.0, seconds)


class PartitionFigures:
    """Of one partition, over all its owners in this process."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        """By outcome; as of the last true flush, so that no owner counts what another counts again."""
        self.rejects: Counter[str] = Counter()
        """By reason, as of the last true flush."""
        self.batches = 0
        self.records = 0
        self.flushes = 0
        self.flush_rows = 0
        self.recoveries = 0
        self.recovery_s = 0.0
        """How long the last recovery took."""
        self.recovery_rows = 0
        self.void_records = 0
        self.repairs = 0
        """State rows written again because of a fenced owner's."""
        self.sink_offset: int | None = None
        """The sink's committed position in the partition of the state topic."""
        self._durable: Tally = ({}, {})
        self._in_flight: Tally | None = None
        self._owner_repairs = 0

    def recovered(self, seconds: float, rows: int, void_records: int, tally: Tally | None) -> None:
        """A new owner is ready; ``tally`` is where its machine begins to count."""
        self.recoveries += 1
        self.recovery_s = seconds
        self.recovery_rows = rows
        self.void_records += void_records
        self._durable, self._in_flight, self._owner_repairs = tally or ({}, {}), None, 0

    def flush_begins(self, rows: int, tally: Tally | None) -> None:
        """A flush of so many rows is on its way, whose machine stands at ``tally``."""
        self.flush_rows += rows
        self._in_flight = tally

    def flush_is_true(self, repairs: int) -> None:
        """The flush took effect: what it holds is counted for good. ``repairs``: of its owner, so far."""
        self.flushes += 1
        self.repairs += repairs - self._owner_repairs
        self._owner_repairs = repairs
        tally, self._in_flight = self._in_flight, None
        if tally is not None:
            _add(self.events, self._durable[0], tally[0])
            _add(self.rejects, self._durable[1], tally[1])
            self._durable = tally


def _add(total: Counter[str], before: Mapping[str, int], after: Mapping[str, int]) -> None:
    for name, count in after.items():
        total[name] += count - before.get(name, 0)


class Figures:
    """Of one engine."""

    def __init__(self) -> None:
        self.partitions: dict[int, PartitionFigures] = {}
        self.rebalances = 0
        self.rejoins = 0
        self.drops: Counter[str] = Counter()
        """Partitions given up, by cause (``actions.DropCause``)."""
        self.published: Counter[str] = Counter()
        """Outputs that the broker has, by topic without prefix."""
        self.fetch_delay = Times()
        """From the newest record's append time to its delivery, by this machine's clock, a batch."""
        self.apply_delay = Times()
        """From the delivery of a batch to its last record's being applied."""
        self.flush = Times()
        """From a flush's send to the broker's reply."""
        self.publish: defaultdict[str, Times] = defaultdict(Times)
        """From an output's being due (at once, or after its flush) to the broker's reply, by topic without prefix."""

    def of(self, partition: int) -> PartitionFigures:
        """Those of one partition."""
        return self.partitions.setdefault(partition, PartitionFigures())
