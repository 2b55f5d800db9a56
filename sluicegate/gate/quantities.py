"""What an organization may use of a provider in a minute (web searches, tokens), as this process alone sees it.

A bucket as in ``limiter``, of a quantity instead of requests: how much a request uses is often known only when it ends,
so it takes what was said of it beforehand and is corrected afterwards. What passes the capacity is debt.
"""

from collections import OrderedDict
from typing import NamedTuple

from .limiter import MINUTE_MS


class Provider(NamedTuple):
    """The operation of an organization that is limited."""

    organization_id: str
    operation: str


class ProviderBuckets:
    """A bucket a minute by organization and operation, in bounded memory: above ``buckets_max`` the one used longest
    ago is forgotten, counted in ``forgotten``."""

    def __init__(self, buckets_max: int = 100_000) -> None:
        self.forgotten = 0
        self._buckets_max = buckets_max
        self._full_at: OrderedDict[Provider, tuple[int, int]] = OrderedDict()
        """The limit, and when the bucket is full again in units of 1/limit ms."""

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_ms(self, provider: Provider, limit: int, amount: int, now_ms: int) -> int:
        """How long until ``amount`` fits, 0 for now. More than the bucket holds fits a full one, and leaves debt."""
        room = limit * MINUTE_MS - self._debt(provider, now_ms)
        missing = min(amount, limit) * MINUTE_MS - room
        return max(0, -(-missing // limit))

    def take(self, provider: Provider, limit: int, amount: int, now_ms: int) -> None:
        """Takes ``amount``, or gives back what is negative."""
        debt = max(0, self._debt(provider, now_ms) + amount * MINUTE_MS)
        self._full_at[provider] = limit, now_ms * limit + debt
        self._full_at.move_to_end(provider)
        for _ in range(2):
            oldest, (oldest_limit, full_at) = next(iter(self._full_at.items()))
            is_full = full_at <= now_ms * oldest_limit
            if oldest == provider or (not is_full and len(self._full_at) <= self._buckets_max):
                return
            self.forgotten += not is_full
            del self._full_at[oldest]

    def _debt(self, provider: Provider, now_ms: int) -> int:
        held = self._full_at.get(provider)
        return 0 if held is None else max(0, held[1] - now_ms * held[0])
