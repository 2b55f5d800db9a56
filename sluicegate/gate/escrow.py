"""Hard limits at the gate: a cost is admitted only out of what this node was lent (requirements, section 3; ADR 18).

Pure: told of requests, of answers and of time, it says what to ask for and what to give back. It asks for what waits,
and ahead of need for what the node spends in a few seconds, so that only the first request of a while waits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, LEASES_RETURNED_MAX, to_epoch_ms
from sluicegate_schemas.envelope import LEASE_REQUEST_VERSION, WireLeaseRequest
from sluicegate_schemas.outputs import Lease

from .leases import Asking, HeldLease, Purse, Refusal, Waiter

_ASKING_MAX: Final = 4
"""Lease requests of one limit that are on their way at a time."""
_FORGOTTEN_MS: Final = 60_000
"""Later than that an answer's lease is given back, whatever it says."""


class Covering(NamedTuple):
    """A hard limit that covers a request: its name, the text of its scope, and who pays."""

    limit_name: str
    scope: str
    account_id: str
    organization_id: str


@dataclass(frozen=True, slots=True)
class EscrowSettings:
    """``wait_ms``: how long a request waits for a lease at most. Ahead of need ``ahead_ms`` of spending are asked for,
    once less than ``low_ms`` of it is left or a lease has but a third of its time; what nobody used for ``idle_ms``
    goes back. After a refusal who needs as much is refused at once for ``refused_ms``. A lease request that is not
    answered after ``lost_ms`` is made anew. A new lease stays for ``fresh_ms`` with those who waited for it, until they
    have had their turn. Beyond ``waiters_max`` requests that wait, or ``purses_max`` limits, none
    waits."""

    wait_ms: int = 1_000
    ahead_ms: int = 5_000
    low_ms: int = 1_500
    idle_ms: int = 10_000
    refused_ms: int = 500
    lost_ms: int = 5_000
    fresh_ms: int = 100
    waiters_max: int = 1_000
    purses_max: int = 5_000


class LeaseHold(NamedTuple):
    """What one running request holds back, of each hard limit that covers it."""

    parts: tuple[tuple[Purse, HeldLease], ...]
    worst_micro: int

    @property
    def leases(self) -> Sequence[str]:
        """The ids that its usage event has to name."""
        return [lease.lease_id for _, lease in self.parts]

    @property
    def request_ms_max(self) -> int | None:
        """How long it may run; None: as long as it likes."""
        return min((lease.request_ms_max for _, lease in self.parts), default=None)

    def end_epoch_ms(self, ts_ms: int, now_ms: int) -> int:
        """When it ended, by the node's clock held to what the log's time says: not before its lease was lent, and not
        later after that than this node has waited since it asked. So no clock of a node moves a cost into a month that
        its lease was not held against."""
        for _, lease in self.parts:
            ts_ms = min(max(ts_ms, lease.lent_at_epoch_ms), lease.lent_at_epoch_ms + now_ms - lease.asked_at_ms)
        return ts_ms


class Escrow:
    """All purses of one process. ``boot_id`` is new for each; ``asks`` says what is to be sent."""

    def __init__(self, node: str, boot_id: str, settings: EscrowSettings | None = None) -> None:
        self.settings = settings or EscrowSettings()
        self.breaches_micro = 0
        """What requests cost beyond their worst case and beyond all that their lease held."""
        self._node = node
        self._boot_id = boot_id
        self._purses: dict[tuple[str, str], Purse] = {}
        self._due: dict[Purse, None] = {}
        self._is_over = False
        self._asked = 0

    def __iter__(self) -> Iterator[Purse]:
        return iter(self._purses.values())

    # ---- requests ----

    def find(self, covering: Iterable[Covering], worst_micro: int, now_ms: int) -> LeaseHold | list[Covering]:
        """The leases that pay for the worst case; else the limits of which none does. A worst case of 0 needs none; the
        leases at hand are named all the same, for a request that costs more than it was said to."""
        parts, missing = [], []
        for limit in covering:
            purse = self._purses.get(limit[:2])
            lease = None if purse is None else purse.find(worst_micro, now_ms)
            if purse is None or lease is None:
                missing.append(limit)
            else:
                parts.append((purse, lease))
        return missing if missing and worst_micro else LeaseHold(tuple(parts), worst_micro)

    def hold(self, hold: LeaseHold, now_ms: int) -> None:
        """A request begins that was found to be paid for, without a pause in between."""
        for purse, lease in hold.parts:
            purse.reserve(lease, hold.worst_micro, now_ms)

    def suspend(self, hold: LeaseHold) -> None:
        """Its leases have room for it again, until ``resume`` without a pause in between. It runs on them all the
        while, so that none goes back."""
        for _, lease in hold.parts:
            lease.reserved_micro -= hold.worst_micro

    def resume(self, hold: LeaseHold) -> None:
        """It is held back again, on the same leases."""
        for _, lease in hold.parts:
            lease.reserved_micro += hold.worst_micro

    def settle(self, hold: LeaseHold, cost_micro: int, now_ms: int) -> None:
        """It has ended, and its usage event is published."""
        for purse, lease in hold.parts:
            purse.settle(lease, hold.worst_micro, cost_micro, now_ms)
            if lease.room_micro < 0 < cost_micro - hold.worst_micro:
                self.breaches_micro += min(-lease.room_micro, cost_micro - hold.worst_micro)

    def refusal(self, limit: Covering, worst_micro: int, now_ms: int) -> Lease | None:
        """The answer that refuses ``worst_micro`` for the moment."""
        purse = self._purses.get(limit[:2])
        refusal = None if purse is None else purse.refusal
        if refusal is None or now_ms >= refusal.until_ms or worst_micro < refusal.worst_micro:
            return None
        return refusal.answer

    def wait(self, limit: Covering, worst_micro: int, now_ms: int) -> Waiter | None:
        """A request waits for a lease; None where it would be in vain: its request is overdue, or too many wait."""
        purse = self._purses.get(limit[:2])
        if purse is None:
            if len(self._purses) >= self.settings.purses_max:
                return None
            purse = Purse(limit.account_id, limit.organization_id, limit.limit_name, limit.scope, now_ms)
            self._purses[limit[:2]] = purse
        overdue_ms = now_ms - self.settings.wait_ms
        if (
            self._is_over
            or len(purse.waiters) >= self.settings.waiters_max
            or any(asking.asked_at_ms <= overdue_ms and not asking.is_lost for asking in purse.asking.values())
        ):
            return None
        waiter = Waiter(worst_micro)
        purse.waiters[waiter] = None
        purse.wish(worst_micro, now_ms)
        self._due[purse] = None
        return waiter

    def leave(self, limit: Covering, waiter: Waiter) -> None:
        """It waits no longer."""
        purse = self._purses.get(limit[:2])
        if purse is not None:
            purse.waiters.pop(waiter, None)

    # ---- the worker ----

    def learn(self, answer: Lease, now_ms: int) -> list[Waiter]:
        """An answer came. Returns the waiters whose fate it decides.

        What another process asked, or a repetition, changes nothing. A lease that comes too late goes back.
        """
        purse = self._purses.get((answer.limit_name, answer.scope.text()))
        if purse is None or not answer.request_id.startswith(f"{self._boot_id}-"):
            return []
        self._due[purse] = None
        asking = purse.asking.pop(answer.request_id, None)
        if asking is None:
            if answer.credits_micro and not purse.knows(answer.lease_id):
                purse.returns.append((answer.lease_id, 0))
            return []
        if answer.credits_micro:
            lease = HeldLease(
                answer.lease_id,
                answer.credits_micro,
                asking.asked_at_ms,
                asking.asked_at_ms + answer.ttl_ms,
                to_epoch_ms(answer.lent_at),
                answer.request_ms_max,
                now_ms + self.settings.fresh_ms,
            )
            purse.leases.append(lease)
        woken = [waiter for waiter in purse.waiters if waiter.request_id == answer.request_id]
        rooms = [lease.room_micro for lease in purse.leases if now_ms < lease.expires_at_ms]
        unserved = _serve(rooms, woken)
        if answer.credits_micro >= asking.needed_micro:
            unserved = []
            later = [waiter for waiter in purse.waiters if waiter.request_id is None]
            lacking = _serve(rooms, later)
            woken += [waiter for waiter in later if waiter not in lacking]
        if asking.needed_micro:
            purse.refusal = None
        elif not answer.credits_micro:
            purse.none_ahead_until_ms = now_ms + 2 * self.settings.refused_ms
        if unserved:
            least_micro = min(waiter.worst_micro for waiter in unserved)
            purse.refusal = Refusal(answer, least_micro, now_ms + self.settings.refused_ms)
        for waiter in woken:
            del purse.waiters[waiter]
        return woken

    def asks(self, now_ms: int) -> list[WireLeaseRequest]:
        """What is to be sent now, in order; with ``unsent`` for what could not be."""
        due, self._due = list(self._due), {}
        return [request for purse in due if (request := self._ask(purse, now_ms)) is not None]

    def tend(self, now_ms: int) -> None:
        """Time passes: closes leases, gives up on lost requests, forgets limits that nobody uses; ``asks`` says what
        follows."""
        for key, purse in list(self._purses.items()):
            self._tend(purse, now_ms)
            if purse.is_empty and now_ms - purse.used_at_ms >= self.settings.idle_ms:
                del self._purses[key]
            else:
                self._due[purse] = None

    def unsent(self, request: WireLeaseRequest) -> None:
        """A request of ``asks`` was not taken: it is made again."""
        purse = self._purses.get((request.limit_name, request.scope))
        if purse is not None:
            purse.returns = [*request.returned, *purse.returns]
            purse.asking.pop(request.request_id, None)
            for waiter in purse.waiters:
                if waiter.request_id == request.request_id:
                    waiter.request_id = None

    def give_back(self) -> None:
        """Nothing more is admitted: all leases go back, with the next ``asks`` once their requests have ended."""
        self._is_over = True
        for purse in self._purses.values():
            purse.waiters.clear()
            purse.close(list(purse.leases))
            self._due[purse] = None

    # ---- steps ----

    def _tend(self, purse: Purse, now_ms: int) -> None:
        """Closes the leases whose time is over or that nobody uses, and gives up on lost requests."""
        settings = self.settings
        is_idle = not purse.waiters and now_ms - purse.used_at_ms >= settings.idle_ms
        over = [lease for lease in purse.leases if is_idle or now_ms >= lease.expires_at_ms or lease.room_micro <= 0]
        if over:
            purse.close(over)
        for request_id, asking in list(purse.asking.items()):
            age_ms = now_ms - asking.asked_at_ms
            asking.is_lost |= age_ms >= settings.lost_ms
            if age_ms >= _FORGOTTEN_MS:
                del purse.asking[request_id]

    def _ask(self, purse: Purse, now_ms: int) -> WireLeaseRequest | None:
        on_their_way = sum(not asking.is_lost for asking in purse.asking.values())
        waiting = [waiter for waiter in purse.waiters if waiter.request_id is None]
        if on_their_way >= _ASKING_MAX:
            waiting = []
        if waiting:
            purse.close([lease for lease in purse.leases if not lease.running and now_ms >= lease.fresh_until_ms])
        needed_micro = sum(waiter.worst_micro for waiter in waiting)
        ahead_micro = 0 if on_their_way or self._is_over else self._ahead_micro(purse, now_ms)
        wanted_micro = min(needed_micro + ahead_micro, CREDITS_MICRO_MAX)
        if not wanted_micro and not purse.returns:
            return None
        returned, purse.returns = purse.returns[:LEASES_RETURNED_MAX], purse.returns[LEASES_RETURNED_MAX:]
        self._asked += 1
        request_id = f"{self._boot_id}-{self._asked}"
        needed_micro = min(needed_micro, wanted_micro)
        least_micro = min(min((waiter.worst_micro for waiter in waiting), default=purse.largest_micro), wanted_micro)
        if wanted_micro:
            purse.asking[request_id] = Asking(now_ms, needed_micro)
            for waiter in waiting:
                waiter.request_id = request_id
        return WireLeaseRequest(
            version=LEASE_REQUEST_VERSION,
            request_id=request_id,
            node=self._node,
            boot_id=self._boot_id,
            account_id=purse.account_id,
            org_id=purse.organization_id,
            limit_name=purse.limit_name,
            scope=purse.scope,
            wanted_micro=wanted_micro,
            returned=returned,
            needed_micro=needed_micro,
            least_micro=least_micro,
        )

    def _ahead_micro(self, purse: Purse, now_ms: int) -> int:
        """What to ask for ahead of need; 0 while there is enough, nobody comes, or nothing can be had."""
        settings = self.settings
        if now_ms - purse.used_at_ms >= settings.idle_ms or now_ms < purse.none_ahead_until_ms:
            return 0
        if purse.refusal is not None and now_ms < purse.refusal.until_ms:
            return 0
        ahead_micro = max(purse.largest_micro, purse.spend_micro(settings.ahead_ms))
        soon_ms = now_ms + settings.low_ms
        if (
            purse.largest_room_micro(soon_ms) >= purse.largest_micro
            and purse.room_micro(soon_ms) >= purse.spend_micro(settings.low_ms)
        ):  # fmt: skip
            return 0
        return ahead_micro


def _serve(rooms: list[int], waiters: list[Waiter]) -> list[Waiter]:
    """Takes the waiters' worst cases out of ``rooms``, in order; returns those that no room pays for."""
    unserved = []
    for waiter in waiters:
        fit = min((room for room in rooms if room >= waiter.worst_micro), default=None)
        if fit is None:
            unserved.append(waiter)
        else:
            rooms[rooms.index(fit)] -= waiter.worst_micro
    return unserved
