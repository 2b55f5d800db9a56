"""Which limits refuse a request: by the workers' verdicts, and by what this process itself knows."""

from collections.abc import Sequence
from typing import Final

from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.limits import LimitName, QuantityPerMinute

from ..follower.entries import Verdict
from .answer import Admission
from .in_flight import Serving
from .limiter import MINUTE_MS, SECOND_MS
from .quantities import Provider, ProviderBuckets
from .refusals import SLOT_RETRY_MS, Fired
from .subjects import Intervals, Subject
from .terms import Terms
from .verdicts import LIMITS, MONEY

_SECOND_BUCKET: Final[LimitName] = "requests_per_second"
_TOLD_FROM_PERCENT: Final = 80
"""From so much of a quota on workers tell each change of its count."""


def provider_charges(admission: Admission, charges: Sequence[WireCharge]) -> list[tuple[Provider, int, int]]:
    """What ``charges`` take of the limits that an organization's operations have per minute: (provider, limit, amount).
    Cache hits take nothing (requirements, section 9)."""
    found = []
    for charge in charges:
        limit = admission.terms.card.priced(charge.operation).quantity
        if limit is not None and not charge.cached and "operation_quantity" not in admission.terms.exempt:
            provider = Provider(admission.key.organization_id, charge.operation)
            found.append((provider, limit.limit, _amount(limit, charge)))
    return found


def _amount(limit: QuantityPerMinute, charge: WireCharge) -> int:
    return max(0, (charge.quantities or {}).get(limit.quantity, 1 if limit.quantity == "requests" else 0))


def throttling_verdicts(verdicts: Sequence[Verdict], terms: Terms, is_cached: bool, now_ms: int) -> list[Fired]:
    """The blocks that answer 429, but for the organization's concurrency: see ``slots``."""
    fired = []
    for verdict in verdicts:
        if not verdict.blocks or verdict.limit_name == "concurrency":
            continue
        match LIMITS[verdict.limit_name].refusal:
            case "bucket":
                if not (is_cached and verdict.limit_name == "operation_quantity"):
                    fired.append(_bucket(verdict, terms, now_ms))
            case "slots":
                fired.append(_fired(verdict, now_ms + SLOT_RETRY_MS))
            case "interval":
                once = terms.priced.once
                seconds = 60 if once is None else once.seconds
                clears_at_ms = verdict.until_ms or now_ms + seconds * SECOND_MS
                fired.append(_fired(verdict, clears_at_ms)._replace(window_ms=seconds * SECOND_MS))
    return fired


def _fired(verdict: Verdict, clears_at_ms: int | None) -> Fired:
    return Fired(verdict.limit_name, verdict.scope, verdict.limit, verdict.observed, clears_at_ms, verdict.decision_id)


def _bucket(verdict: Verdict, terms: Terms, now_ms: int) -> Fired:
    """A worker's bucket in debt. It holds ``observed``, so it is full again later than the gate's; a block without an
    end is tried again after one period."""
    window_ms = SECOND_MS if verdict.limit_name == _SECOND_BUCKET else MINUTE_MS
    own = next((bucket for bucket in terms.buckets if bucket.name == verdict.limit_name), None)
    rate = max(1, verdict.limit) if own is None else own.rate
    clears_at_ms = now_ms + window_ms if verdict.until_ms is None else verdict.until_ms
    drained_at_ms = verdict.decided_at_ms - (-verdict.observed * window_ms // rate)
    return _fired(verdict, clears_at_ms)._replace(limit=rate, window_ms=window_ms, full_at_ms=drained_at_ms)


def slots(serving: Serving | None, verdicts: Sequence[Verdict], admission: Admission, now_ms: int) -> list[Fired]:
    """Concurrency: of the organization (what runs here, and elsewhere by the workers' last word), and of a subject."""
    fired = []
    terms, organization_id = admission.terms, admission.key.organization_id
    said = next((verdict for verdict in verdicts if verdict.limit_name == "concurrency"), None)
    limit = terms.concurrency if terms.concurrency is not None or said is None or not said.blocks else said.limit
    if limit is not None:
        own = 0 if serving is None else serving.running
        others = 0 if said is None else said.observed if serving is None else serving.others(said, now_ms)
        if own + others >= limit:
            decision_id = None if said is None or own >= limit else said.decision_id
            scope = f"organization:{organization_id}"
            fired.append(Fired("concurrency", scope, limit, own + others, now_ms + SLOT_RETRY_MS, decision_id))
    concurrent, subject = terms.priced.concurrent, admission.asked.subject
    if concurrent is not None and subject is not None and serving is not None:
        running = serving.subjects[concurrent.operation, subject]
        if running >= concurrent.limit and "operation_concurrency" not in terms.exempt:
            scope = f"operation:{organization_id}:{concurrent.operation}:{subject}"
            until_ms = now_ms + SLOT_RETRY_MS
            fired.append(Fired("operation_concurrency", scope, concurrent.limit, running, until_ms))
    return fired


def interval(intervals: Intervals, admission: Admission, now_ms: int) -> list[Fired]:
    """One request per subject in so many seconds."""
    once = admission.terms.priced.once
    subject = subject_of(admission)
    if once is None or subject is None:
        return []
    until_ms = intervals.until_ms(subject, now_ms)
    if until_ms is None:
        return []
    scope = f"operation:{subject.organization_id}:{subject.operation}:{subject.subject}"
    return [Fired("operation_interval", scope, 1, 1, until_ms, window_ms=once.seconds * SECOND_MS)]


def subject_of(admission: Admission) -> Subject | None:
    """The subject that may be admitted only once in a while; None where there is none, or that limit is off."""
    asked, terms = admission.asked, admission.terms
    if terms.priced.once is None or asked.subject is None or "operation_interval" in terms.exempt:
        return None
    return Subject(admission.key.organization_id, asked.operation, asked.subject)


def providers(buckets: ProviderBuckets, admission: Admission, now_ms: int) -> list[Fired]:
    """What an organization may use of a provider in a minute."""
    fired = []
    for provider, limit, amount in provider_charges(admission, admission.asked.all_charges()):
        wait_ms = buckets.wait_ms(provider, limit, max(1, amount), now_ms)
        if wait_ms:
            scope = f"operation:{provider.organization_id}:{provider.operation}"
            fired.append(Fired("operation_quantity", scope, limit, limit, now_ms + wait_ms, window_ms=MINUTE_MS))
    return fired


def money_blocks(verdicts: Sequence[Verdict]) -> list[Fired]:
    """Credits and budgets that are used up."""
    return [_fired(one, one.until_ms) for one in verdicts if one.blocks and one.limit_name in MONEY]


def amounts(verdicts: Sequence[Verdict], admission: Admission) -> list[Fired]:
    """Quotas that the request would pass, and more of something than one request may ask for."""
    asked, terms = admission.asked, admission.terms
    scope = f"organization:{admission.key.organization_id}"
    fired = []
    if terms.quota is not None and asked.creates > 0:
        limit_name, limit = terms.quota.limit_name, terms.quota.limit
        said = next((verdict for verdict in verdicts if verdict.limit_name == limit_name), None)
        if said is not None and not said.blocks and said.observed * 100 < said.limit * _TOLD_FROM_PERCENT:
            said = None  # it fell below what workers tell of, and may have fallen further since
        if said is not None and (said.blocks or (limit is not None and said.observed + asked.creates > limit)):
            fired.append(_fired(said, said.until_ms)._replace(requested=asked.creates))
        elif said is None and limit is not None and asked.creates > limit:
            fired.append(Fired(limit_name, scope, limit, None, None, requested=asked.creates))
    if terms.objects_per_batch is not None and asked.objects is not None and asked.objects > terms.objects_per_batch:
        limit = terms.objects_per_batch
        fired.append(Fired("objects_per_batch", scope, limit, None, None, requested=asked.objects))
    results = None if "operation_results" in terms.exempt else terms.priced.results
    if results is not None and asked.results is not None and asked.results > results.limit:
        fired.append(Fired("operation_results", scope, results.limit, None, None, requested=asked.results))
    return fired
