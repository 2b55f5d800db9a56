"""Metrics as they are declared: name, kind, labels, meaning. What is scraped and docs/metrics.md both come from it.

A collector makes ``Samples`` of the families that it declares; a name or label that was not declared is an error. Label
values are bounded: partitions, and words of a fixed list; never an organization, a key or an address.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from .engine.figures import BOUNDS_S, Times


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``name`` is as it is scraped: counters end in ``_total``, times in ``_seconds``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str


class Samples:
    """The values of one scrape."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = {family.name: family for family in families}
        self._metrics: dict[str, Metric] = {name: _metric(family) for name, family in self._families.items()}

    def add(self, name: str, value: float | None, *labels: object) -> None:
        """A value; None where there is nothing to say."""
        if value is not None:
            self._metric(name, labels).add_metric([str(label) for label in labels], value)  # type: ignore[attr-defined]  # counters and gauges

    def add_times(self, name: str, times: Times, *labels: object) -> None:
        """A histogram."""
        counts, total, buckets = list(times.counts), 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
            total += count
            buckets.append((bound, total))
        self._metric(name, labels).add_metric([str(label) for label in labels], buckets, times.sum_s)  # type: ignore[attr-defined]  # a histogram

    def _metric(self, name: str, labels: Sequence[object]) -> Metric:
        if len(labels) != len(self._families[name].labels):
            raise ValueError(f"{name} has the labels {self._families[name].labels}")
        return self._metrics[name]

    def metrics(self) -> list[Metric]:
        """All of them, those without a value too."""
        return list(self._metrics.values())


def _metric(family: Family) -> Metric:
    match family.kind:
        case "counter":
            return CounterMetricFamily(family.name.removesuffix("_total"), family.text, labels=family.labels)
        case "gauge":
            return GaugeMetricFamily(family.name, family.text, labels=family.labels)
        case "histogram":
            return HistogramMetricFamily(family.name, family.text, labels=family.labels)
