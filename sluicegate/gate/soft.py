"""Soft limits on money: a burst near the limit admits only as many requests as the rest can pay.

The gate knows what was used by the workers' last word on a limit (``Verdict.observed``), and what its own requests have
added since and may still add: those that run, at their worst case. Where nothing of its own is under way a request
passes all the same, even one whose worst case is more than the rest: a soft limit closes when the workers say that it
is used up. So a reservation ends with its requests, and what a gate reckons wrongly closes nothing for long. Where its
own requests have used up the rest it waits for that word, but not for ever.
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
    """What this process has under way under one limit, and what it has added since the workers' last word."""

    __slots__ = ("holds", "recent", "recent_micro", "running_micro", "settled_ms", "since_micro", "word")

    def __init__(self) -> None:
        self.holds = 0
        self.running_micro = 0
        self.recent: deque[list[int]] = deque()
        """(slot of time, micro-credits) of requests that ended lately, oldest first."""
        self.recent_micro = 0
        self.word = ""
        self.since_micro = 0
        self.settled_ms = 0

    def hear(self, word: str) -> None:
        """What was added before the workers' word is in it, but for what ended lately. Before they said anything
        ("") what was added longer ago is not reckoned: there may be grants."""
        if not word or self.word != word:
            self.word = word
            self.since_micro = 0

    def settle(self, cost_micro: int, now_ms: int) -> None:
        """A request ended at this cost."""
        slot = now_ms // _SLOT_MS
        if self.recent and self.recent[-1][0] >= slot:
            self.recent[-1][1] += cost_micro
        else:
            self.recent.append([slot, cost_micro])
        self.recent_micro += cost_micro
        self.since_micro += cost_micro
        self.settled_ms = now_ms

    def under_way_micro(self, now_ms: int, settling_ms: int) -> int:
        """What runs, and what ended so lately that the workers may not know it."""
        while self.recent and self.recent[0][0] * _SLOT_MS + settling_ms <= now_ms:
            self.recent_micro -= self.recent.popleft()[1]
        return self.running_micro + self.recent_micro

    @property
    def added_micro(self) -> int:
        """What comes on top of the workers' word, as far as this process knows."""
        return self.running_micro + max(self.recent_micro, self.since_micro)


class SoftReserve:
    """The reservations of one process. ``settling_ms``: how long a cost may take to be in the workers' word;
    ``closing_ms``: how long their word may take that a limit is used up, which this process did by itself.

    Beyond ``lines_max`` limits the one used longest ago with nothing running is forgotten, counted in ``forgotten``:
    what was added to it since the workers' word is then not known.
    """

    def __init__(self, settling_ms: int = 2_000, lines_max: int = 100_000, closing_ms: int = 30_000) -> None:
        self.forgotten = 0
        self._settling_ms = settling_ms
        self._closing_ms = closing_ms
        self._lines_max = lines_max
        self.lines: dict[str, _Line] = {}
        """What is known of limits, by record key; ``short`` says nothing of others."""

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def reserved_micro(self) -> int:
        """The worst cases of all that runs, over all limits."""
        return sum(line.running_micro for line in self.lines.values())

    def short(self, spend: Spend, now_ms: int) -> Shortfall | None:
        """See ``Reserve``."""
        for verdict in spend.verdicts:
            line = self.lines.get(verdict.record_key)
            if line is None:
                continue
            line.hear(verdict.decision_id)
            under_way_micro = line.under_way_micro(now_ms, self._settling_ms)
            left_micro = verdict.limit - verdict.observed
            is_used_up = line.since_micro >= left_micro and now_ms - line.settled_ms < self._closing_ms
            if is_used_up or (under_way_micro and line.added_micro + spend.worst_micro > left_micro):
                return Shortfall(
                    verdict.limit_name,
                    verdict.scope,
                    verdict.limit,
                    verdict.observed,
                    verdict.until_ms,
                    verdict.decision_id or None,
                    reserved_micro=line.added_micro,
                )
        return None

    def hold(self, spend: Spend, now_ms: int) -> Hold:
        """See ``Reserve``."""
        record_keys = tuple(verdict.record_key for verdict in spend.verdicts)
        for verdict, record_key in zip(spend.verdicts, record_keys, strict=True):
            line = self.lines.get(record_key)
            if line is None:
                line = self.lines[record_key] = _Line()
                line.hear(verdict.decision_id)
            line.holds += 1
            line.running_micro += spend.worst_micro
        return SoftHold(record_keys, spend.worst_micro)

    def suspend(self, hold: Hold) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, SoftHold), "one of its own"
        for record_key in hold.record_keys:
            self.lines[record_key].running_micro -= hold.worst_micro

    def resume(self, hold: Hold) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, SoftHold), "one of its own"
        for record_key in hold.record_keys:
            self.lines[record_key].running_micro += hold.worst_micro

    def settle(self, hold: Hold, cost_micro: int, now_ms: int) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, SoftHold), "one of its own"
        for record_key in hold.record_keys:
            line = self.lines[record_key]
            line.holds -= 1
            line.running_micro -= hold.worst_micro
            line.settle(cost_micro, now_ms)
        self._sweep(now_ms)

    def _sweep(self, now_ms: int) -> None:
        """Looks at the two lines longest not looked at: more than one request can add."""
        for record_key in list(islice(self.lines, 2)):
            line = self.lines.pop(record_key)
            is_idle = not line.holds and not line.under_way_micro(now_ms, self._settling_ms)
            if is_idle and (not line.since_micro or len(self.lines) >= self._lines_max):
                self.forgotten += bool(line.since_micro)
            else:
                self.lines[record_key] = line
