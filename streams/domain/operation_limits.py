"""Limits of single operations: once per subject in an interval, and a quantity a minute per organization
(requirements, sections 3 and 9).

What the worker knows of a request is its end: an admission is an event that is neither throttled, refused nor failed by
the server. A subject is closed until ``seconds`` after such a request began; that verdict is its own memory.
"""

from collections.abc import Mapping
from typing import Final

from sluicegate_schemas.envelope import WireEvent

from .deadlines import NEVER_MS
from .limits import MINUTE_MS, Bucket, BucketLimit
from .notices import SUBJECT
from .operation_rules import OperationRules
from .pacing import Paced
from .participant import Participant, PartitionContext
from .policy import EventCause, Moment
from .record_context import RecordContext
from .recovery import Recovery, by_names
from .routes import Route
from .scopes import ScopeNames
from .tables import OperationBucketRow, StandingRow, row_key

INTERVAL: Final = "operation_interval"
QUANTITY: Final = "operation_quantity"
_NOT_RUN: Final = (403, 429)
"""A refused request was not admitted."""
_EVICTED_EVERY_MS: Final = 10 * MINUTE_MS
_Names = tuple[str, str, str]
"""(organization, operation, subject or quantity)."""


class OperationBucket(Bucket):
    """The bucket of a quantity of an operation of an organization."""

    __slots__ = ("as_of_ms", "key")

    def __init__(self, names: _Names, limit: int, as_of_ms: int) -> None:
        super().__init__(QUANTITY, MINUTE_MS, BucketLimit(limit, limit))
        self.key = row_key("r", *names)
        self.as_of_ms = as_of_ms

    def encode(self) -> bytes:
        """The payload of its row."""
        return OperationBucketRow(self.limit, str(self.arrival), self.as_of_ms).encode()


class OperationLimits(Participant):
    """Closes subjects and operations that were used as often, or as much, as they may be."""

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self._rules: Final = OperationRules(context.plans)
        self._buckets: Final[dict[_Names, OperationBucket]] = {}
        self._used: Final[dict[_Names, EventCause]] = {}
        self._closed: Final[dict[_Names, int]] = {}
        """Subjects that are closed, and until when, the one that was closed first first."""
        self._admitted: Final[dict[_Names, tuple[int, EventCause]]] = {}
        self._evict_ms = NEVER_MS
        self._paced: Final = Paced(context.settings, context.changed)
        context.policy.bucket_finders[QUANTITY] = self._bucket_of

    def add_tables(self, recovery: Recovery) -> None:
        recovery.add("r", OperationBucketRow, by_names(self._restore))

    def _restore(self, organization_id: str, operation: str, quantity: str, row: OperationBucketRow) -> None:
        names = organization_id, operation, quantity
        bucket = self._buckets[names] = OperationBucket(names, row.limit, row.as_of_ms)
        bucket.arrival = int(row.arrival)

    def sizes(self) -> dict[str, int]:
        return {"operation_buckets": len(self._buckets), "closed_subjects": len(self._closed)}

    # ---- what was used ----

    def observes(self, route: Route) -> bool:
        return route.operation in self._rules.per_minute()

    def counted(self, event: WireEvent, route: Route, cost_micro: int, record: RecordContext, index: int) -> None:
        if event.status in _NOT_RUN:
            return
        if event.subject is not None and event.status < 500 and event.operation in self._rules.interval_ms():
            self._admit(event, event.subject, record, index)
        if not event.cached:
            self._use(event, event.operation, event.quantities, record, index)
        for charge in event.charges or ():
            if not charge.cached:
                self._use(event, charge.operation, charge.quantities, record, index)

    def _admit(self, event: WireEvent, subject: str, record: RecordContext, index: int) -> None:
        if self._is_exempt(event, INTERVAL):
            return
        until_ms = self._started_ms(event) + self._rules.interval_ms()[event.operation]
        names = event.org_id, event.operation, subject
        admitted = self._admitted.get(names)
        if until_ms > self.context.time.now_ms and (admitted is None or admitted[0] < until_ms):
            self._admitted[names] = until_ms, EventCause.of(event, record, index)
            self.has_news = True

    def _use(
        self, event: WireEvent, operation: str, quantities: Mapping[str, int] | None, record: RecordContext, index: int
    ) -> None:
        rules = self._rules.per_minute().get(operation)
        if rules is None or self._is_exempt(event, QUANTITY):
            return
        for quantity, limit in rules.items():
            amount = (quantities or {}).get(quantity, 1 if quantity == "requests" else 0)
            if amount:
                names = event.org_id, operation, quantity
                bucket = self._buckets.get(names) or self._make(names, limit)
                bucket.take(self._started_ms(event), amount)
                self.context.changed.rows[bucket.key] = bucket
                if bucket.is_in_debt(self.context.time.now_ms) and names not in self._used:
                    self._used[names] = EventCause.of(event, record, index)
                    self.has_news = True

    def _make(self, names: _Names, limit: int) -> OperationBucket:
        now_ms = self.context.time.now_ms
        if len(self._buckets) >= self.context.settings.operation_buckets_max:
            oldest = next(iter(self._buckets))
            self._drop(oldest)
            self.context.notices.count(SUBJECT, oldest[1])
        bucket = self._buckets[names] = OperationBucket(names, limit, now_ms)
        self._evict_ms = min(self._evict_ms, _next_eviction_ms(now_ms))
        self._set_next()
        return bucket

    def _drop(self, names: _Names) -> None:
        self.context.changed.rows[self._buckets.pop(names).key] = None

    def _started_ms(self, event: WireEvent) -> int:
        now_ms = self.context.time.now_ms
        return min(max(event.started_at_ms, now_ms - self.context.settings.start_skew_ms + 1), now_ms)

    def _is_exempt(self, event: WireEvent, limit_name: str) -> bool:
        return self.context.plans.is_exempt(event.org_id, event.api_key_id, limit_name)

    # ---- what follows ----

    def judge(self, moment: Moment) -> None:
        for names, (until_ms, cause) in self._admitted.items():
            self._close(moment, names, until_ms, cause)
        for names, cause in self._used.items():
            bucket = self._slowest(*names[:2])
            if bucket is not None:
                scope = ScopeNames("operation", *names[:2])
                self.context.policy.rate_debt(moment, scope, bucket, self._tier(names[0]), cause)
        self._admitted.clear()
        self._used.clear()

    def _close(self, moment: Moment, names: _Names, until_ms: int, cause: EventCause) -> None:
        policy, settings = self.context.policy, self.context.settings
        scope = ScopeNames("operation", *names)
        standing = policy.standing(scope, INTERVAL)
        if standing is not None and standing.verdict == "block" and (standing.until_ms or 0) >= until_ms:
            return
        self._closed.pop(names, None)
        if len(self._closed) >= settings.subjects_max:
            self._forget_closed(moment)
        self._closed[names] = until_ms
        policy.decide(moment, scope, "block", INTERVAL, 1, 1, until_ms, self._tier(names[0]), cause)

    def _forget_closed(self, moment: Moment) -> None:
        for names in [names for names, until_ms in self._closed.items() if until_ms <= moment.now_ms]:
            del self._closed[names]
        if len(self._closed) >= self.context.settings.subjects_max:
            oldest = next(iter(self._closed))
            del self._closed[oldest]
            self.context.policy.forget(ScopeNames("operation", *oldest), INTERVAL)
            self.context.notices.count(SUBJECT, oldest[1])

    def _slowest(self, organization_id: str, operation: str) -> OperationBucket | None:
        """Of the operation's buckets the one that clears last."""
        quantities = self._rules.per_minute().get(operation, {})
        found = (self._buckets.get((organization_id, operation, quantity)) for quantity in sorted(quantities))
        return max((one for one in found if one is not None), key=lambda one: one.until_ms(), default=None)

    def _bucket_of(self, row: StandingRow) -> Bucket | None:
        return self._slowest(row.scope_id, row.operation or "")

    def _tier(self, organization_id: str) -> str:
        return self.context.accounts.organizations[organization_id].tier

    # ---- time and limits that change ----

    def wake(self, moment: Moment) -> None:
        for joined in self._paced.take():
            organization_id, operation = joined.split("|")
            self._adapt(moment, organization_id, operation)
        if moment.now_ms >= self._evict_ms:
            since_ms = moment.now_ms - self.context.settings.start_skew_ms
            resting = [names for names, bucket in self._buckets.items() if bucket.is_at_rest(since_ms)]
            room = self.context.settings.changed_rows_max - len(self.context.changed.rows)
            for names in resting[: max(0, room)]:
                self._drop(names)
            if len(resting) <= room:
                self._evict_ms = _next_eviction_ms(moment.now_ms) if self._buckets else NEVER_MS
        self._set_next()

    def plan_changed(self, moment: Moment, organization_id: str | None) -> None:
        if organization_id is None:
            self._take_versions(moment)
            self.wake(moment)
        elif self.context.plans.is_exempt(organization_id, None, INTERVAL):
            for names in [names for names in self._closed if names[0] == organization_id]:
                del self._closed[names]
                scope = ScopeNames("operation", *names)
                self.context.policy.decide(moment, scope, "allow", INTERVAL, 1, 0, None, self._tier(names[0]), None)
        if organization_id is not None and self.context.plans.is_exempt(organization_id, None, QUANTITY):
            for operation in sorted({names[1] for names in self._buckets if names[0] == organization_id}):
                self._adapt(moment, organization_id, operation)

    def resume(self, moment: Moment) -> None:
        self._evict_ms = _next_eviction_ms(moment.now_ms) if self._buckets else NEVER_MS
        for row in self.context.policy:
            if row.limit_name == INTERVAL and row.verdict == "block" and row.operation and row.subject:
                self._closed[row.scope_id, row.operation, row.subject] = row.until_ms or 0
        self._take_versions(moment)
        self._set_next()

    def _take_versions(self, moment: Moment) -> None:
        """Brings the buckets to the versions that took effect since their limits are in force; their verdicts follow
        as fast as flushes have room."""
        cards, plans = self.context.cards, self.context.plans
        rules: dict[int, OperationRules] = {}
        for names, bucket in self._buckets.items():
            _, operation, quantity = names
            for start_ms in cards.starts_between(bucket.as_of_ms, moment.now_ms):
                if start_ms not in rules:
                    rules[start_ms] = OperationRules(plans.as_of(start_ms))
                limit = rules[start_ms].per_minute().get(operation, {}).get(quantity)
                if limit is not None and limit != bucket.limit:
                    bucket.change(BucketLimit(limit, limit), start_ms)
                    bucket.as_of_ms = start_ms
            self._paced.add(["|".join(names[:2])])

    def _adapt(self, moment: Moment, organization_id: str, operation: str) -> None:
        """Says what an operation's limits as they are now make of what was used."""
        policy, scope = self.context.policy, ScopeNames("operation", organization_id, operation)
        standing = policy.standing(scope, QUANTITY)
        is_blocked = standing is not None and standing.verdict == "block"
        bucket, tier = self._slowest(organization_id, operation), self._tier(organization_id)
        if bucket is None or self.context.plans.is_exempt(organization_id, None, QUANTITY):
            for names in [names for names in self._buckets if names[:2] == (organization_id, operation)]:
                self._drop(names)
            bucket = None
        if bucket is not None and bucket.is_in_debt(moment.now_ms):
            if standing is None or not is_blocked or standing.limit != bucket.limit:
                observed, until_ms = bucket.held(moment.now_ms), bucket.until_ms()
                policy.decide(moment, scope, "block", QUANTITY, bucket.limit, observed, until_ms, tier, None)
        elif standing is not None and is_blocked:
            observed = 0 if bucket is None else bucket.held(moment.now_ms)
            policy.decide(moment, scope, "allow", QUANTITY, standing.limit, observed, None, tier, None)

    def _set_next(self) -> None:
        self.next_ms = min(self._evict_ms, self._paced.next_ms)


def _next_eviction_ms(now_ms: int) -> int:
    return (now_ms // _EVICTED_EVERY_MS + 1) * _EVICTED_EVERY_MS
