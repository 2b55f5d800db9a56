"""The usage API's figures for Prometheus."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.metrics import Family, Samples

from .live import Hub
from .parts import Parts
from .served import REFUSED, Served

FAMILIES: Final = (
    Family("sluicegate_api_balances", "gauge", (), "Balances that are held, of this month and the last."),
    Family("sluicegate_api_balances_incomplete", "gauge", (), "1 while one found no room: missing ones are 503."),
    Family("sluicegate_api_alerts", "gauge", (), "Alerts that are held."),
    Family("sluicegate_api_malformed_total", "counter", ("topic",), "Records that could not be read, by topic."),
    Family("sluicegate_api_staleness_seconds", "gauge", ("table",),
           "Since the broker last answered for a table's topics: knowledge, balances, alerts."),
    Family("sluicegate_api_streams", "gauge", (), "Live streams that are open."),
    Family("sluicegate_api_answer_seconds", "histogram", ("route", "status"),
           "From a request to the begin of its answer, by the route's template and the status' class."),
    Family("sluicegate_api_refused_total", "counter", ("audience", "status"),
           "Answers 401, 403 and 429 to operators and customers."),
)  # fmt: skip


class ApiCollector(Collector):
    """Collects from the scraping thread; only reads."""

    def __init__(self, parts: Parts, hubs: Sequence[Hub], served: Served) -> None:
        self._parts = parts
        self._served = served
        self._hubs = hubs

    def collect(self) -> Iterable[Metric]:
        """All families, with the values as of now."""
        samples, parts = Samples(FAMILIES), self._parts
        samples.add("sluicegate_api_balances", len(parts.balances))
        samples.add("sluicegate_api_balances_incomplete", float(not parts.balances.complete))
        samples.add("sluicegate_api_alerts", len(parts.alerts))
        samples.add("sluicegate_api_malformed_total", parts.balances.malformed, "balances")
        samples.add("sluicegate_api_malformed_total", parts.alerts.malformed, "alerts")
        following = {
            "knowledge": parts.knowledge_from,
            "balances": parts.balances_from,
            "alerts": parts.alerts_from,
        }
        for name, one in following.items():
            stale_ms = one.staleness_ms
            samples.add("sluicegate_api_staleness_seconds", None if stale_ms is None else stale_ms / 1000, name)
        samples.add("sluicegate_api_streams", sum(map(len, self._hubs)))
        for place, times in list(self._served.times.items()):
            samples.add_times("sluicegate_api_answer_seconds", times, *place)
        for audience in ("operator", "customer"):
            for status in REFUSED:
                count = self._served.refused[audience, status]
                samples.add("sluicegate_api_refused_total", count, audience, status)
        return samples.metrics()
