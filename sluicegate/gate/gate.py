"""One call that answers allowed or refused, from what this process knows, without waiting for anything."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, Unpack

from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.limits import ConcurrentPerSubject

from ..clock import Clock, epoch_ms
from ..follower.entries import Key, Verdict
from ..follower.lags import Lags
from ..follower.view import View
from . import firing
from .answer import Admission, Answer, unauthenticated, unavailable
from .asked import Asked, Description
from .headers import Header, admitted_headers, policy_of
from .in_flight import InFlight
from .limiter import Level, Limiter, at_percent
from .plain import PREPARED_MAX, Prepared, prepare
from .quantities import ProviderBuckets
from .refusals import Fired, fired_by_level, fired_by_shortfall, refuse
from .reserve import Hold, Reserve, Spend
from .running import Running
from .settings import GateSettings
from .soft import SoftReserve
from .spending import spend_of, spends
from .state import Bound, GateState
from .subjects import Intervals
from .terms import Terms, TermsTable
from .verdicts import verdicts_about

_SECRET: Final = re.compile(r"sk_(?:live|test)_[A-Za-z0-9_-]{8,200}\Z", re.ASCII)
_SECRET_SIGNS_MAX: Final = 208
_ANSWER: Final = tuple.__new__
"""Half the time of the class's own call, on the way of each request."""


class Knowledge(Protocol):
    """Where a gate's knowledge comes from: a ``Follower``, or a view that a test filled."""

    @property
    def view(self) -> View:
        """What is known."""

    @property
    def ready(self) -> bool:
        """Whether all that stood in the topics at the start is in the view."""

    @property
    def lags(self) -> Lags:
        """How long decisions take."""

    @property
    def contact_ms(self) -> int | None:
        """When the source last answered (UTC epoch); None: it cannot go stale, or never answered."""


class Gate:
    """Answers by local buckets and the decisions at hand (requirements, section 3). Not for several threads at once.

    ``check`` answers and takes tokens. A service that also calls ``begin`` and ``end`` around each admitted request
    gives the gate what it needs for limits on what runs: concurrency, one at a time or in a minute, and reservations;
    without them those rest on the workers' decisions alone. Nothing may be awaited between ``check`` and ``begin``.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        settings: GateSettings | None = None,
        *,
        reserves: Sequence[Reserve] = (),
        clock: Clock = epoch_ms,
    ) -> None:
        """``reserves`` hold back worst cases beside the gate's own reservation under soft limits."""
        self.settings = settings or GateSettings()
        self.limiter = Limiter(self.settings.keys_max)
        self.in_flight = InFlight()
        self.soft = SoftReserve()
        self._intervals = Intervals(self.settings.subjects_max)
        self._providers = ProviderBuckets(self.settings.subjects_max)
        self._reserves: tuple[Reserve, ...] = (self.soft, *reserves)
        self._is_special = bool(reserves)
        self._prepared: dict[tuple[str, str], Prepared] = {}
        """By the SHA-256 of the key's secret, and operation."""
        self._borrows = False
        self._terms = TermsTable()
        self._knowledge = knowledge
        self._clock = clock

    def borrow(self, reserve: Reserve) -> None:
        """From now on costs under hard limits are admitted by ``reserve``; until then they are not admitted at all."""
        self._reserves = (*self._reserves, reserve)
        self._borrows = True

    def check(
        self,
        secret: str | None,
        operation: str,
        *,
        now_ms: int | None = None,
        **described: Unpack[Description],
    ) -> Answer:
        """Answers a request that carries ``secret`` and takes its token.

        ``described`` is what is known of it beforehand, see ``Asked``: operations that it is going to be charged for
        besides, whether it is a cache hit, its subject, labels, and how much it is about. A request passes all its
        buckets or takes from none; a 403 and a 400 have taken their token; a 429 takes none, unless the plan says so.
        """
        now = self._clock() if now_ms is None else now_ms
        knowledge = self._knowledge
        if not knowledge.ready:
            if self.settings.when_not_ready == "admit":
                return Answer(True, 200, [])
            return unavailable("The service is starting")
        view = knowledge.view
        if not secret:
            return unauthenticated("Missing API key", "Bearer")
        signs = secret.encode("utf-8", "replace") if len(secret) <= _SECRET_SIGNS_MAX else b""
        key_sha256 = hashlib.sha256(signs).hexdigest()
        if not described and (prepared := self._prepared.get((key_sha256, operation))) is not None:
            answer = self._pass(prepared, view, now)
            if answer is not None:
                return answer
        is_secret = _SECRET.match(secret)
        key = view.key(key_sha256) if is_secret else None
        if key is None or key.revoked:
            if is_secret and not view.complete:  # for a revoked one, too: else the answer says whose key was one
                return unavailable("The key cannot be checked at the moment")
            message = "This API key belongs to more than one account" if key and key.is_contested else "Invalid API key"
            return unauthenticated(message, 'Bearer error="invalid_token"')
        organization = view.organization(key.organization_id)
        payer = organization if key.account_id == key.organization_id else view.organization(key.account_id)
        catalogue = view.catalogue_at(now)
        if organization is None or payer is None or catalogue is None:
            return unavailable("The limits of this key are not known yet")
        terms = self._terms.of(key, organization, payer, catalogue, operation)
        asked = Asked(operation, **described) if described else terms.plain
        admission = Admission(key, terms, asked, None)
        verdicts = verdicts_about(view, key, asked, terms, now)
        if not described and not self._is_special:
            self._prepare(key_sha256, view, admission, verdicts, now)
        return self._decide(verdicts, admission, now)

    def _pass(self, prepared: Prepared, view: View, now: int) -> Answer | None:
        """Admits a prepared request and takes its token; None, and nothing taken, where it has to be looked at."""
        changes = view.stamps.changes + prepared.of_secret.changes + prepared.of_key.changes
        changes += prepared.of_organization.changes + prepared.of_account.changes
        if prepared.changes != changes or not prepared.from_ms <= now < prepared.until_ms:
            return None
        contact_ms = self._knowledge.contact_ms
        if prepared.view is not view or (contact_ms is not None and now - contact_ms > self.settings.stale_after_ms):
            return None
        serving = self.in_flight.serving.get(prepared.organization_id)
        if serving is not None and prepared.concurrency is not None and serving.running >= prepared.concurrency:
            return None
        admission = prepared.admission
        for record_key in prepared.paid_by:
            if record_key in self.soft.lines and admission.spend and self.soft.short(admission.spend, now) is not None:
                return None
        taken = self.limiter.pass_through(prepared.api_key_id, prepared.buckets, now)
        if taken is None:
            return None
        told = (prepared.policy, prepared.buckets, taken, now)
        return _ANSWER(Answer, (True, 200, told, None, admission.key, None, admission, None))

    def _prepare(self, key_sha256: str, view: View, admission: Admission, verdicts: list[Verdict], now: int) -> None:
        if len(self._prepared) >= PREPARED_MAX:
            self._prepared.clear()
        prepared = prepare(view, key_sha256, admission, verdicts, now)
        if prepared is not None:
            self._prepared[key_sha256, admission.asked.operation] = prepared

    def _decide(self, verdicts: list[Verdict], admission: Admission, now: int) -> Answer:
        key, terms, _, _ = admission
        buckets = terms.buckets
        if terms.failure is not None and self.is_stale(now):
            if terms.failure.mode == "closed":
                return unavailable("The state of this account is not known at the moment", key)
            if terms.failure.allowance_percent is not None:
                buckets = tuple(at_percent(bucket, terms.failure.allowance_percent) for bucket in buckets)
        fired = self._throttled(verdicts, admission, now)
        if not fired:
            taken = self.limiter.take(key.api_key_id, buckets, now)
            if taken.admitted:
                return self._amounts(verdicts, admission, self._headers(terms, taken.levels, now), now)
            levels = taken.levels
        else:
            levels = self.limiter.peek(key.api_key_id, buckets, now)
        scope = f"key:{key.api_key_id}"
        fired += [fired_by_level(level, scope, now) for level in levels if level.wait_ms > 0]
        if terms.throttled_takes_token:
            self.limiter.charge(key.api_key_id, buckets, now)
        if spends(admission):
            fired += firing.money_blocks(verdicts)
        return refuse(admission, fired + firing.amounts(verdicts, admission), levels, now)

    def _throttled(self, verdicts: list[Verdict], admission: Admission, now: int) -> list[Fired]:
        """What answers 429, but for the key's own buckets."""
        terms, asked = admission.terms, admission.asked
        priced, fired = terms.priced, []
        serving = self.in_flight.serving.get(admission.key.organization_id)
        if verdicts:
            fired = firing.throttling_verdicts(verdicts, terms, asked.cached, now)
        if verdicts or serving is not None:
            fired += firing.slots(serving, verdicts, admission, now)
        if priced.once is not None:
            fired += firing.interval(self._intervals, admission, now)
        if priced.quantity is not None or asked.charges:
            fired += firing.providers(self._providers, admission, now)
        return fired

    def _amounts(self, verdicts: list[Verdict], admission: Admission, headers: list[Header], now: int) -> Answer:
        """The answer to a request that has its tokens."""
        terms, asked = admission.terms, admission.asked
        fired = []
        if terms.quota is not None or asked.objects is not None or asked.results is not None:
            fired = firing.amounts(verdicts, admission)
        pending = None
        is_known = self._borrows or not terms.is_hard or not spends(admission)
        knows_limit = verdicts or terms.is_hard or terms.credits_of_plan is not None
        if is_known and knows_limit and spends(admission):
            fired += firing.money_blocks(verdicts)
            if not fired:
                admission = admission._replace(spend=spend_of(admission, verdicts))
                for reserve in self._reserves:
                    shortfall = reserve.short(admission.spend, now) if admission.spend is not None else None
                    if shortfall is not None:
                        fired.append(fired_by_shortfall(shortfall))
                        pending = shortfall.pending
                        is_known = shortfall.is_known
        if not is_known:
            answer = unavailable("What is left of a hard limit is not known at the moment", admission.key)
            return answer._replace(admission=admission, pending=pending)
        if fired:
            return refuse(admission, fired, (), now, headers)._replace(pending=pending)
        return Answer(True, 200, headers, None, admission.key, None, admission)

    def reconsider(self, answer: Answer, now_ms: int | None = None) -> Answer:
        """Answers a request again whose ``pending`` has ended; it has its token and takes none."""
        now = self._clock() if now_ms is None else now_ms
        assert answer.admission is not None, "an answer with a key and its limits"
        admission = answer.admission._replace(spend=None)
        key, terms, asked, _ = admission
        verdicts = verdicts_about(self._knowledge.view, key, asked, terms, now)
        levels = self.limiter.peek(key.api_key_id, terms.buckets, now)
        fired = self._throttled(verdicts, admission, now)
        if fired:
            return refuse(admission, fired, levels, now)
        return self._amounts(verdicts, admission, self._headers(terms, levels, now), now)

    def revise(self, running: Running, now_ms: int | None = None, **described: Unpack[Description]) -> Answer:
        """Answers a running request again of which more is known now: ``charges`` come on top of those said before, the
        other fields of ``described`` replace them. Only amounts are looked at: quotas, sizes, credits and budgets. What
        is held back follows; refused, all stays as it was, since the request runs on, and may have used it already."""
        now = self._clock() if now_ms is None else now_ms
        asked = running.admission.asked
        if "charges" in described:
            described["charges"] = (*asked.charges, *described["charges"])
        asked = asked._replace(**described)
        admission = running.admission._replace(asked=asked, spend=None)
        key, terms, _, _ = admission
        verdicts = verdicts_about(self._knowledge.view, key, asked, terms, now)
        levels = self.limiter.peek(key.api_key_id, terms.buckets, now)
        for reserve, hold in running.holds:
            reserve.suspend(hold)
        holds: list[tuple[Reserve, Hold]] = []
        try:
            answer = self._amounts(verdicts, admission, self._headers(terms, levels, now), now)
            if answer.allowed and answer.admission is not None:
                holds = self._holds(answer.admission.spend, now)
        finally:
            for reserve, hold in running.holds:
                reserve.resume(hold)
        if answer.allowed and answer.admission is not None:
            self._release(running, now)
            running.admission, running.holds = answer.admission, holds
            self._take_of_providers(running, now)
        return answer

    def _headers(self, terms: Terms, levels: Sequence[Level], now: int) -> list[Header]:
        if not levels:
            return []
        stands = [(bucket, remaining, full_in_ms) for bucket, remaining, _, full_in_ms in levels]
        own = len(levels) == len(terms.buckets) and levels[0].bucket is terms.buckets[0]
        return admitted_headers(terms.policy if own else policy_of([one.bucket for one in levels]), stands, now)

    def begin(self, answer: Answer, now_ms: int | None = None) -> Running | None:
        """An admitted request begins to run; None where nothing is known of it. ``end`` has to follow in any case."""
        admission = answer.admission
        if admission is None:
            return None
        now = self._clock() if now_ms is None else now_ms
        key, terms, asked, spend = admission
        concurrent: ConcurrentPerSubject | None = terms.priced.concurrent
        subject = None if concurrent is None or asked.subject is None else (asked.operation, asked.subject)
        running = Running(admission, (key.organization_id, subject))
        running.holds = self._holds(spend, now)
        self._take_of_providers(running, now)
        self.in_flight.begin(key.organization_id, key.account_id, subject)
        once = firing.subject_of(admission)
        if once is not None and terms.priced.once is not None:
            until_ms = now + terms.priced.once.seconds * 1000
            self._intervals.close(once, until_ms, now)
            running.interval = once, until_ms
        return running

    def _holds(self, spend: Spend | None, now: int) -> list[tuple[Reserve, Hold]]:
        """Holds back what a request may cost: with all reserves, or with none."""
        holds: list[tuple[Reserve, Hold]] = []
        if spend is None:
            return holds
        try:
            for reserve in self._reserves:
                holds.append((reserve, reserve.hold(spend, now)))  # noqa: PERF401  # where one fails, these are undone
        except BaseException:
            for reserve, hold in holds:
                reserve.settle(hold, 0, now)
            raise
        return holds

    def _take_of_providers(self, running: Running, now: int) -> None:
        """Takes what the request may use of providers."""
        _, terms, asked, _ = running.admission
        if terms.priced.quantity is not None or asked.charges:
            running.providers = firing.provider_charges(running.admission, asked.all_charges())
            for provider, limit, amount in running.providers:
                self._providers.take(provider, limit, amount, now)

    def _release(self, running: Running, now: int, cost_micro: int = 0) -> None:
        """Gives back what was held, but for ``cost_micro``."""
        for provider, limit, amount in running.providers:
            self._providers.take(provider, limit, -amount, now)
        for reserve, hold in running.holds:
            reserve.settle(hold, cost_micro, now)
        running.providers, running.holds = [], []

    def end(
        self, running: Running | None, status: int, charges: Sequence[WireCharge] = (), now_ms: int | None = None
    ) -> None:
        """A request that was begun has ended with ``status`` and its usage event is published; ``charges`` are what it
        used: its own operation and those inside it. A second call does nothing."""
        if running is None or running.is_over:
            return
        running.is_over = True
        now = self._clock() if now_ms is None else now_ms
        self.in_flight.end(*running.in_flight, now)
        if running.interval is not None and status >= 500:
            self._intervals.give_back(*running.interval)
        terms = running.admission.terms
        used = firing.provider_charges(running.admission, charges)
        cost_micro = 0
        if running.holds and 200 <= status < 300:
            cost_micro = sum(terms.card.priced(one.operation).cost_micro(one) for one in charges)
        self._release(running, now, cost_micro)
        for provider, limit, amount in used:
            self._providers.take(provider, limit, amount, now)

    def is_stale(self, now_ms: int) -> bool:
        """Whether decisions have stopped arriving."""
        contact_ms = self._knowledge.contact_ms
        return contact_ms is not None and now_ms - contact_ms > self.settings.stale_after_ms

    def state(self, now_ms: int | None = None) -> GateState:
        """How the gate is at the moment."""
        now, knowledge = self._clock() if now_ms is None else now_ms, self._knowledge
        contact_ms = knowledge.contact_ms
        return GateState(
            ready=knowledge.ready,
            staleness_ms=None if contact_ms is None else max(0, now - contact_ms),
            is_stale=self.is_stale(now),
            lag=knowledge.lags.figures(now),
            in_flight=len(self.in_flight),
            reserved_micro=self.soft.reserved_micro,
            keys=len(self.limiter),
            forgotten=self.limiter.forgotten
            + self._intervals.forgotten
            + self._providers.forgotten
            + self.soft.forgotten,
        )

    def bound(self, *, offered_per_s: int, in_flight: int | None = None, now_ms: int | None = None) -> Bound | None:
        """How many requests may be admitted beyond a limit whose callers offer ``offered_per_s`` to all gates together,
        with ``in_flight`` of them running (None: as many as run here). None until a lag was measured."""
        state = self.state(now_ms)
        if state.lag.worst_ms is None:
            return None
        lag_ms = max(state.lag.worst_ms, state.staleness_ms or 0) + self.settings.publish_ms_max
        running = state.in_flight if in_flight is None else in_flight
        return Bound(-(-offered_per_s * lag_ms // 1000) + running, lag_ms)

    def features(self, key: Key, now_ms: int | None = None) -> Mapping[str, object]:
        """The plain flags of the key's plan, with the organization's own in their place; empty: nothing is known."""
        view = self._knowledge.view
        organization = view.organization(key.organization_id)
        catalogue = view.catalogue_at(self._clock() if now_ms is None else now_ms)
        if organization is None or catalogue is None:
            return {}
        return {**catalogue.plans[organization.tier].features, **(organization.features or {})}
