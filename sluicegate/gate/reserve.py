"""The seam of what a request may cost: held back before it runs, settled when it ends (requirements, section 3)."""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from sluicegate_schemas.limits import LimitName

from ..follower.entries import Key, Organization, Verdict
from .asked import Asked


class Spend(NamedTuple):
    """What a request is about to cost: at most ``worst_micro`` of each of the limits on credits and budgets that cover
    it. ``verdicts`` are those that the workers have said something of."""

    key: Key
    organization: Organization
    asked: Asked
    category: str | None
    worst_micro: int
    verdicts: Sequence[Verdict]


class Shortfall(NamedTuple):
    """A limit that does not pay for the worst case, in micro-credits. ``pending`` ends when it is worth asking again (a
    lease is on its way); None: there is nothing to wait for."""

    limit_name: LimitName
    scope: str
    limit: int
    observed: int
    until_ms: int | None
    decision_id: str | None
    reserved_micro: int = 0
    pending: Awaitable[object] | None = None
    is_known: bool = True
    """Whether the limit's state is; else the answer is 503, not 403."""


class Hold(Protocol):
    """What is held back for one running request."""

    @property
    def leases(self) -> Sequence[str]:
        """The ids of the leases that its event has to name."""

    @property
    def request_ms_max(self) -> int | None:
        """How long the request may run; None: as long as it likes."""

    def ended_ms(self, ts_ms: int) -> int:
        """When the request ended (UTC epoch), which is now, by a clock that says ``ts_ms``."""


class Reserve(Protocol):
    """Holds back worst cases. A gate asks all its reserves, then holds with all of them, without a pause between."""

    def short(self, spend: Spend, now_ms: int) -> Shortfall | None:
        """Why the request cannot be paid for; None where it can. Changes nothing that another request would see."""

    def hold(self, spend: Spend, now_ms: int) -> Hold:
        """Holds back the worst case."""

    def suspend(self, hold: Hold) -> None:
        """Its worst case does not count, while the gate looks without a pause at what its request may cost instead. The
        request runs: what it was lent stays lent to it."""

    def resume(self, hold: Hold) -> None:
        """A suspended worst case counts again."""

    def settle(self, hold: Hold, cost_micro: int, now_ms: int) -> None:
        """The request has ended and its usage event is published: it cost ``cost_micro``, 0 where it failed."""
