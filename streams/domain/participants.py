"""Who takes part in a partition, and how they are told."""

from collections.abc import Callable
from typing import Final

from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.envelope import WireGauge, WireLeaseRequest

from .alerts import Alerts
from .budgets import Budgets
from .capacity import Capacity
from .command_record import RefusedError
from .corrections import Corrections
from .entitlements_again import EntitlementsAgain
from .escrow import Escrow
from .gauges import Gauges
from .grants import Grants
from .labels import Labels
from .month_close import MonthClose
from .operation_limits import OperationLimits
from .outputs import RecordOrigin
from .overrides import Overrides
from .participant import Participant, PartitionContext
from .policy import Moment
from .pools import Pools
from .quotas import Quotas
from .recovery import Recovery
from .trail import Change

KINDS: Final[tuple[type[Participant], ...]] = (
    Grants,
    MonthClose,
    Pools,
    Capacity,
    Labels,
    Budgets,
    Corrections,
    Overrides,
    EntitlementsAgain,
    Quotas,
    Gauges,
    OperationLimits,
    Escrow,
    Alerts,
)
"""In the order in which they are told of everything."""


class Participants:
    """One of each kind, for one partition; see ``Participant`` for what the calls mean."""

    def __init__(self, context: PartitionContext) -> None:
        self.all = tuple(kind(context) for kind in KINDS)
        context.peers.update((type(one), one) for one in self.all)
        self._agenda = context.agenda
        self._crossing = self.with_own(Participant.cross)
        self._routes = context.routes
        self._obeyers = {command: one for one in self.all for command in one.obeys}
        self._hearers = [(one.hears, one) for one in self.all if one.hears]

    def with_own(self, method: Callable[..., object]) -> tuple[Participant, ...]:
        """Those that do something when ``method`` is called: nobody else need be."""
        return tuple(one for one in self.all if getattr(type(one), method.__name__) is not method)

    def add_tables(self, recovery: Recovery) -> None:
        """Makes their rows known to the recovery."""
        for one in self.all:
            one.add_tables(recovery)

    def sizes(self) -> dict[str, int]:
        """Rows by table."""
        return {table: rows for one in self.all for table, rows in one.sizes().items()}

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        """Carries a command out, and says what it changed. Raises RefusedError, then nothing changed."""
        obeyer = self._obeyers.get(type(command))
        if obeyer is None:
            raise RefusedError("is none of the commands that this worker knows", "kind", "unknown_command")
        self._routes.fold()
        return obeyer.obey(moment, command)

    def hear(self, moment: Moment, content: WireGauge | WireLeaseRequest, origin: RecordOrigin) -> None:
        """Hands on a usage record that holds no events."""
        for kinds, one in self._hearers:
            if isinstance(content, kinds):
                one.hear(moment, content, origin)

    def cross(self, now_ms: int, moment: Callable[[str], Moment], place: str) -> bool:
        """Before what a record brings is counted: whoever's boundary was reached crosses it. Returns whether any."""
        if now_ms < self._agenda.boundary_ms:
            return False
        crossed = False
        for one in self._crossing:
            if now_ms >= one.boundary_ms:
                self._routes.forget()
                one.cross(moment(f"x{place}-{now_ms}"))
                crossed = True
        self._agenda.boundary_ms = min(one.boundary_ms for one in self._crossing)
        return crossed

    def is_due(self, now_ms: int) -> bool:
        """Whether anybody has news, or anybody's time has come."""
        return self._agenda.has_news or now_ms >= self._agenda.next_ms

    def catch_up(self, now_ms: int, moment: Callable[[str], Moment], place: str) -> None:
        """After a record: whoever has news judges, whoever's time has come wakes. ``place`` names the record."""
        if not self.is_due(now_ms):
            return
        for one in self.all:
            if one.has_news:
                one.has_news = False
                one.judge(moment(f"j{place}"))
            if now_ms >= one.next_ms:
                one.wake(moment(f"w{place}-{now_ms}"))
        self._agenda.next_ms = min(one.next_ms for one in self.all)
        self._agenda.has_news = any(one.has_news for one in self.all)

    def month_began(self, moment: Moment) -> None:
        """The log time passed into another month."""
        for one in self.all:
            one.month_began(moment)

    def resume(self, moment: Moment) -> None:
        """All rows are back."""
        for one in self.all:
            one.resume(moment)
