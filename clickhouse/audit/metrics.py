"""The audit's figures for Prometheus."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluicegate_schemas.alerts import DriftPair

from .auditor import Findings
from .differences import Difference

PAIRS: Final[tuple[DriftPair, ...]] = get_args(DriftPair)
BLOCKERS: Final = ("clickhouse", "kafka")


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
    """Reads ``status`` when it is asked."""

    def __init__(self, status: Status, clock: Callable[[], float] = time.time) -> None:
        self._status = status
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The families."""
        status = self._status
        differences = list(status.differences)
        credits_micro = GaugeMetricFamily(
            "sluicegate_audit_drift_credits_micro", "Credits by which the pair differs, without sign.", labels=["pair"]
        )
        events = GaugeMetricFamily(
            "sluicegate_audit_drift_events", "Events by which the pair differs, without sign.", labels=["pair"]
        )
        buckets = GaugeMetricFamily(
            "sluicegate_audit_buckets_differing", "Buckets in which the pair differs in anything.", labels=["pair"]
        )
        for pair in PAIRS:
            found = [one for one in differences if one.place.pair == pair]
            credits_micro.add_metric([pair], sum(abs(one.drift.credits_micro) for one in found))
            events.add_metric([pair], sum(abs(one.drift.events) for one in found))
            buckets.add_metric([pair], len(found))
        yield from (credits_micro, events, buckets)
        looks = list(status.findings.by_part.copy().values())
        yield GaugeMetricFamily(
            "sluicegate_audit_buckets_compared",
            "Months, sums and rolled sums that the newest looks compared.",
            value=sum(looked.compared for looked in looks),
        )
        yield GaugeMetricFamily(
            "sluicegate_audit_buckets_in_motion",
            "Sums that the newest looks could not compare at one cut: they change, or are on their way.",
            value=sum(looked.in_motion for looked in looks),
        )
        yield GaugeMetricFamily(
            "sluicegate_audit_age_seconds",
            "Since everything was last compared; since the start, if it never was.",
            value=status.age_s(self._clock()),
        )
        yield CounterMetricFamily(
            "sluicegate_audit_walks", "How often everything was compared.", value=status.findings.walks
        )
        yield GaugeMetricFamily("sluicegate_audit_alerts_open", "Drifts that fired.", value=status.alerts_open)
        blocked = GaugeMetricFamily(
            "sluicegate_audit_blocked", "1 while nothing can be compared because this is away.", labels=["by"]
        )
        for blocker in BLOCKERS:
            blocked.add_metric([blocker], float(status.blocked_by == blocker))
        yield blocked
