"""Hard limits as the gate's seam of reservations: which limits cover a request, and what becomes of one that waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, cast

from sluicegate_schemas.bounds import LEASES_MAX, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.limits import LimitName
from sluicegate_schemas.outputs import Lease, Scope

from ..follower.view import View
from .card import Card
from .escrow import Covering, Escrow, LeaseHold
from .leases import Waiter
from .reserve import Hold, Shortfall, Spend

_VERSIONS_BEFORE_MS: Final = 60_000
_VERSIONS_AFTER_MS: Final = 360_000
"""Which versions of the rate card a request's cost may be of: those in force from so long before it begins to so long
after (the longest request, and a clock that is wrong by a minute)."""
_CARDS_MAX: Final = 16

MonotonicMs = Callable[[], int]


class EscrowHold(NamedTuple):
    """What a request holds back under hard limits; nothing where none covers it."""

    hold: LeaseHold
    charged_micro: int
    """What it is taken to cost at least, for the room of its leases: its worst case where the price may change while it
    runs, since the worker rates it by its end."""
    now_ms: MonotonicMs

    @property
    def leases(self) -> list[str]:
        """See ``Hold``."""
        return list(self.hold.leases)

    @property
    def request_ms_max(self) -> int | None:
        """See ``Hold``."""
        return self.hold.request_ms_max

    def ended_ms(self, ts_ms: int) -> int:
        """See ``Hold``."""
        return self.hold.end_epoch_ms(ts_ms, self.now_ms())


class EscrowReserve:
    """Admits what costs credits of a hard limit only out of leases (see ``Escrow``).

    ``view`` says which limits are hard; ``now_ms`` is a clock that never goes back. ``waits`` is called when a request
    begins to wait, so that what it waits for is asked for.
    """

    def __init__(self, view: View, escrow: Escrow, now_ms: MonotonicMs, waits: Callable[[], None]) -> None:
        self.escrow: Final = escrow
        self._view: Final = view
        self._now_ms: Final = now_ms
        self._waits: Final = waits
        self._pending: dict[Waiter, asyncio.Future[None]] = {}
        self._cards: dict[int, Card] = {}
        self._paid: tuple[Spend, EscrowHold] | None = None
        """What ``short`` found last: ``hold`` takes that, since a lease may expire from one millisecond to the next."""

    # ---- the gate ----

    def short(self, spend: Spend, now_ms: int) -> Shortfall | None:
        """See ``Reserve``. A request that is not paid for waits, in the order in which they come."""
        self._paid = None
        covering = self._covering(spend, now_ms)
        if not covering:
            self._paid = spend, EscrowHold(LeaseHold((), spend.worst_micro), 0, self._now_ms)
            return None
        if len(covering) > LEASES_MAX:
            return _unknown(covering[0], None)
        worst_micro, is_certain = self._worst_micro(spend, now_ms)
        now = self._now_ms()
        found = self.escrow.find(covering, worst_micro, now)
        if isinstance(found, LeaseHold):
            self._paid = spend, EscrowHold(found, 0 if is_certain else worst_micro, self._now_ms)
            return None
        for limit in found:
            refusal = self.escrow.refusal(limit, worst_micro, now)
            if refusal is not None:
                return _refused(refusal)
        pending = [one for limit in found if (one := self._wait(limit, worst_micro, now)) is not None]
        self._waits()
        return _unknown(found[0], asyncio.gather(*pending) if len(pending) == len(found) else None)

    def _wait(self, limit: Covering, worst_micro: int, now: int) -> asyncio.Future[None] | None:
        """Ends when the limit's worker has answered, or after a while."""
        waiter = self.escrow.wait(limit, worst_micro, now)
        if waiter is None:
            return None
        loop = asyncio.get_running_loop()
        pending: asyncio.Future[None] = loop.create_future()
        self._pending[waiter] = pending
        timer = loop.call_later(self.escrow.settings.wait_ms / 1000, self._give_up, limit, waiter)

        def over(_: asyncio.Future[None]) -> None:
            timer.cancel()
            self._give_up(limit, waiter)

        pending.add_done_callback(over)
        return pending

    def hold(self, spend: Spend, now_ms: int) -> Hold:
        """See ``Reserve``."""
        if self._paid is None or self._paid[0] is not spend:
            self.short(spend, now_ms)
        assert self._paid is not None, "short said that it is paid for, a moment ago"
        (_, hold), self._paid = self._paid, None
        self.escrow.hold(hold.hold, self._now_ms())
        return hold

    def suspend(self, hold: Hold) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, EscrowHold), "one of its own"
        self.escrow.suspend(hold.hold)

    def resume(self, hold: Hold) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, EscrowHold), "one of its own"
        self.escrow.resume(hold.hold)

    def settle(self, hold: Hold, cost_micro: int, now_ms: int) -> None:
        """See ``Reserve``."""
        assert isinstance(hold, EscrowHold), "one of its own"
        charged_micro = max(cost_micro, hold.charged_micro) if cost_micro else 0
        self.escrow.settle(hold.hold, charged_micro, self._now_ms())

    # ---- answers ----

    def learn(self, answer: Lease) -> None:
        """A worker answered: whoever waited for it asks the gate again, in order."""
        for waiter in self.escrow.learn(answer, self._now_ms()):
            pending = self._pending.pop(waiter, None)
            if pending is not None and not pending.done():
                pending.set_result(None)

    def _give_up(self, limit: Covering, waiter: Waiter) -> None:
        """Its time is over, or its request has gone."""
        self.escrow.leave(limit, waiter)
        pending = self._pending.pop(waiter, None)
        if pending is not None and not pending.done():
            pending.set_result(None)

    # ---- which limits, and how much ----

    def _covering(self, spend: Spend, now_ms: int) -> list[Covering]:
        """The hard limits that cover a request: the credits of the account that pays, and budgets."""
        key, organization = spend.key, spend.organization
        payer = organization if key.account_id == key.organization_id else self._view.organization(key.account_id)
        payer = payer or organization
        mode = payer.credits_mode
        if mode is None:
            catalogue = self._view.catalogue_at(now_ms)
            mode = "soft" if catalogue is None else catalogue.plans[payer.tier].credits_mode
        names = []
        if mode == "hard" and "credits" not in payer.exempt and "credits" not in key.exempt:
            names = [("credits", f"account:{key.account_id}")]
        exempt = key.exempt + organization.exempt
        for scope, limit_name in zip(organization.hard_budgets, organization.hard_budget_limits, strict=False):
            if limit_name not in exempt and _covers(scope, spend):
                names.append((limit_name, scope.text()))
        return [Covering(*one, key.account_id, key.organization_id) for one in names]

    def _worst_micro(self, spend: Spend, now_ms: int) -> tuple[int, bool]:
        """The most that the request costs by any version of the rate card that it may be rated by, and whether there is
        but one."""
        versions = self._view.catalogues_within(now_ms - _VERSIONS_BEFORE_MS, now_ms + _VERSIONS_AFTER_MS)
        if len(versions) <= 1:
            return spend.worst_micro, True
        charges = spend.asked.all_charges()
        cards = [self._card(catalogue) for catalogue in versions]
        costs = [sum(card.priced(one.operation).worst_micro(one) for one in charges) for card in cards]
        return max(spend.worst_micro, *costs), False

    def _card(self, catalogue: Catalogue) -> Card:
        card = self._cards.get(catalogue.version)
        if card is None or card.catalogue is not catalogue:
            if len(self._cards) >= _CARDS_MAX:
                self._cards.clear()
            card = self._cards[catalogue.version] = Card(catalogue)
        return card


def _covers(budget: Scope, spend: Spend) -> bool:
    if budget.kind == "key":
        return budget.id == spend.key.api_key_id
    if budget.kind == "label":
        return budget.label in {f"{name}={value}" for name, value in spend.asked.labels.items()}
    return True


def _refused(answer: Lease) -> Shortfall:
    return Shortfall(
        answer.limit_name,
        answer.scope.text(),
        answer.limit or 0,
        answer.used,
        None if answer.until is None else to_epoch_ms(answer.until),
        None,
        reserved_micro=answer.lent_micro,
    )


def _unknown(limit: Covering, pending: Awaitable[object] | None) -> Shortfall:
    return Shortfall(cast(LimitName, limit.limit_name), limit.scope, 0, 0, None, None, pending=pending, is_known=False)
