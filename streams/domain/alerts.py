"""Alerts: the catalogue's rules, looked at once a second of the log (requirements, section 5; docs/alerts.md).

An alert fires when its threshold is crossed and stands, as a row, until its rule is armed again; then it clears under
the same id. What fires is published with the flush that holds its row, so a crossing is told exactly once, whatever is
killed. Looking twice changes nothing: a new owner looks at everything anew.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Final, TypeVar
from zlib import crc32

from sluicegate_schemas.alert_rules import AlertRule
from sluicegate_schemas.envelope import WireEvent, WireGauge, WireLeaseRequest

from .alert_counts import AlertCounts
from .alert_measures import Measures
from .alert_record import cleared, fired
from .alert_rule import Reading, is_reached, is_rearmed, may_fire
from .budgets import BudgetName, Budgets
from .expenses import Expenses
from .gauges import Gauges
from .notices import MODEL, OPERATION
from .occurrences import Occurrences, Tally
from .outputs import RecordOrigin
from .participant import Participant, PartitionContext
from .period import SECOND_MS
from .policy import Moment
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .scopes import ScopeNames
from .tables import AlertRow, ExpensesRow, OccurrencesRow, row_key

CHANGES_MAX: Final = 500
"""Alerts that fire or clear in one second of the log, at most; the others follow with the next records."""
_REVIEWED_MAX: Final = 1_000
"""Standing alerts that are looked at in one second, in turn."""
_WINDOWS_EXPIRED_MAX: Final = 1_000
_COSTLIEST: Final = 5
_ItemT = TypeVar("_ItemT")


class Alerts(Participant):
    """Evaluates the rules of the catalogue version in force."""

    hears = (WireGauge,)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._occurrences: Final = Occurrences(context.changed, context.settings.alert_windows_max)
        self._counts: Final = AlertCounts(context, self._occurrences)
        self._expenses: Final = Expenses(context.changed)
        self._measures: Final = Measures(context, self._occurrences)
        self._standing: OrderedDict[tuple[str, str, str], AlertRow] = OrderedDict()
        """By rule, scope and detail, the one that was looked at longest ago first."""
        self._rules: dict[str, list[AlertRule]] = {}
        self._by_name: dict[str, AlertRule] = {}
        self._keys: dict[str, None] = {}
        """The keys that had requests since they were looked at."""
        self._members: dict[str, None] = {}
        """The organizations of pools that used anything since they were looked at."""
        self._organizations: dict[str, None] = {}
        """The organizations whose requests in flight were told since they were looked at."""
        self._room = 0

    # ---- what it hears ----

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("a", AlertRow, by_names(self._restore))
        recovery.add("x", ExpensesRow, by_names(self._expenses.restore))
        recovery.add("y", OccurrencesRow, by_names(self._occurrences.restore))

    def sizes(self) -> dict[str, int]:
        return {
            "alerts": len(self._standing),
            "alert_windows": len(self._occurrences),
            "expenses": len(self._expenses),
        }

    def observes(self, route: Route) -> bool:
        return self._counts.observes(route)

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if event.status == 403:
            self._counts.refused(event, route)

    def folded(self, route: Route) -> None:
        if route.credits_micro:
            account = route.account
            self._expenses.add(account.identifier, account.month, route.operation, route.credits_micro)
        if route.organization_id != route.account_id:
            self._members[route.organization_id] = None
        if route.buckets is not None:
            self._keys[route.api_key_id] = None
        if route.throttled and route.api_key_id:
            self._counts.throttled(route)

    def hear(self, moment: Moment, content: WireGauge | WireLeaseRequest, origin: RecordOrigin) -> None:
        assert isinstance(content, WireGauge)
        known = self.context.accounts.organizations
        self._organizations.update((one.org_id, None) for one in content.organizations if one.org_id in known)

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        context = self.context
        if organization_id is None:
            self._use_rules()
            self._look_at_all(moment)
        else:
            context.ledgers.touched[context.accounts.organizations[organization_id].account_id] = None
            self._keys.update((key, None) for key in context.accounts.keys_of(organization_id))
            self._members[organization_id] = self._organizations[organization_id] = None

    def month_began(self, moment: Moment) -> None:
        self._look_at_accounts(moment)

    def resume(self, moment: Moment) -> None:
        self._occurrences.resume()
        self._use_rules()
        self._look_at_all(moment)
        self.next_ms = (moment.now_ms // SECOND_MS + 1) * SECOND_MS

    def _use_rules(self) -> None:
        catalogue = self.context.plans.catalogue()
        rules: defaultdict[str, list[AlertRule]] = defaultdict(list)
        for rule in () if catalogue is None else catalogue.alert_rules:
            rules[rule.measure].append(rule)
        self._rules = dict(rules)
        self._by_name = {rule.name: rule for some in rules.values() for rule in some}
        self._counts.use(self._by_name.values())

    def _look_at_all(self, moment: Moment) -> None:
        self._look_at_accounts(moment)
        self._keys.update((buckets.api_key_id, None) for buckets in self.context.buckets)
        self._occurrences.fresh.update((tally, None) for tally in self._occurrences)
        self._organizations.update((one, None) for one in self.context.peer(Gauges).organizations())
        self.context.notices.look_again()
        budgets = self.context.peer(Budgets)
        budgets.touched.update((budget.name, None) for budget in budgets.all())

    def _look_at_accounts(self, moment: Moment) -> None:
        ledgers = self.context.ledgers
        of_month = (one for one in ledgers if one.kind == "account" and one.month == moment.month)
        ledgers.touched.update((ledger.identifier, None) for ledger in of_month)
        organizations = self.context.accounts.organizations
        self._members.update((name, None) for name, row in organizations.items() if row.pool is not None)

    # ---- once a second of the log ----

    def wake(self, moment: Moment) -> None:
        self.next_ms = (moment.now_ms // SECOND_MS + 1) * SECOND_MS
        if not (self._by_name or self._standing):
            return
        context = self.context
        context.routes.fold()
        self._occurrences.expire(moment.now_ms, _WINDOWS_EXPIRED_MAX)
        self._room = CHANGES_MAX
        self._review(moment)
        self._each(context.ledgers.touched, lambda one: self._look_at_credits(moment, ScopeNames("account", one)))
        self._each(self._members, lambda one: self._look_at_credits(moment, ScopeNames("organization", one)))
        self._each(self._keys, lambda one: self._look_at_key(moment, one))
        self._each(self._organizations, lambda one: self._look_at_organization(moment, one))
        self._each(self._occurrences.fresh, lambda one: self._look_at_tally(moment, one))
        self._each(context.peer(Budgets).touched, lambda one: self._look_at_budget(moment, one))
        self._each(context.notices.fresh, lambda one: self._look_at_notice(moment, *one))
        if self._room <= 0:
            self.next_ms = moment.now_ms

    def _each(self, waiting: dict[_ItemT, None], look: Callable[[_ItemT], None]) -> None:
        """Looks at what waits, as far as there is room for what comes of it."""
        for item in list(waiting):
            if self._room <= 0:
                return
            look(item)
            del waiting[item]

    def _look_at_credits(self, moment: Moment, scope: ScopeNames) -> None:
        rules = (*self._rules.get("credits_used_percent", ()), *self._rules.get("credits_left_percent", ()))
        self._look(moment, rules, scope)

    def _look_at_key(self, moment: Moment, api_key_id: str) -> None:
        self._look(moment, self._rules.get("minute_utilization_percent", ()), ScopeNames("key", api_key_id))

    def _look_at_organization(self, moment: Moment, organization_id: str) -> None:
        rules = self._rules.get("concurrency_percent", ())
        self._look(moment, rules, ScopeNames("organization", organization_id))

    def _look_at_tally(self, moment: Moment, tally: Tally) -> None:
        self._look(moment, self._rules.get(tally.measure, ()), ScopeNames(*tally.scope.split(":")))

    def _look_at_notice(self, moment: Moment, kind: str, name: str) -> None:
        organization_id = self.context.notices.user(kind, name)
        operation, _, model = name.partition(":")
        if organization_id and kind in (OPERATION, MODEL):
            scope = ScopeNames("operation", organization_id, operation)
            self._look(moment, self._rules.get("unrated", ()), scope, f"model:{model}" if kind == MODEL else "")

    def _look_at_budget(self, moment: Moment, name: BudgetName) -> None:
        """Each threshold is the budget's own; the rule that begins nearest below it speaks for it."""
        budget = self.context.peer(Budgets).figures(name)
        for threshold in () if budget is None else sorted(set(budget.thresholds_percent)):
            below = [rule for rule in self._rules.get("budget_percent", ()) if rule.threshold <= threshold]
            speaking = sorted(below, key=lambda rule: rule.threshold)[-1:]
            self._look(moment, speaking, name.scope, f"{name.period}:{threshold}", threshold)

    def _look(
        self,
        moment: Moment,
        rules: Iterable[AlertRule],
        scope: ScopeNames,
        detail: str = "",
        threshold: int | None = None,
    ) -> None:
        """Fires the rules whose threshold (``threshold``, where it is not the rule's) is reached, unless their alerts
        stand."""
        for rule in rules:
            reading = self._measures.read(rule, scope, detail, moment)
            at = rule.threshold if threshold is None else threshold
            if reading is None or not is_reached(rule, at, reading):
                continue
            key = rule.name, scope.text(), detail
            row = self._standing.get(key)
            if row is not None and row.reset_ms != reading.reset_ms:
                self._clear(moment, key, row, rule, reading)
                row = None
            if row is None and may_fire(rule, reading, moment.now_ms):
                self._fire(moment, key, rule, at, scope, reading)

    def _review(self, moment: Moment) -> None:
        """Clears the standing alerts whose rules are armed again, or are no more."""
        for _ in range(min(_REVIEWED_MAX, len(self._standing))):
            if self._room <= 0:
                return
            key, row = next(iter(self._standing.items()))
            self._standing.move_to_end(key)
            rule, scope = self._by_name.get(key[0]), ScopeNames(*row.scope)
            if rule is None or rule.measure != row.measure:
                self._clear(moment, key, row, None, None)
                continue
            reading = self._measures.read(rule, scope, key[2], moment)
            if reading is None or reading.reset_ms != row.reset_ms or is_rearmed(rule, row.threshold, reading):
                self._clear(moment, key, row, rule, reading)

    # ---- what comes of it ----

    def _fire(
        self,
        moment: Moment,
        key: tuple[str, str, str],
        rule: AlertRule,
        threshold: int,
        scope: ScopeNames,
        reading: Reading,
    ) -> None:
        accounts = self.context.accounts
        organization_id = accounts.keys[scope.id].organization_id if scope.kind == "key" else scope.id
        account_id = accounts.organizations[organization_id].account_id
        row = AlertRow(
            alert_id=_alert_id(moment, key, rule),
            measure=rule.measure,
            severity=rule.severity,
            account_id=account_id,
            organization_id=None if scope.kind == "account" else organization_id,
            scope=scope,
            threshold=threshold,
            limit=reading.limit,
            reset_ms=reading.reset_ms,
            fired_at_ms=moment.now_ms,
        )
        self._standing[key] = row
        self.context.changed.rows[row_key("a", *key)] = row
        costliest = self._expenses.costliest(account_id, moment.month, _COSTLIEST)
        self.context.outbox.alert(fired(moment, row, rule, key[2], reading, costliest))
        self._room -= 1

    def _clear(
        self,
        moment: Moment,
        key: tuple[str, str, str],
        row: AlertRow,
        rule: AlertRule | None,
        reading: Reading | None,
    ) -> None:
        del self._standing[key]
        self.context.changed.rows[row_key("a", *key)] = None
        self.context.outbox.alert(cleared(moment, row, key[0], rule, key[2], reading))
        self._room -= 1

    def _restore(self, rule: str, scope: str, detail: str, row: AlertRow) -> None:
        self._standing[rule, scope, detail] = row


def _alert_id(moment: Moment, key: tuple[str, str, str], rule: AlertRule) -> str:
    """Names the crossing by the record at which it was seen. What the rate card lacks is alerted once a catalogue
    version, so its name is the same wherever it is seen."""
    rule_name, scope, detail = key
    if rule.measure == "unrated":
        name, place = f"{scope.rpartition(':')[2]}:{detail}", f"v{moment.version}"
    else:
        name, place = f"{scope.partition(':')[2]}:{detail}", moment.word
    name = name.removesuffix(":")
    if len(name) > 40:
        name = f"{name[:31]}~{crc32(name.encode()):08x}"
    return f"{rule_name}/{name}/{place}"
