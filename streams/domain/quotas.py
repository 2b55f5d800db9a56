"""Resource quotas: how much of each resource an organization holds, from what its requests made and removed
(requirements, sections 1, 3 and 9).

A count never falls below 0: what would take it there is counted as a notice, and a full recount corrects it. API keys
are counted from the keys themselves.
"""

from typing import Final

from sluicegate_schemas.accounts import AnyCommand, QuotaRecount
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.wire_checks import RESOURCE_NAMES

from .command_record import RefusedError
from .count_verdicts import CountVerdicts
from .deadlines import Deadlines
from .notices import QUOTA
from .pacing import Paced
from .participant import Participant, PartitionContext
from .policy import EventCause, Moment
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .scopes import ScopeNames
from .tables import COUNT_MAX, QuotaRow, row_key
from .trail import Change

API_KEYS: Final = "api_keys"
_TOLD_FROM_PERCENT: Final = 80
"""From here on each change of a count is told, so that a gate can refuse a batch that would pass the quota."""


def _level(observed: int, limit: int) -> int:
    return observed + 1 if observed * 100 >= limit * _TOLD_FROM_PERCENT else 0


class Quotas(Participant):
    """Counts resources by organization, and closes creation where a quota is reached."""

    obeys = (QuotaRecount,)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rows: Final[dict[str, QuotaRow]] = {}
        self._news: Final[dict[tuple[str, str], EventCause]] = {}
        self._verdicts: Final = CountVerdicts(
            context.settings, context.policy, {f"quota_{resource}": _level for resource in RESOURCE_NAMES}
        )
        self._later: Final = Deadlines()
        self._paced: Final = Paced(context.settings, context.changed)

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("q", QuotaRow, by_names(self._restore))

    def _restore(self, organization_id: str, row: QuotaRow) -> None:
        self._rows[organization_id] = row

    def sizes(self) -> dict[str, int]:
        return {"quotas": len(self._rows)}

    def count_of(self, organization_id: str, resource: str) -> int:
        """How much of a resource the organization holds."""
        if resource == API_KEYS:
            return self.context.accounts.live_keys_of(organization_id)
        row = self._rows.get(organization_id)
        return 0 if row is None else row.counts.get(resource, 0)

    # ---- what changes the counts ----

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if not event.resource_delta or not 200 <= event.status <= 299:
            return
        organization_id = event.org_id
        counts = self._row(organization_id).counts
        for resource, delta in event.resource_delta.items():
            if resource == API_KEYS:
                continue
            count = counts.get(resource, 0) + delta
            if not 0 <= count <= COUNT_MAX:
                self.context.notices.count(QUOTA, f"{organization_id}:{resource}")
            counts[resource] = min(max(count, 0), COUNT_MAX)
            self._news[organization_id, resource] = EventCause.of(event, record, index)
        self.has_news = bool(self._news)

    def _row(self, organization_id: str) -> QuotaRow:
        row = self._rows.setdefault(organization_id, QuotaRow({}))
        self.context.changed.rows[row_key("q", organization_id)] = row
        return row

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        assert isinstance(command, QuotaRecount)
        if API_KEYS in command.counts:
            raise RefusedError("has api_keys, which are counted from the keys themselves", "counts")
        organization_id = command.organization_id
        before = {str(name): self.count_of(organization_id, name) for name in sorted(command.counts)}
        row = self._row(organization_id)
        row.counts.update({str(name): count for name, count in command.counts.items()})
        for resource in before:
            self._judge(moment, organization_id, resource, None)
        self._set_next()
        return Change(organization_id, before, {name: row.counts[name] for name in before})

    # ---- what follows ----

    def judge(self, moment: Moment) -> None:
        for (organization_id, resource), cause in self._news.items():
            self._judge(moment, organization_id, resource, cause)
        self._news.clear()
        self._set_next()

    def wake(self, moment: Moment) -> None:
        for name in self._later.take(moment.now_ms):
            organization_id, resource = name.split("|")
            self._judge(moment, organization_id, resource, None)
        for organization_id in self._paced.take():
            self._judge_all(moment, organization_id)
        self._set_next()

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        if organization_id is None:
            self._paced.add(self.context.accounts.organizations)
            self.wake(moment)
        else:
            self._judge_all(moment, organization_id)
            self._set_next()

    def resume(self, moment: Moment) -> None:
        self._verdicts.resume(moment)
        self._paced.add(sorted(self._rows.keys() | self._blocked()))
        self._set_next()

    def _blocked(self) -> set[str]:
        return {row.scope_id for row in self.context.policy if row.limit_name.startswith("quota_")}

    def _judge_all(self, moment: Moment, organization_id: str) -> None:
        scope = ScopeNames("organization", organization_id)
        for resource in sorted(RESOURCE_NAMES):
            is_told = self.context.policy.standing(scope, f"quota_{resource}") is not None
            if is_told or self.count_of(organization_id, resource):
                self._judge(moment, organization_id, resource, None)

    def _judge(self, moment: Moment, organization_id: str, resource: str, cause: EventCause | None) -> None:
        plans, limit_name = self.context.plans, f"quota_{resource}"
        limit = plans.quota_of(organization_id, resource)
        if plans.is_exempt(organization_id, None, limit_name):
            limit = None
        due_ms = self._verdicts.say(
            moment, ScopeNames("organization", organization_id), limit_name, limit,
            self.count_of(organization_id, resource),
            self.context.accounts.organizations[organization_id].tier, cause,
        )  # fmt: skip
        if due_ms is not None:
            self._later.set(f"{organization_id}|{resource}", due_ms)

    def _set_next(self) -> None:
        self.next_ms = min(self._later.next_ms, self._paced.next_ms)
