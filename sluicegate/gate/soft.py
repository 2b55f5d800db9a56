"""Soft limits on money: a burst near the limit admits only as many requests as the rest can pay.

The gate knows what was used by the workers' last word on a limit (``Verdict.observed``), and what its own requests may
still add: those that run, at their worst case, and those that ended so lately that the last word may not know them.
Where nothing of its own is under way a request passes though its worst case is more than the rest: a soft limit closes
when it is used up, and no sooner; so no reservation outlives its requests.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from .reserve import Hold, Shortfall, Spend

_SLOT_MS: Final = 100


class SoftHold(NamedTuple):
    """The record keys of the limits that hold ``worst_micro`` back."""

    record_keys: tuple[str, ...]
    worst_micro: int

    @property
    def leases(self) -> Sequence[str]:
        """None: a soft limit lends nothing."""
        return ()

    @property
    def request_ms_max(self) -> int | None:
        """As long as it likes."""
        return None

    def ended_ms(self, ts_ms: int) -> int:
        """As the clock says."""
        return ts_ms


class _Line:
    """What this process has under way under one limit."""

    __slots__ = ("holds", "running_micro", "settled", "settled_micro")

    def __init__(self) -> None:
        self.holds = 0
        self.running_micro = 0
        self.settled_micro = 0
        self.settled: deque[list[int]] = deque()
        """(slot of time, micro-credits) of requests that ended lately, oldest first."""

    def settle(self, cost_micro: int, now_ms: int) -> None:
        slot = now_ms // _SLOT_MS
        if self.settled and self.settled[-1][0] >= slot:
            self.settled[-1][1] += cost_micro
        else:
            self.settled.append([slot, cost_micro])
        self.settled_micro += cost_micro

    def under_way_micro(self, now_ms: int, settling_ms: int) -> int:
        while self.settled and self.settled[0][0] * _SLOT_MS + settling_ms <= now_ms:
            self.settled_micro -= self.settled.popleft()[1]
        return self.running_micro + self.settled_micro


class SoftReserve:
    """The reservations of one process. ``settling_ms``: how long a cost may take to be in the workers' word.

    It holds a line for each limit with requests under way; the lines of ended ones go as others are looked at.
    """

    def __init__(self, settling_ms: int = 2_000) -> None:
        self._settling_ms = settling_ms
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def reserved_micro(self) -> int:
        """The worst cases of all that runs, over all limits."""
        return sum(line.running_micro for line in self._lines.values())

    def short(self, spend: Spend, now_ms: int) -> Shortfall | None:
        """See ``Reserve``."""
        for verdict in spend.verdicts:
            line = self._lines.get(verdict.record_key)
            if line is None:
                continue
            under_way_micro = line.under_way_micro(now_ms, self._settling_ms)
            if under_way_micro and verdict.observed + under_way_micro + spend.worst_micro > verdict.limit:
                return Shortfall(
                    verdict.limit_name,
                    verdict.scope,
                    verdict.limit,
                    verdict.observed,
                    verdict.until_ms,
                    verdict.decision_id,
                    reserved_micro=under_way_micro,
                )
        return None

    def hold(self, spend: Spend, now_ms: int) -> Hold:
        """See ``Reserve``."""
        record_keys = tuple(verdict.record_key for verdict in spend.verdicts)
        for record_key in record_keys:
            line = self._lines.get(record_key)
            if line is None:
                line = self._lines[record_key] = _Line()
            line.holds += 1
            line.running_micro += spend.worst_micro
        return SoftHold(record_keys, spend.worst_micro)

    def settle(self, hold: Hold, cost_micro: int, now_ms: int) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, SoftHold), "one of its own"
        for record_key in hold.record_keys:
            line = self._lines[record_key]
            line.holds -= 1
            line.running_micro -= hold.worst_micro
            line.settle(cost_micro, now_ms)
        self._sweep(now_ms)

    def _sweep(self, now_ms: int) -> None:
        """Drops up to two lines with nothing under way: more than one request can add."""
        for record_key in list(islice(self._lines, 2)):
            line = self._lines.pop(record_key)
            if line.holds or line.under_way_micro(now_ms, self._settling_ms):
                self._lines[record_key] = line
