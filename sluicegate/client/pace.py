"""How long to wait before a call, so that the limit is used and not run into. Pure, with time given.

The headers of each response say what a bucket holds; others may call with the same key, and nobody says how many. So
each caller keeps a rate of its own for each bucket, and lets it follow one signal that all of them see: what is left.
It grows while more is left, or is going to be, than the reserve, and shrinks while less is; relative steps keep the sum
of all callers steady whatever their number, and a small absolute one lets them become alike (Chiu and Jain, 1989).
"""

from collections import OrderedDict
from collections.abc import Iterable
from math import exp
from typing import Final

from .hints import Hint

BUCKETS_MAX: Final = 64
PATHS_MAX: Final = 1_024
_FREE_FRACTION: Final = 0.75
"""Above it nobody waits: so a burst of one caller is a burst."""
_FIRST_SHARE: Final = 0.5
"""The first rate, of the bucket's own."""
_GAIN: Final = 2.0
_SLOPE_S: Final = 1.5
"""How far ahead what is left is foreseen."""
_SMOOTHING_S: Final = 0.3
_ALIKE: Final = 0.004
_RATE_MIN: Final = 0.002
"""The least rate, of the bucket's own: so a caller always comes back to see."""


class _Bucket:
    """One bucket as the headers tell of it."""

    def __init__(self, hint: Hint, now: float) -> None:
        self.own_eps = _FIRST_SHARE * hint.capacity / hint.fill_s
        self.slope_eps = 0.0
        self.next_at = now
        self._take(hint, now)

    def _take(self, hint: Hint, now: float) -> None:
        self.capacity = hint.capacity
        self.refill_eps = hint.capacity / hint.fill_s
        self.left = float(hint.remaining)
        self.told_at = now
        self.own_since = 0

    def told(self, hint: Hint, now: float, reserve: float) -> None:
        """A response says what is left."""
        elapsed = max(now - self.told_at, 1e-3)
        slope = (hint.remaining - self.left) / elapsed
        weight = 1.0 - exp(-elapsed / _SMOOTHING_S)
        self.slope_eps += weight * (slope - self.slope_eps)
        self._take(hint, now)
        foreseen = self.left + _SLOPE_S * self.slope_eps
        error = max(-1.0, min(1.0, (min(foreseen, self.capacity) / self.capacity - reserve) / max(reserve, 0.05)))
        step = min(elapsed, 1.0)
        self.own_eps *= exp(_GAIN * error * step)
        self.own_eps += _ALIKE * self.refill_eps * step
        most = self.capacity if error > 0 else self.refill_eps
        self.own_eps = max(_RATE_MIN * self.refill_eps, min(self.own_eps, most))

    def ran_out(self, now: float, wait_s: float) -> None:
        """A call was refused: half as fast, after ``wait_s``."""
        self.own_eps = max(_RATE_MIN * self.refill_eps, self.own_eps / 2)
        self.next_at = max(self.next_at, now + wait_s)

    def wait_s(self, now: float) -> float:
        """Until the next call; 0: now."""
        left = self.left - self.own_since
        if left > _FREE_FRACTION * self.capacity:
            return 0.0
        return max(0.0, self.next_at - now)

    def called(self, at: float) -> None:
        """A call is made at ``at``."""
        self.own_since += 1
        self.next_at = max(self.next_at, at) + 1.0 / self.own_eps


class Pacer:
    """The buckets of one key at one server. Times are seconds of a clock that never goes back.

    Which buckets a call takes from is learnt by its path: those that its last response told of. Above ``BUCKETS_MAX``
    and ``PATHS_MAX`` what was used longest ago is forgotten, and learnt again.
    """

    def __init__(self, reserve_percent: int = 5) -> None:
        self._reserve = reserve_percent / 100
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._names: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def _of(self, path: str) -> Iterable[_Bucket]:
        names = self._names.get(path)
        if names is None:
            return self._buckets.values()
        return [self._buckets[name] for name in names if name in self._buckets]

    def enter(self, path: str, now: float) -> float:
        """Takes a place for a call of ``path``: how many seconds it has to wait."""
        buckets = list(self._of(path))
        wait_s = max((bucket.wait_s(now) for bucket in buckets), default=0.0)
        for bucket in buckets:
            bucket.called(now + wait_s)
        return wait_s

    def told(self, path: str, hints: Iterable[Hint], now: float) -> None:
        """A response to ``path`` told of these buckets."""
        names = []
        for hint in hints:
            names.append(hint.name)
            bucket = self._buckets.get(hint.name)
            if bucket is None:
                self._buckets[hint.name] = _Bucket(hint, now)
            else:
                bucket.told(hint, now, self._reserve)
            self._buckets.move_to_end(hint.name)
        if names:
            self._names[path] = tuple(names)
            self._names.move_to_end(path)
        while len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        while len(self._names) > PATHS_MAX:
            self._names.popitem(last=False)

    def refused(self, path: str, now: float, wait_s: float) -> None:
        """The server answered 429."""
        for bucket in self._of(path):
            if bucket.left < 1:
                bucket.ran_out(now, wait_s)
