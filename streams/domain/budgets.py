"""Budgets: credits a day or a month for an organization, or a key or label of it (requirements, section 1).

A budget counts what events cost in its window, days and months of UTC by the events' own time; what comes late for a
window that is over changes nothing. A month's budget that is put later counts what its ledger already has, a day's
counts from when it is put.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from sluicegate_schemas.accounts import AnyCommand, BudgetPut, BudgetRemove
from sluicegate_schemas.envelope import WireEvent

from .command_record import RefusedError
from .deadlines import NEVER_MS
from .labels import LABEL, label_of
from .participant import Change, Participant, PartitionContext
from .period import DAY_MS, month_index, month_start_ms
from .policy import EventCause, Moment, next_band_micro
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .scopes import ScopeNames
from .tables import BudgetRow, row_key

_LIMIT_NAMES: Final = {"day": "budget_day", "month": "budget_month"}


class BudgetName(NamedTuple):
    """Which budget: ``kind`` is organization, key or label, ``target`` the key or ``name=value``."""

    organization_id: str
    period: str
    kind: str
    target: str

    @property
    def scope(self) -> ScopeNames:
        """What its decisions are about."""
        if self.kind == "key":
            return ScopeNames("key", self.target)
        return ScopeNames(self.kind, self.organization_id, label=self.target or None)

    @property
    def limit_name(self) -> str:
        """The limit that its decisions name."""
        return _LIMIT_NAMES[self.period]


class BudgetFigures(NamedTuple):
    """How a budget stands: micro-credits used and allowed until ``until_ms``, when its window ends."""

    name: BudgetName
    used_micro: int
    limit_micro: int
    until_ms: int
    thresholds_percent: tuple[int, ...]

    @property
    def scope(self) -> ScopeNames:
        """What it is about."""
        return self.name.scope

    @property
    def limit_name(self) -> str:
        """``budget_day`` or ``budget_month``."""
        return self.name.limit_name


class Budgets(Participant):
    """The budgets of all organizations of the partition."""

    obeys = (BudgetPut, BudgetRemove)

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rows: dict[BudgetName, BudgetRow] = {}
        self._of: dict[str, dict[tuple[str, str], list[BudgetName]]] = {}
        """By organization, then by (kind, target)."""
        self._reached: dict[BudgetName, EventCause | None] = {}
        self._ahead: dict[BudgetName, None] = {}
        """Those whose next window is used up already."""
        self.touched: dict[BudgetName, None] = {}
        """The budgets that something was used of; whoever looks at them takes them out."""
        context.entitlements.hard_budgets_of = self._hard_of

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("u", BudgetRow, by_names(self._restore))

    def sizes(self) -> dict[str, int]:
        return {"budgets": len(self._rows)}

    # ---- commands ----

    def obey(self, moment: Moment, command: AnyCommand) -> Change:
        assert isinstance(command, BudgetPut | BudgetRemove)
        name = _name(command)
        before = self._rows.get(name)
        shown = None if before is None else _shown(name, before)
        if isinstance(command, BudgetPut):
            row = self._put(moment, name, command, before)
            change = Change(_subject(name), shown, _shown(name, row))
            self._judge_now(moment, name, None, is_new=True)
        elif before is None:
            raise RefusedError("is no budget that there is", "period")
        else:
            self._remove(name)
            change = Change(_subject(name), shown, None)
            self._allow(moment, name, before)
        self.context.entitlements.organization(name.organization_id)
        return change

    def _put(self, moment: Moment, name: BudgetName, command: BudgetPut, before: BudgetRow | None) -> BudgetRow:
        most = self.context.settings.organization_budgets_max
        if before is None and sum(map(len, self._of.get(name.organization_id, {}).values())) >= most:
            raise RefusedError(f"an organization has {most} budgets at most")
        self._roll(name, before)
        row = BudgetRow(
            command.credits_micro,
            command.blocks,
            command.mode,
            list(command.thresholds_percent),
            self._window(name.period),
            self._used_before(moment, name) if before is None else before.used_micro,
            0 if before is None else before.ahead_micro,
        )
        if before is None:
            self._insert(name, row)
        self._rows[name] = row
        self._changed(name)
        if row.ahead_micro >= row.credits_micro:
            self._await(name)
        else:
            self._ahead.pop(name, None)
        return row

    def _used_before(self, moment: Moment, name: BudgetName) -> int:
        """What the month had used of it before it was put."""
        if name.period == "day":
            return 0
        identifier = {
            "organization": name.organization_id,
            "key": name.target,
            "label": f"{name.organization_id}:{name.target}",
        }[name.kind]
        ledger = self.context.ledgers.get(LABEL if name.kind == "label" else name.kind, identifier, moment.month)
        return 0 if ledger is None else ledger.used_micro

    # ---- counting ----

    def observes(self, route: Route) -> bool:
        return route.organization_id in self._of

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if not cost_micro or route.organization_id not in self._of:
            return
        cause = None
        for name in self._concerned(route.organization_id, event.api_key_id, event.labels):
            if self._spend(name, event.ts_ms, cost_micro) and self._reached.get(name) is None:
                if cause is None:
                    event_id = event.id if event.id is not None else record.name(index)
                    cause = EventCause(record.offset, index, event_id, event.org_id, event.ts_ms, record.logged_at_ms)
                self._reached[name] = cause
                self.has_news = True

    def charge(self, moment: Moment, organization_id: str, api_key_id: str | None, cost_micro: int) -> None:
        """An operator charged so much now."""
        for name in list(self._concerned(organization_id, api_key_id, None)):
            if self._spend(name, moment.now_ms, cost_micro):
                self._judge_now(moment, name, None)

    def _concerned(
        self, organization_id: str, api_key_id: str | None, labels: dict[str, str] | None
    ) -> Iterator[BudgetName]:
        found = self._of.get(organization_id, {})
        yield from found.get(("organization", ""), ())
        if api_key_id is not None:
            yield from found.get(("key", api_key_id), ())
        for name, value in (labels or {}).items():
            yield from found.get(("label", label_of(name, value)), ())

    def _spend(self, name: BudgetName, time_ms: int, cost_micro: int) -> bool:
        """Counts a cost in the window that it falls into; returns whether gates have to hear of it."""
        row = self._rows[name]
        self._roll(name, row)
        before_micro = row.used_micro
        window = time_ms // DAY_MS if name.period == "day" else month_index(time_ms)
        if window == row.window:
            row.used_micro += cost_micro
        elif window == row.window + 1:
            row.ahead_micro += cost_micro
            if row.ahead_micro >= row.credits_micro:
                self._await(name)
        else:
            return False
        self._changed(name)
        return row.used_micro >= next_band_micro(before_micro, row.credits_micro)

    def _window(self, period: str) -> int:
        time = self.context.time
        return time.now_ms // DAY_MS if period == "day" else time.month

    def _roll(self, name: BudgetName, row: BudgetRow | None) -> None:
        """Begins the current window, with what came ahead of it: that is said, whatever began the window."""
        if row is not None and row.window != (window := self._window(name.period)):
            row.used_micro = row.ahead_micro if window == row.window + 1 else 0
            row.window, row.ahead_micro = window, 0
            self._changed(name)
            self._ahead.pop(name, None)
            if row.used_micro:
                self._reached.setdefault(name, None)
                self.has_news = True

    def _changed(self, name: BudgetName) -> None:
        self.context.changed.rows[row_key("u", *name)] = self._rows[name]
        self.touched[name] = None

    def _await(self, name: BudgetName) -> None:
        """What came ahead uses up the next window: that is to be said when it begins, not with its first cost."""
        self._ahead[name] = None
        self.next_ms = min(self.next_ms, self._end_ms(name))

    # ---- verdicts ----

    def wake(self, moment: Moment) -> None:
        """Windows began that were used up before: so many are said with one record."""
        begun = [name for name in self._ahead if self._end_ms(name) <= moment.now_ms]
        for name in begun[: self.context.settings.accounts_a_wake]:
            self._roll(name, self._rows[name])
        self.judge(moment)
        self.next_ms = min((self._end_ms(name) for name in self._ahead), default=NEVER_MS)

    def _end_ms(self, name: BudgetName) -> int:
        """When the window ends that the budget's row is about."""
        window = self._rows[name].window + 1
        return window * DAY_MS if name.period == "day" else month_start_ms(window)

    def judge(self, moment: Moment) -> None:
        reached, self._reached = self._reached, {}
        for name, cause in reached.items():
            self._judge_now(moment, name, cause)

    def _judge_now(self, moment: Moment, name: BudgetName, cause: EventCause | None, *, is_new: bool = False) -> None:
        row, until_ms = self._rows[name], self._until_ms(name)
        policy, scope = self.context.policy, name.scope
        standing = policy.standing(scope, name.limit_name)
        if row.blocks and row.used_micro >= row.credits_micro:
            if standing is None or standing.until_ms != until_ms or standing.verdict != "block" or is_new:
                limits = row.credits_micro, row.used_micro
                policy.decide(moment, scope, "block", name.limit_name, *limits, until_ms, self._tier(name), cause)
        elif row.blocks:
            self._allow(moment, name, row, until_ms, cause)
        elif is_new:
            self._allow(moment, name, row)

    def _allow(
        self,
        moment: Moment,
        name: BudgetName,
        row: BudgetRow,
        until_ms: int | None = None,
        cause: EventCause | None = None,
    ) -> None:
        """Said even where no block stands: a former owner may have published one that its flush did not keep.

        ``until_ms``: how much is used of what there is until then; None: nothing is limited.
        """
        policy, tier, limits = self.context.policy, self._tier(name), (row.credits_micro, row.used_micro)
        policy.decide(moment, name.scope, "allow", name.limit_name, *limits, until_ms, tier, cause)

    def _tier(self, name: BudgetName) -> str:
        return self.context.accounts.organizations[name.organization_id].tier

    def _until_ms(self, name: BudgetName) -> int:
        if name.period == "day":
            return (self.context.time.now_ms // DAY_MS + 1) * DAY_MS
        return month_start_ms(self.context.time.month + 1)

    # ---- what others ask ----

    def figures(self, name: BudgetName) -> BudgetFigures | None:
        """How the budget stands at the log time; None where there is none."""
        row = self._rows.get(name)
        if row is None:
            return None
        window, used = self._window(name.period), row.used_micro
        if window != row.window:
            used = row.ahead_micro if window == row.window + 1 else 0
        return BudgetFigures(name, used, row.credits_micro, self._until_ms(name), tuple(row.thresholds_percent))

    def all(self) -> Iterator[BudgetFigures]:
        """How each budget stands at the log time."""
        for name in self._rows:
            figures = self.figures(name)
            assert figures is not None
            yield figures

    def of(self, scope: ScopeNames, limit_name: str) -> BudgetFigures | None:
        """How the budget of this scope and limit stands; None where there is none."""
        period = limit_name.removeprefix("budget_")
        if scope.kind == "key":
            key = self.context.accounts.keys.get(scope.id)
            return None if key is None else self.figures(BudgetName(key.organization_id, period, "key", scope.id))
        return self.figures(BudgetName(scope.id, period, scope.kind, scope.label or ""))

    def standing(self, scope: ScopeNames, limit_name: str, window: int) -> tuple[int, int] | None:
        """(limit, used) of the budget in the current window (a day or month by index) or the next; None where there is
        none."""
        figures = self.of(scope, limit_name)
        if figures is None:
            return None
        row = self._rows[figures.name]
        if window == self._window(figures.name.period):
            return row.credits_micro, figures.used_micro
        return row.credits_micro, row.ahead_micro if window == row.window + 1 else 0

    def _hard_of(self, organization_id: str) -> list[tuple[ScopeNames, str]]:
        """The budgets that are held hard: scope and limit."""
        names = sorted(name for names in self._of.get(organization_id, {}).values() for name in names)
        rows = ((name, self._rows[name]) for name in names)
        return [(name.scope, name.limit_name) for name, row in rows if row.blocks and row.mode == "hard"]

    # ---- tables ----

    def _insert(self, name: BudgetName, row: BudgetRow) -> None:
        self._rows[name] = row
        targets = self._of.setdefault(name.organization_id, {})
        targets.setdefault((name.kind, name.target), []).append(name)

    def _remove(self, name: BudgetName) -> None:
        del self._rows[name]
        self._reached.pop(name, None)
        self._ahead.pop(name, None)
        targets = self._of[name.organization_id]
        targets[name.kind, name.target].remove(name)
        if not targets[name.kind, name.target]:
            del targets[name.kind, name.target]
        if not targets:
            del self._of[name.organization_id]
        self.context.changed.rows[row_key("u", *name)] = None
        self.touched[name] = None

    def _restore(self, organization_id: str, period: str, kind: str, target: str, row: BudgetRow) -> None:
        self._insert(BudgetName(organization_id, period, kind, target), row)

    def resume(self, moment: Moment) -> None:
        self.touched.update(dict.fromkeys(self._rows))
        for name, row in self._rows.items():
            if row.ahead_micro >= row.credits_micro:
                self._ahead[name] = None
                self.next_ms = min(self.next_ms, self._end_ms(name))


def _name(command: BudgetPut | BudgetRemove) -> BudgetName:
    organization_id, period = command.organization_id, command.period
    if command.api_key_id is not None:
        return BudgetName(organization_id, period, "key", command.api_key_id)
    if command.label is not None:
        return BudgetName(organization_id, period, "label", label_of(command.label.name, command.label.value))
    return BudgetName(organization_id, period, "organization", "")


def _subject(name: BudgetName) -> str:
    return f"{name.limit_name}:{name.target or name.organization_id}"


def _shown(name: BudgetName, row: BudgetRow) -> dict[str, Any]:
    """The budget as the audit trail shows it."""
    return {**name._asdict(), **msgspec.structs.asdict(row)}
