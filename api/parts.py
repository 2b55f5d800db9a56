"""What the application is built from: real ones in a process, fakes in a test."""

from dataclasses import dataclass, field
from typing import Protocol

from sluicegate.clock import Clock, epoch_ms
from sluicegate.gate.gate import Gate, Knowledge
from sluicegate.middleware import Meter
from sluicegate.operator.system import System

from .alerts import AlertTable
from .balances import BalanceTable
from .desk import Desk
from .directory import Directory
from .history import History
from .operators import Operator
from .roster import Roster
from .shares import Shares
from .turns import Turns


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
    """``knowledge`` are keys, organizations, plans and verdicts, and ``directory`` what is whose among them;
    ``balances`` and ``alerts`` are kept fresh by ``balances_from`` and ``alerts_from``; ``history`` is ClickHouse.
    ``desk`` is Kafka for operators, and ``roster`` all organizations and keys by their ids.
    Without a ``gate`` and a ``meter`` the API's own requests are neither limited nor metered."""

    knowledge: Knowledge
    knowledge_from: Following
    directory: Directory
    balances: BalanceTable
    balances_from: Following
    alerts: AlertTable
    alerts_from: Following
    history: History
    system: System
    """Kafka, for what is read when it is asked for: the events before a decision."""
    partitions: int
    """Of the topics that are partitioned by account."""
    desk: Desk
    roster: Roster
    clickhouse_url: str = ""
    """Where ``history`` asks, as operators are told."""
    gate: Gate | None = None
    meter: Meter | None = None
    operators: tuple[Operator, ...] = ()
    clock: Clock = epoch_ms
    changing: Turns = field(default_factory=Turns)
    """Organizations of which an operator's request changes what was put last."""
    shares: Shares = field(default_factory=Shares)
    """How many requests of each organization ask of the past."""

    @property
    def ready(self) -> bool:
        """Whether all that stood in the topics at the start is known."""
        return all(one.ready for one in (self.knowledge_from, self.balances_from, self.alerts_from))

    @property
    def knowledge_stale_ms(self) -> int:
        """How long ago keys, plans and verdicts were heard of."""
        return self.knowledge_from.staleness_ms or 0
