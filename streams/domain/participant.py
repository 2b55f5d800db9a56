"""What takes part in a partition beside plain metering: one kind of limit or book each.

The steps of an event stay in ``meter``; a participant is told of what concerns it and keeps rows of its own. The
order of the calls is that of the log, so a replay repeats them. A participant never counts an event twice or changes
what it costs: used credits belong to ``meter`` and ``ledger`` alone.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.envelope import WireEvent, WireGauge, WireLeaseRequest
from sluicegate_schemas.outputs import RejectReason

from .accounts import Accounts
from .agenda import Agenda
from .deadlines import NEVER_MS
from .entitlements import Entitlements
from .ledger import Ledgers
from .limits import KeyBuckets
from .notices import Notices
from .outputs import Outbox, RecordOrigin
from .period import LogTime
from .plan_changes import PlanChanges
from .plans import Plans
from .policy import Moment, Policy
from .record_context import RecordContext
from .recovery import Recovery
from .route_table import RouteTable
from .routes import RateCards, Route
from .settings import DomainSettings
from .tables import ChangedRows
from .trail import Change as Change

_ParticipantT = TypeVar("_ParticipantT")


class Refuse(Protocol):
    """Rejects the part ``index`` of a usage record that holds no events."""

    def __call__(
        self,
        origin: RecordOrigin,
        index: int,
        reason: RejectReason,
        field: str | None,
        detail: str,
        organization_id: str | None = None,
        /,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class PartitionContext:
    """What participants share of their partition."""

    partition: int
    partitions: int
    settings: DomainSettings
    time: LogTime
    changed: ChangedRows
    outbox: Outbox
    accounts: Accounts
    plans: Plans
    entitlements: Entitlements
    changes: PlanChanges
    cards: RateCards
    ledgers: Ledgers
    buckets: KeyBuckets
    policy: Policy
    routes: RouteTable
    notices: Notices
    refuse: Refuse
    agenda: Agenda = field(default_factory=Agenda)
    peers: dict[type[Any], Any] = field(default_factory=dict)
    """The participants by their class, once all are made."""

    def peer(self, kind: type[_ParticipantT]) -> _ParticipantT:
        """The partition's participant of this class; not before all are made."""
        return cast(_ParticipantT, self.peers[kind])


class Participant:
    """Does nothing; each kind overrides what concerns it.

    ``next_ms`` is the log time at which ``wake`` is due; ``has_news`` says that ``judge`` is due after this record;
    ``boundary_ms`` is the log time at which ``cross`` is due, before the record that brings it is counted.
    """

    obeys: tuple[type[Any], ...] = ()
    """The commands that it carries out."""
    hears: tuple[type[Any], ...] = ()
    """The usage records besides events that are for it."""

    def __init__(self, context: PartitionContext) -> None:
        self.context: Final = context
        self._agenda: Final = context.agenda
        self._next_ms = NEVER_MS
        self._boundary_ms = NEVER_MS
        self._has_news = False

    @property
    def next_ms(self) -> int:
        """See the class."""
        return self._next_ms

    @next_ms.setter
    def next_ms(self, due_ms: int) -> None:
        self._next_ms = due_ms
        self._agenda.next_ms = min(self._agenda.next_ms, due_ms)

    @property
    def boundary_ms(self) -> int:
        """See the class."""
        return self._boundary_ms

    @boundary_ms.setter
    def boundary_ms(self, due_ms: int) -> None:
        self._boundary_ms = due_ms
        self._agenda.boundary_ms = min(self._agenda.boundary_ms, due_ms)

    @property
    def has_news(self) -> bool:
        """See the class."""
        return self._has_news

    @has_news.setter
    def has_news(self, has_news: bool) -> None:
        self._has_news = has_news
        self._agenda.has_news |= has_news

    def add_tables(self, recovery: Recovery) -> None:
        """Says which tables its rows are in, and who takes them when they are recovered."""

    def sizes(self) -> dict[str, int]:
        """Its rows by table, for the metrics; only reads lengths."""
        return {}

    def observes(self, route: Route) -> bool:
        """Whether ``counted`` is wanted for all events of the route (of its organization, key and operation)."""
        return False

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        """An event was counted. Told for observed routes, and for every event with labels, charges, a resource delta,
        a subject or leases, and every storage sample."""

    def folded(self, route: Route) -> None:
        """What a route gathered since its last fold is about to be added to its cell and ledgers."""

    def judge(self, moment: Moment) -> None:
        """The record's last event was counted, and ``has_news`` is set: decides by all that was counted."""

    def cross(self, moment: Moment) -> None:
        """The log time has reached ``boundary_ms``, and nothing of that time was counted yet: what events from here on
        are held against changes. Routes are looked up anew afterwards."""

    def wake(self, moment: Moment) -> None:
        """The log time has reached ``next_ms``."""

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        """Carries out one of ``obeys`` for a known organization of its account. Raises RefusedError, then nothing
        changed."""
        raise NotImplementedError

    def hear(self, moment: Moment, content: WireGauge | WireLeaseRequest, origin: RecordOrigin) -> None:
        """One of ``hears`` came in for an account of this partition."""

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        """An organization or a key of it was put or revoked, a boost or exemption of it began or ended, or (None)
        another catalogue version took effect."""

    def month_began(self, moment: Moment) -> None:
        """The log time passed into the month of ``moment``."""

    def resume(self, moment: Moment) -> None:
        """A new owner has all rows back: builds indexes, publishes what a reader must hear again."""
