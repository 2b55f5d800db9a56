"""The audit's figures for Prometheus."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sluicegate_schemas.alerts import DriftPair
from streams.metrics import Family, Samples

from .auditor import Findings
from .differences import Difference

PAIRS: Final[tuple[DriftPair, ...]] = get_args(DriftPair)
BLOCKERS: Final = ("clickhouse", "kafka")
FAMILIES: Final = (
    Family("sluicegate_audit_drift_credits_micro", "gauge", ("pair",), "Credits by which the pair differs, unsigned."),
    Family("sluicegate_audit_drift_events", "gauge", ("pair",), "Events by which the pair differs, unsigned."),
    Family("sluicegate_audit_buckets_differing", "gauge", ("pair",), "Buckets in which the pair differs in anything."),
    Family("sluicegate_audit_buckets_compared", "gauge", (), "Months and sums that the newest looks compared."),
    Family("sluicegate_audit_buckets_in_motion", "gauge", (),
           "Sums that they could not compare at one cut: they change, or are on their way."),
    Family("sluicegate_audit_age_seconds", "gauge", (),
           "Since everything was last compared; since the start, if it never was."),
    Family("sluicegate_audit_walks_total", "counter", (), "How often everything was compared."),
    Family("sluicegate_audit_alerts_open", "gauge", (), "Alerts of drift that fired and have not cleared."),
    Family("sluicegate_audit_blocked", "gauge", ("by",), "1 while nothing can be compared because this is away."),
)  # fmt: skip


@dataclass(slots=True)
class Status:
    """What the audit does now, for metrics and health."""

    findings: Findings
    differences: Sequence[Difference] = ()
    alerts_open: int = 0
    blocked_by: str = ""
    """One of ``BLOCKERS``; empty while it can compare."""
    partitions: Sequence[str] = ()
    has_begun: bool = False
    started_at_s: float = field(default_factory=time.time)

    def age_s(self, now_s: float) -> float:
        """How long ago everything had been compared, or this process began."""
        walked_at_s = self.findings.walked_at_s
        return now_s - (self.started_at_s if walked_at_s is None else walked_at_s)


class AuditCollector(Collector):
    """Collects from the scraping thread; only reads."""

    def __init__(self, status: Status, clock: Callable[[], float] = time.time) -> None:
        self._status = status
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """All families, with the values as of now."""
        samples, status = Samples(FAMILIES), self._status
        differences = list(status.differences)
        for pair in PAIRS:
            found = [one for one in differences if one.place.pair == pair]
            credits_micro = sum(abs(one.drift.credits_micro) for one in found)
            samples.add("sluicegate_audit_drift_credits_micro", credits_micro, pair)
            samples.add("sluicegate_audit_drift_events", sum(abs(one.drift.events) for one in found), pair)
            samples.add("sluicegate_audit_buckets_differing", len(found), pair)
        looks = list(status.findings.by_part.copy().values())
        samples.add("sluicegate_audit_buckets_compared", sum(looked.compared for looked in looks))
        samples.add("sluicegate_audit_buckets_in_motion", sum(looked.in_motion for looked in looks))
        samples.add("sluicegate_audit_age_seconds", status.age_s(self._clock()))
        samples.add("sluicegate_audit_walks_total", status.findings.walks)
        samples.add("sluicegate_audit_alerts_open", status.alerts_open)
        for blocker in BLOCKERS:
            samples.add("sluicegate_audit_blocked", float(status.blocked_by == blocker), blocker)
        return samples.metrics()
