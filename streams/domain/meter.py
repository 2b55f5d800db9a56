"""Meter: counts events into rollup cells, ledgers and buckets. The hot path.

Each event touches one route (``routes``). What it adds is gathered there and folded once a batch; the account's used
credits and the key's buckets are kept current with each event, since verdicts hang on them.
"""

from collections.abc import Mapping
from typing import Final

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, DURATION_MS_MAX, EPOCH_MS_MIN
from sluicegate_schemas.decode import Malformed, check_numbers, validate_event
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.rating import MissingQuantityError

from .limits import Bucket, Buckets
from .notices import MODEL, Notices
from .period import LogTime
from .policy import EventCause, Moment, Policy
from .record_context import RecordContext
from .route_table import RouteTable
from .routes import Route
from .scopes import ScopeNames
from .service_levels import bucket_of
from .settings import DomainSettings
from .storage import HeldPart, StorageMeter
from .tables import ChangedRows, OrganizationRow

_NOTHING: Final[Mapping[str, int]] = {}
_UNITS_CHECKED: Final = 10**12
_UNITS_MAX: Final = 2**62


class Meter:
    """Counts admitted events."""

    def __init__(
        self,
        partition: int,
        settings: DomainSettings,
        time: LogTime,
        changed: ChangedRows,
        organizations: Mapping[str, OrganizationRow],
        routes: RouteTable,
        storage: StorageMeter,
        notices: Notices,
        policy: Policy,
    ) -> None:
        self._partition = partition
        self._settings = settings
        self._time = time
        self._changed = changed.rows
        self._organizations = organizations
        self._routes = routes
        self._storage = storage
        self._notices = notices
        self._policy = policy
        self._debts: dict[tuple[Buckets, Bucket], tuple[str, EventCause]] = {}
        """By bucket: the organization, and the first event of the record after which the bucket was in debt."""

    def count(self, events: list[WireEvent], routes: list[Route | None], record: RecordContext, first: int = 0) -> int:
        """Counts the events that have a route; returns how many were counted and not refused.

        ``first`` is the index in the record of the first of them. After the record's last, ``judge_debts`` is due.
        """
        settings, now_ms, offset = self._settings, self._time.now_ms, record.offset
        earliest_ms = max(record.logged_at_ms - settings.clock_behind_ms, EPOCH_MS_MIN)
        latest_ms = record.logged_at_ms + settings.clock_ahead_ms
        is_checked = record.is_checked
        start_floor_ms = now_ms - settings.start_skew_ms + 1
        counted = 0
        index = first - 1
        for event, route in zip(events, routes, strict=True):
            index += 1
            if route is None:
                continue
            ts_ms = event.ts_ms
            started_at_ms = event.started_at_ms
            status = event.status
            is_plain = (
                earliest_ms <= started_at_ms <= ts_ms <= latest_ms
                and 100 <= status <= 599
                and 0 <= event.duration_ms <= DURATION_MS_MAX
                and event.quantities is None
                and event.model is None
                and event.charges is None
                and (is_checked or event.id is None)
                and event.node is None
                and event.labels is None
                and event.resource_delta is None
                and event.subject is None
                and event.leases is None
            )
            if not is_plain:  # the usual event has nothing more to check
                try:
                    if not is_checked:
                        check_numbers(event)
                except Malformed as malformed:
                    record.refuse(index, malformed.reason, malformed.field, malformed.detail)
                    continue
                if started_at_ms < earliest_ms or ts_ms > latest_ms:
                    self._refuse_time(event, record, index, earliest_ms, latest_ms)
                    continue
            if not route.start_ms <= ts_ms < route.end_ms:
                self._routes.bind(route, ts_ms)
            tariff = route.tariff
            if event.charges is not None or tariff.held is not None:
                parts_cost = self._count_parts(event, route, record, index)
                if parts_cost is None:
                    continue
                cost = parts_cost
                requests = 1 if event.quantities is None else event.quantities.get("requests", 1)
            else:
                given = event.quantities
                if given is None and route.flat_micro is not None:
                    requests = units = 1
                    cost = route.flat_micro
                else:
                    quantities = _NOTHING if given is None else given
                    requests = quantities.get("requests", 1)
                    try:
                        units, cost = tariff.rate(quantities, event.model)
                    except MissingQuantityError as missing:
                        if 200 <= status <= 299:
                            field = f"quantities.{missing.quantity}"
                            record.refuse(index, "missing_quantity", field, "is needed by the rate card")
                            continue
                        units = cost = 0
                    if route.is_costless:
                        cost = 0
                    if (
                        tariff.models is not None
                        and event.model not in tariff.models
                        and (event.model or 200 <= status <= 299)  # a request that was refused may not have named one
                    ):
                        self._notices.count(MODEL, f"{route.operation}:{event.model or ''}", 1, event.org_id)
                    if units > _UNITS_CHECKED and _units(route) + units > _UNITS_MAX:
                        record.refuse(index, "invalid", "quantities", "passes what one minute can hold")
                        continue
                if not 200 <= status <= 299 or event.cached:
                    cost = 0
                account = route.account
                used_micro = account.used_micro + cost
                if used_micro >= account.watch_micro:
                    if used_micro > CREDITS_MICRO_MAX:
                        record.refuse(index, "invalid", "quantities", "costs more than a ledger can hold")
                        continue
                    account.used_micro = used_micro
                    self._credits_reached(event, route, record, index)
                else:
                    account.used_micro = used_micro
                route.units += units
                route.credits_micro += cost
            counted += 1
            route.events += 1
            if not route.is_pending:
                self._routes.touch(route, offset)
            if route.is_observed or (not is_plain and (tariff.held is not None or _has_more(event))):
                for observer in self._routes.counters:
                    observer.counted(event, route, cost, record, index)
            if not tariff.counts_requests:
                continue
            route.requests += requests
            if status != 429:
                bucket_number = bucket_of(event.duration_ms)
                route.durations[bucket_number] = route.durations.get(bucket_number, 0) + 1
            if status >= 400:
                if status != 429:
                    route.errors += 1
                    route.failures += status >= 500
                else:
                    route.throttled += 1
                    if not route.throttled_takes_token:
                        continue
            buckets = route.buckets
            if buckets is None:
                continue
            if started_at_ms > now_ms:
                started_at_ms = now_ms
            elif started_at_ms < start_floor_ms:
                started_at_ms = start_floor_ms
            self._changed[buckets.key] = buckets
            for bucket in route.taken:
                rate = bucket.rate
                arrival = started_at_ms * rate
                if arrival < bucket.arrival:
                    arrival = bucket.arrival
                bucket.arrival = arrival = arrival + requests * bucket.period_ms
                if arrival - now_ms * rate > bucket.capacity:
                    self._note_debt(buckets, bucket, event, record, index)
        return counted

    def _note_debt(self, buckets: Buckets, bucket: Bucket, event: WireEvent, record: RecordContext, index: int) -> None:
        if (buckets, bucket) not in self._debts:
            self._debts[buckets, bucket] = event.org_id, EventCause.of(event, record, index)

    def judge_debts(self) -> None:
        """Decides about the keys that the record's events put, or left, in debt: once each, by all that was counted."""
        for (buckets, bucket), (organization_id, cause) in self._debts.items():
            tier = self._organizations[organization_id].tier
            moment = self._moment(cause.offset, cause.event_index)
            self._policy.rate_debt(moment, ScopeNames("key", buckets.api_key_id), bucket, tier, cause)
        self._debts.clear()

    def _count_parts(self, event: WireEvent, route: Route, record: RecordContext, index: int) -> int | None:
        """Counts the units and credits of an event with charges, or of a storage sample: all of it, or nothing (then
        None). Returns what it costs in all."""
        is_paid = 200 <= event.status <= 299
        try:
            parts = [self._rated(route, event.quantities, event.model, "", is_paid=is_paid, is_cached=event.cached)]
            for at, charge in enumerate(event.charges or ()):
                part = self._charge_route(event, route, charge.operation)
                prefix = f"charges[{at}]."
                parts.append(
                    self._rated(part, charge.quantities, charge.model, prefix, is_paid=is_paid, is_cached=charge.cached)
                )
        except Malformed as malformed:
            record.refuse(index, malformed.reason, malformed.field, malformed.detail)
            return None
        held = route.tariff.held
        held_parts: list[HeldPart] = []
        is_held = held is not None and is_paid and not route.is_costless
        if is_held:
            held_parts = self._storage.plan(event, route)
            for held_part in held_parts:
                if held_part.credits_micro:
                    at_ms = held_part.at_ms
                    part = route if at_ms == event.ts_ms else self._routes.at(route, at_ms)
                    parts.append((part, 0, held_part.credits_micro))
        if any(part.account.used_micro + sum(one[2] for one in parts) > CREDITS_MICRO_MAX for part, _, _ in parts):
            record.refuse(index, "invalid", "quantities", "costs more than a ledger can hold")
            return None
        if held is None:
            self._notice_models(event, parts)
        for part, units, cost in parts:
            self._routes.touch(part, record.offset)
            part.charges += part is not route
            part.units += units
            part.credits_micro += cost
            part.account.used_micro += cost
        if held is not None and is_held:
            self._storage.commit(event, route, held, held_parts)
        if route.account.used_micro >= route.account.watch_micro:
            self._credits_reached(event, route, record, index)
        return sum(one[2] for one in parts)

    def _notice_models(self, event: WireEvent, parts: list[tuple[Route, int, int]]) -> None:
        models = [event.model, *(charge.model for charge in event.charges or ())]
        is_paid = 200 <= event.status <= 299
        for (part, _, _), model in zip(parts, models, strict=True):
            if part.tariff.models is not None and model not in part.tariff.models and (model or is_paid):
                self._notices.count(MODEL, f"{part.operation}:{model or ''}", 1, event.org_id)

    def _charge_route(self, event: WireEvent, route: Route, operation: str) -> Route:
        part = self._routes.get((route.api_key_id, operation))
        if part is None:
            validate_event(event)
            part = self._routes.find(route.organization_id, route.api_key_id, operation)
        if not part.start_ms <= event.ts_ms < part.end_ms:
            self._routes.bind(part, event.ts_ms)
        return part

    def _rated(
        self,
        route: Route,
        quantities: Mapping[str, int] | None,
        model: str | None,
        prefix: str,
        *,
        is_paid: bool,
        is_cached: bool,
    ) -> tuple[Route, int, int]:
        """(route, units, cost) of one part of an event. Raises Malformed."""
        try:
            units, cost = route.tariff.rate(_NOTHING if quantities is None else quantities, model)
        except MissingQuantityError as missing:
            if is_paid:
                field = f"{prefix}quantities.{missing.quantity}"
                raise Malformed("missing_quantity", field, "is needed by the rate card") from None
            units = cost = 0
        if units > _UNITS_CHECKED and _units(route) + units > _UNITS_MAX:
            raise Malformed("invalid", f"{prefix}quantities", "passes what one minute can hold")
        return route, units, cost if is_paid and not is_cached and not route.is_costless else 0

    def _refuse_time(
        self, event: WireEvent, record: RecordContext, index: int, earliest_ms: int, latest_ms: int
    ) -> None:
        if event.ts_ms > latest_ms:
            detail = f"lies {event.ts_ms - record.logged_at_ms} ms after the broker's time"
            record.refuse(index, "too_far_ahead", "ts", detail)
        else:
            detail = f"lies {record.logged_at_ms - event.started_at_ms} ms before the broker's time"
            record.refuse(index, "too_far_behind", "started_at", detail)

    def _moment(self, offset: int, index: int) -> Moment:
        time = self._time
        return Moment(time.now_ms, time.month, time.version, f"u{self._partition}-{offset}-{index}")

    def _credits_reached(self, event: WireEvent, route: Route, record: RecordContext, index: int) -> None:
        root = self._organizations[route.account_id]
        cause = EventCause.of(event, record, index)
        self._policy.credits_reached(self._moment(record.offset, index), route.account, root.tier, cause)


def _has_more(event: WireEvent) -> bool:
    """Whether the event has what only participants look at."""
    return (
        event.labels is not None
        or event.charges is not None
        or event.resource_delta is not None
        or event.subject is not None
        or event.leases is not None
    )


def _units(route: Route) -> int:
    """The units that the minute of ``route`` holds by now."""
    return route.units + (0 if route.cell is None else route.cell.units)
