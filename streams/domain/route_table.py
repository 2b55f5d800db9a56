"""The partition's routes: looked up, bound to a window of event time, and folded into cells and ledgers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sluicegate_schemas.envelope import WireEvent

from .ledger import Ledgers
from .limits import MINUTE_MS, KeyBuckets
from .notices import OPERATION, Notices
from .period import LogTime, month_index, month_start_ms, month_text
from .plans import Plans
from .policy import Policy
from .record_context import RecordContext
from .rollup import Cells
from .routes import RateCards, Route
from .settings import DomainSettings
from .tables import KeyRow, OrganizationRow


class Observer(Protocol):
    """Whoever wants to hear of routes; see ``participant.Participant``."""

    def observes(self, route: Route) -> bool:
        """Whether each event of the route concerns it."""

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        """An event of an observed route, or with more than the usual fields, was counted."""

    def folded(self, route: Route) -> None:
        """What the route gathered is about to be added to its cell and ledgers."""


class RouteTable:
    """Routes by (key, operation).

    What has no key is under another identity, which no event can name: it is looked at anew each time it comes.
    """

    def __init__(
        self,
        settings: DomainSettings,
        time: LogTime,
        organizations: Mapping[str, OrganizationRow],
        keys: Mapping[str, KeyRow],
        buckets: KeyBuckets,
        cards: RateCards,
        cells: Cells,
        ledgers: Ledgers,
        notices: Notices,
        policy: Policy,
        plans: Plans,
    ) -> None:
        self._settings = settings
        self._time = time
        self._organizations = organizations
        self._keys = keys
        self._buckets = buckets
        self._cards = cards
        self._cells = cells
        self._ledgers = ledgers
        self._notices = notices
        self._policy = policy
        self._plans = plans
        self._routes: dict[tuple[str | None, ...], Route] = {}
        self._pending: list[Route] = []
        self.observers: Sequence[Observer] = ()
        """Whoever has something to observe; and who counts, and who wants to know of folds."""
        self.counters: Sequence[Observer] = ()
        self.folders: Sequence[Observer] = ()
        self.get = self._routes.get
        """The route of (key, operation), if it was found before."""

    @property
    def pending(self) -> int:
        """How many routes hold something that is not folded yet."""
        return len(self._pending)

    def find(self, organization_id: str, api_key_id: str, operation: str) -> Route:
        """The route of a known organization and key (none: empty)."""
        identity = (api_key_id, operation) if api_key_id else (None, organization_id, operation)
        route = self._routes.get(identity)
        if route is None:
            if len(self._routes) >= self._settings.routes_max:
                self.forget()
            key = self._keys.get(api_key_id)
            account_id = self._organizations[organization_id].account_id
            is_test = key is not None and key.mode == "test"
            is_costless = is_test and not self._plans.test_keys_spend_of(organization_id)
            route = Route(organization_id, account_id, api_key_id, operation, is_costless=is_costless)
            route.buckets = self._buckets.find(api_key_id) if api_key_id else None
            route.throttled_takes_token = self._plans.throttled_takes_token(organization_id)
            self._routes[identity] = route
        return route

    def at(self, route: Route, time_ms: int) -> Route:
        """A route of its own for what ``route`` adds at another time."""
        names = route.organization_id, route.account_id, route.api_key_id, route.operation
        other = Route(*names, is_costless=route.is_costless)
        other.buckets = None
        self.bind(other, time_ms)
        return other

    def forget(self) -> None:
        """Something that routes are made of changed: prices, months, organizations, limits."""
        self.fold()
        self._routes.clear()

    def bind(self, route: Route, ts_ms: int) -> None:
        """Moves the route's window to the minute of ``ts_ms``."""
        if route.is_pending:
            self._fold(route)
            route.is_pending = False
        catalogue, from_ms, until_ms = self._cards.window(ts_ms)
        tariff = route.tariff = self._cards.tariff(catalogue, route.operation)
        if route.buckets is not None:
            route.taken = route.buckets.taken_by(tariff.category)
        route.flat_micro = 0 if route.is_costless and tariff.flat_micro is not None else tariff.flat_micro
        minute = ts_ms // MINUTE_MS
        route.cell = self._cells.find(route.organization_id, route.api_key_id, route.operation, minute)
        month, time = month_index(ts_ms), self._time
        route.correction = None
        if month < time.month and time.now_ms >= month_start_ms(month + 1) + self._settings.grace_ms:
            route.correction = month_text(month)
            month = time.month
        find, organization_id, account_id = self._ledgers.find, route.organization_id, route.account_id
        route.account = find("account", account_id, month, account_id, None)
        self._ledgers.bring_up(account_id)
        self._policy.watch(route.account, time.month)
        route.organization = find("organization", organization_id, month, account_id, organization_id)
        route.key_ledger = (
            find("key", route.api_key_id, month, account_id, organization_id) if route.api_key_id else None
        )
        route.is_observed = any(observer.observes(route) for observer in self.observers)
        route.start_ms = max(minute * MINUTE_MS, from_ms)
        route.end_ms = min((minute + 1) * MINUTE_MS, until_ms)

    def touch(self, route: Route, offset: int) -> None:
        """Something is gathered in ``route``: it will be folded, into a cell that this record makes if need be."""
        if not route.is_pending:
            route.is_pending = True
            self._pending.append(route)
        if route.cell is None or route.cell.is_evicted:
            names = route.organization_id, route.api_key_id, route.operation
            route.cell = self._cells.make(*names, route.start_ms // MINUTE_MS, offset, route.tariff.category)

    def fold(self) -> None:
        """Adds what the routes gathered to cells and ledgers."""
        for route in self._pending:
            if route.is_pending:  # not when it was folded by a move to another minute
                self._fold(route)
                route.is_pending = False
        self._pending.clear()

    def _fold(self, route: Route) -> None:
        assert route.cell is not None
        for observer in self.folders:
            observer.folded(route)
        cell, credits_micro, requests = route.cell, route.credits_micro, route.requests
        served = route.organization
        served.failures += route.failures
        for bucket, count in route.durations.items():
            served.durations[bucket] = served.durations.get(bucket, 0) + count
        cell.requests += requests
        cell.errors += route.errors
        cell.throttled += route.throttled
        cell.units += route.units
        cell.credits_micro += credits_micro
        cell.events += route.events
        cell.rated_version = route.tariff.version
        if route.tariff.is_unrated:
            self._notices.count(OPERATION, route.operation, route.events + route.charges, route.organization_id)
        self._cells.mark(cell)
        account, group = route.account, route.tariff.group
        for ledger in (account, route.organization, route.key_ledger):
            if ledger is None:
                continue
            ledger.requests += requests
            if credits_micro:
                if ledger is not account:
                    ledger.used_micro += credits_micro
                ledger.breakdown_micro[group] += credits_micro
                if route.correction is not None:
                    corrections = ledger.corrections_micro
                    corrections[route.correction] = corrections.get(route.correction, 0) + credits_micro
            self._ledgers.mark(ledger)
        route.clear()
