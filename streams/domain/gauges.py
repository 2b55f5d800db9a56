"""Concurrency: the requests that all nodes serve at a time, from the nodes' gauges (requirements, section 3).

A node says what it serves, per organization; what it said counts until it says otherwise, until its process is another
one, or until its time to live is over by log time: so what a crashed node held is free again. Sums are of whole numbers
that were said, never of differences, so nothing drifts.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Final, TypeVar

from sluicegate_schemas.envelope import WireGauge, WireLeaseRequest

from .count_verdicts import CountVerdicts
from .deadlines import Deadlines
from .operation_rules import OperationRules
from .outputs import RecordOrigin
from .pacing import Paced
from .participant import Participant, PartitionContext
from .policy import EventCause, Moment
from .recovery import Recovery, by_names
from .scopes import ScopeNames
from .tables import GaugeRow, row_key

CONCURRENCY: Final = "concurrency"
OPERATION_CONCURRENCY: Final = "operation_concurrency"
BANDS_PERCENT: Final = (50, 80, 90, 100)
"""Where an organization's use of its concurrency is told."""
_EXPIRED_AT_ONCE: Final = 1_000
_NameT = TypeVar("_NameT", bound=Hashable)
_Subject = tuple[str, str, str]
"""(organization, operation, subject)."""
_NO_SUBJECTS: Final[Counter[_Subject]] = Counter()


def _band(observed: int, limit: int) -> int:
    return sum(observed * 100 >= limit * band for band in BANDS_PERCENT)


def _is_full(observed: int, limit: int) -> int:
    return int(observed >= limit)


def _is_older(said: WireGauge, row: GaugeRow) -> bool:
    return said.boot_id == row.boot_id and said.sequence <= row.sequence


class Gauges(Participant):
    """Sums up what the nodes serve, and closes organizations and subjects that have as many requests as they may."""

    hears = (WireGauge,)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rows: Final[dict[str, GaugeRow]] = {}
        """By ``account|node``."""
        self._in_flight: Final[Counter[str]] = Counter()
        self._subjects_of: Final[dict[str, Counter[_Subject]]] = {}
        self._news: Final[dict[str, EventCause | None]] = {}
        self._news_of_subjects: Final[dict[_Subject, EventCause | None]] = {}
        self._rules: Final = OperationRules(context.plans)
        self._verdicts: Final = CountVerdicts(
            context.settings, context.policy, {CONCURRENCY: _band, OPERATION_CONCURRENCY: _is_full}
        )
        self._expiry: Final = Deadlines()
        self._later: Final = Deadlines()
        self._paced: Final = Paced(context.settings, context.changed)

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("v", GaugeRow, by_names(self._restore))

    def _restore(self, account_id: str, node: str, row: GaugeRow) -> None:
        self._insert(f"{account_id}|{node}", row)

    def sizes(self) -> dict[str, int]:
        return {"gauges": len(self._rows)}

    def in_flight_of(self, organization_id: str) -> int:
        """The requests of the organization that all nodes serve, as far as they said."""
        return self._in_flight[organization_id]

    def organizations(self) -> list[str]:
        """The organizations that have requests in flight."""
        return sorted(self._in_flight)

    # ---- what the nodes say ----

    def hear(self, moment: Moment, content: WireGauge | WireLeaseRequest, origin: RecordOrigin) -> None:
        assert isinstance(content, WireGauge)
        name = f"{content.account_id}|{content.node}"
        before = self._rows.get(name)
        if before is not None and _is_older(content, before) and before.until_ms > moment.now_ms:
            return  # a row whose time is over is only not dealt with yet: it must not depend on when that happens
        known = []
        for at, one in enumerate(content.organizations):
            organization = self.context.accounts.organizations.get(one.org_id)
            if organization is None or organization.account_id != content.account_id:
                detail = "is not an organization of the gauge's account"
                self.context.refuse(origin, at, "unknown_organization", f"organizations[{at}].org_id", detail)
            elif one.in_flight or one.subjects:
                known.append((one.org_id, one.in_flight, list(one.subjects)))
        if before is None and len(self._rows) >= self.context.settings.gauges_max:
            detail = f"a partition holds the gauges of {self.context.settings.gauges_max} nodes and accounts at most"
            self.context.refuse(origin, 0, "table_full", "node", detail)
            return
        cause = EventCause(
            origin.offset, 0, f"gauge:{content.node}:{content.sequence}", content.account_id, moment.now_ms,
            origin.logged_at_ms,
        )  # fmt: skip
        self._remove(name, cause)
        row = GaugeRow(content.boot_id, content.sequence, moment.now_ms + content.ttl_ms, known)
        self._insert(name, row)
        self._note(row, cause)
        self.context.changed.rows[row_key("v", name)] = row
        self.context.changed.weight += sum(len(one[2]) for one in known)

    def _insert(self, name: str, row: GaugeRow) -> None:
        self._rows[name] = row
        self._expiry.set(name, row.until_ms)
        self._add(row, 1)
        self._set_next()

    def _remove(self, name: str, cause: EventCause | None) -> None:
        row = self._rows.pop(name, None)
        if row is not None:
            self._expiry.drop(name)
            self._add(row, -1)
            self._note(row, cause)

    def _add(self, row: GaugeRow, sign: int) -> None:
        for organization_id, in_flight, subjects in row.organizations:
            _count(self._in_flight, organization_id, sign * in_flight)
            of_organization = self._subjects_of.setdefault(organization_id, Counter())
            for operation, subject, count in subjects:
                _count(of_organization, (organization_id, operation, subject), sign * count)
            if not of_organization:
                del self._subjects_of[organization_id]

    def _note(self, row: GaugeRow, cause: EventCause | None) -> None:
        for organization_id, _, subjects in row.organizations:
            self._news[organization_id] = cause
            for operation, subject, _ in subjects:
                self._news_of_subjects[organization_id, operation, subject] = cause
        self.has_news = bool(self._news)

    # ---- what follows ----

    def judge(self, moment: Moment) -> None:
        for organization_id, cause in self._news.items():
            self._judge(moment, organization_id, cause)
        for subject, cause in self._news_of_subjects.items():
            self._judge_subject(moment, subject, cause)
        self._news.clear()
        self._news_of_subjects.clear()
        self._set_next()

    def wake(self, moment: Moment) -> None:
        for name in self._expiry.take(moment.now_ms, _EXPIRED_AT_ONCE):
            self._remove(name, None)
            self.context.changed.rows[row_key("v", name)] = None
        self.has_news = False
        for organization_id in self._later.take(moment.now_ms):
            self._judge_all(moment, organization_id)
        for organization_id in self._paced.take():
            self._judge_all(moment, organization_id)
        self.judge(moment)

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        if organization_id is not None:
            self._judge_all(moment, organization_id)
        else:
            self._paced.add(sorted(self._in_flight.keys() | self._subjects_of.keys()))
            self.wake(moment)
        self._set_next()

    def resume(self, moment: Moment) -> None:
        self._verdicts.resume(moment)
        organizations = self._in_flight.keys() | self._subjects_of.keys()
        for row in self.context.policy:
            if row.limit_name == CONCURRENCY:
                organizations.add(row.scope_id)
            elif row.limit_name == OPERATION_CONCURRENCY and row.operation and row.subject:
                self._news_of_subjects[row.scope_id, row.operation, row.subject] = None
        self.has_news = bool(self._news_of_subjects)
        self._paced.add(sorted(organizations))
        self._set_next()

    def _judge_all(self, moment: Moment, organization_id: str) -> None:
        self._judge(moment, organization_id, None)
        for subject in sorted(self._subjects_of.get(organization_id, ())):
            self._judge_subject(moment, subject, None)

    def _judge(self, moment: Moment, organization_id: str, cause: EventCause | None) -> None:
        context = self.context
        limit = context.plans.concurrency_of(organization_id)
        if context.plans.is_exempt(organization_id, None, CONCURRENCY):
            limit = None
        due_ms = self._verdicts.say(
            moment, ScopeNames("organization", organization_id), CONCURRENCY, limit, self._in_flight[organization_id],
            context.accounts.organizations[organization_id].tier, cause,
        )  # fmt: skip
        if due_ms is not None:
            self._later.set(organization_id, due_ms)

    def _judge_subject(self, moment: Moment, names: _Subject, cause: EventCause | None) -> None:
        context, (organization_id, operation, subject) = self.context, names
        limit = self._rules.at_a_time().get(operation)
        if context.plans.is_exempt(organization_id, None, OPERATION_CONCURRENCY):
            limit = None
        observed = self._subjects_of.get(organization_id, _NO_SUBJECTS)[names]
        due_ms = self._verdicts.say(
            moment, ScopeNames("operation", organization_id, operation, subject), OPERATION_CONCURRENCY, limit,
            observed, context.accounts.organizations[organization_id].tier, cause,
        )  # fmt: skip
        if due_ms is not None:
            self._later.set(organization_id, due_ms)

    def _set_next(self) -> None:
        self.next_ms = min(self._expiry.next_ms, self._later.next_ms, self._paced.next_ms)


def _count(counter: Counter[_NameT], name: _NameT, amount: int) -> None:
    counter[name] += amount
    if not counter[name]:
        del counter[name]
