"""What the application is built from: real ones in a process, fakes in a test."""

from dataclasses import dataclass
from typing import Protocol

from sluicegate.clock import Clock, epoch_ms
from sluicegate.gate.gate import Gate, Knowledge
from sluicegate.middleware import Meter

from .balances import BalanceTable
from .operators import Operator


class Following(Protocol):
    """Whether a table holds what its topic holds, and how long ago that was so (see ``TopicFollower``)."""

    @property
    def ready(self) -> bool:
        """Whether all that stood in the topic at the start is folded."""

    @property
    def staleness_ms(self) -> int | None:
        """Milliseconds since the broker last answered for every partition."""


@dataclass(slots=True)
class Parts:
    """``knowledge`` are keys, organizations, plans and verdicts; ``balances`` are kept fresh by ``balances_from``.
    Without a ``gate`` and a ``meter`` the API's own requests are neither limited nor metered."""

    knowledge: Knowledge
    balances: BalanceTable
    balances_from: Following
    gate: Gate | None = None
    meter: Meter | None = None
    operators: tuple[Operator, ...] = ()
    clock: Clock = epoch_ms
