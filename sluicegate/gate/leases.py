"""The leases of one hard limit that this node holds, and what it has asked for (requirements, section 3; ADR 18).

Pure: no I/O; times are milliseconds of a clock that never goes back, ``epoch_ms`` ones excepted.
"""

from dataclasses import dataclass, field
from math import exp
from typing import Final

from sluicegate_schemas.outputs import Lease

_RATE_MEMORY_MS: Final = 5_000.0
_LARGEST_MEMORY_MS: Final = 30_000.0


@dataclass(slots=True, eq=False)
class HeldLease:
    """What one lease still pays for. All of ``credits_micro`` is spent, reserved by running requests, or room."""

    lease_id: str
    credits_micro: int
    asked_at_ms: int
    expires_at_ms: int
    lent_at_epoch_ms: int
    request_ms_max: int
    fresh_until_ms: int
    """Until then it stays, though nobody uses it: who waited for it is about to."""
    spent_micro: int = 0
    reserved_micro: int = 0
    running: int = 0

    @property
    def room_micro(self) -> int:
        """What may still be reserved; below 0 where requests cost more than their worst case."""
        return self.credits_micro - self.spent_micro - self.reserved_micro


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for a lease."""

    worst_micro: int
    request_id: str | None = None
    """The lease request that asks for it."""


@dataclass(slots=True)
class Asking:
    """A lease request that is not answered yet; one that is lost is not waited for any more."""

    asked_at_ms: int
    needed_micro: int
    is_lost: bool = False


@dataclass(slots=True)
class Refusal:
    """The worker could not lend what was needed: for a moment, who needs as much is refused at once."""

    answer: Lease
    worst_micro: int
    until_ms: int


@dataclass(slots=True, eq=False)
class Purse:
    """One hard limit of one scope, as this node sees it."""

    account_id: str
    organization_id: str
    limit_name: str
    scope: str
    used_at_ms: int
    leases: list[HeldLease] = field(default_factory=list)
    closing: list[HeldLease] = field(default_factory=list)
    """Nothing more is admitted out of these; they go back when the last request on them has ended."""
    returns: list[tuple[str, int]] = field(default_factory=list)
    waiters: dict[Waiter, None] = field(default_factory=dict)
    asking: dict[str, Asking] = field(default_factory=dict)
    refusal: Refusal | None = None
    none_ahead_until_ms: int = 0
    """Until then nothing is asked for ahead of need: there was too little left for that."""
    _spent_micro: float = 0.0
    _largest_micro: float = 0.0
    _moved_at_ms: int = 0

    def find(self, worst_micro: int, now_ms: int) -> HeldLease | None:
        """The lease with the least room that pays for ``worst_micro``."""
        fit: HeldLease | None = None
        for lease in self.leases:
            if (
                worst_micro <= lease.room_micro
                and now_ms < lease.expires_at_ms
                and (fit is None or lease.room_micro < fit.room_micro)
            ):
                fit = lease
        return fit

    def reserve(self, lease: HeldLease, worst_micro: int, now_ms: int) -> None:
        """A request begins."""
        lease.reserved_micro += worst_micro
        lease.running += 1
        self.wish(worst_micro, now_ms)

    def wish(self, worst_micro: int, now_ms: int) -> None:
        """A request comes that may cost so much."""
        self.used_at_ms = now_ms
        self._move(now_ms)
        self._largest_micro = max(self._largest_micro, worst_micro)

    def settle(self, lease: HeldLease, worst_micro: int, cost_micro: int, now_ms: int) -> None:
        """It has ended."""
        lease.reserved_micro -= worst_micro
        lease.spent_micro += cost_micro
        lease.running -= 1
        self._move(now_ms)
        self._spent_micro += cost_micro
        if lease in self.closing:
            self._return_settled()

    def _move(self, now_ms: int) -> None:
        elapsed_ms = now_ms - self._moved_at_ms
        if elapsed_ms > 0:
            self._moved_at_ms = now_ms
            self._spent_micro *= exp(-elapsed_ms / _RATE_MEMORY_MS)
            self._largest_micro *= exp(-elapsed_ms / _LARGEST_MEMORY_MS)

    def spend_micro(self, for_ms: int) -> int:
        """What it spends in ``for_ms`` at the rate of the last seconds."""
        return int(self._spent_micro * for_ms / _RATE_MEMORY_MS)

    @property
    def largest_micro(self) -> int:
        """The largest worst case of late, rounded up."""
        return -int(-self._largest_micro // 1)

    def room_micro(self, until_ms: int) -> int:
        """What the leases that last until then still pay for, in all."""
        return sum(max(0, lease.room_micro) for lease in self.leases if lease.expires_at_ms > until_ms)

    def largest_room_micro(self, until_ms: int) -> int:
        """The largest worst case that one of them pays for."""
        return max((lease.room_micro for lease in self.leases if lease.expires_at_ms > until_ms), default=0)

    def close(self, leases: list[HeldLease]) -> None:
        """Nothing more is admitted out of these."""
        for lease in leases:
            self.leases.remove(lease)
            self.closing.append(lease)
        self._return_settled()

    def _return_settled(self) -> None:
        settled = [lease for lease in self.closing if not lease.running]
        self.returns += [(lease.lease_id, lease.spent_micro) for lease in settled]
        self.closing = [lease for lease in self.closing if lease.running]

    def knows(self, lease_id: str) -> bool:
        """Whether the lease is held, or was and is about to go back."""
        return any(lease.lease_id == lease_id for lease in (*self.leases, *self.closing)) or any(
            lease_id == returned for returned, _ in self.returns
        )

    @property
    def is_empty(self) -> bool:
        """Nothing is held, wanted or owed."""
        return not (self.leases or self.closing or self.returns or self.waiters or self.asking)
