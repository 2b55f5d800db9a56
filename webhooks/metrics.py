"""The dispatcher's figures for Prometheus."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sluicegate.clock import epoch_ms
from sluicegate_schemas.deliveries import Failure
from streams.engine.figures import Times
from streams.metrics import Family, Samples

from .book import Book

FAMILIES: Final = (
    Family("sluicegate_webhooks_alerts_total", "counter", ("outcome",),
           "Records of the alerts topic: wanted by an endpoint or more, unwanted, malformed, lost to retention."),
    Family("sluicegate_webhooks_attempts_total", "counter", ("endpoint", "outcome"),
           "Attempts: delivered, or why they failed."),
    Family("sluicegate_webhooks_pending", "gauge", ("endpoint",), "Deliveries that are still to be made."),
    Family("sluicegate_webhooks_pending_bytes", "gauge", ("endpoint",), "Size of their alerts."),
    Family("sluicegate_webhooks_oldest_pending_seconds", "gauge", ("endpoint",),
           "How long the oldest of them has been tried for."),
    Family("sluicegate_webhooks_dead_letters", "gauge", ("endpoint",), "Deliveries that were given up and are kept."),
    Family("sluicegate_webhooks_deaths_total", "counter", ("outcome",), "Deliveries given up, by why."),
    Family("sluicegate_webhooks_forgotten_total", "counter", (), "Dead letters that had to make room."),
    Family("sluicegate_webhooks_repeated_total", "counter", (),
           "Deliveries not made, since the alerts topic repeated what was delivered or on its way."),
    Family("sluicegate_webhooks_delivery_seconds", "histogram", (), "From taking an alert in to its delivery."),
    Family("sluicegate_webhooks_lag_records", "gauge", (), "Records of the alerts topic that are not taken in."),
    Family("sluicegate_webhooks_rows_waiting", "gauge", (), "Rows of the deliveries topic that the broker may lack."),
    Family("sluicegate_webhooks_blocked", "gauge", (), "1 while Kafka is away, or another dispatcher has taken over."),
)  # fmt: skip


class LaneFigures:
    """Of one endpoint."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.delivery = Times()

    def note(self, failure: Failure | None, taken_for_s: float) -> None:
        """An attempt ended, so long after the alert was taken in."""
        self.attempts[failure or "delivered"] += 1
        if failure is None:
            self.delivery.observe(taken_for_s)


@dataclass(slots=True)
class Status:
    """What the dispatcher does now, for metrics and health."""

    book: Book
    figures: Mapping[str, LaneFigures]
    waits_for: Callable[[], str]
    """What it is not ready for, in words; empty while it follows."""
    rows_waiting: Callable[[], int]
    alerts: Counter[str] = field(default_factory=Counter)
    """Records taken in, by outcome."""
    lag_records: int | None = None
    partitions: Sequence[str] = ()


class DispatcherCollector(Collector):
    """Collects from the scraping thread; only reads."""

    def __init__(self, status: Status, clock: Callable[[], int] = epoch_ms) -> None:
        self._status = status
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """All families, with the values as of now."""
        samples, status, book = Samples(FAMILIES), self._status, self._status.book
        for outcome, count in list(status.alerts.items()):
            samples.add("sluicegate_webhooks_alerts_total", count, outcome)
        total = Times()
        for name, figures in status.figures.items():
            for outcome, count in list(figures.attempts.items()):
                samples.add("sluicegate_webhooks_attempts_total", count, name, outcome)
            total.counts = [one + more for one, more in zip(total.counts, figures.delivery.counts, strict=True)]
            total.sum_s += figures.delivery.sum_s
        now_ms = self._clock()
        for name, shelf in list(book.shelves.items()):
            taken_ms = min((one.taken_at_ms for one in list(shelf.pending.values())), default=now_ms)
            samples.add("sluicegate_webhooks_pending", len(shelf.pending), name)
            samples.add("sluicegate_webhooks_pending_bytes", shelf.pending_bytes, name)
            samples.add("sluicegate_webhooks_oldest_pending_seconds", max(0, now_ms - taken_ms) / 1000, name)
            samples.add("sluicegate_webhooks_dead_letters", len(shelf.dead), name)
        for failure, count in list(book.deaths.items()):
            samples.add("sluicegate_webhooks_deaths_total", count, failure)
        samples.add("sluicegate_webhooks_forgotten_total", book.forgotten)
        samples.add("sluicegate_webhooks_repeated_total", book.repeated)
        samples.add_times("sluicegate_webhooks_delivery_seconds", total)
        samples.add("sluicegate_webhooks_lag_records", status.lag_records)
        samples.add("sluicegate_webhooks_rows_waiting", status.rows_waiting())
        samples.add("sluicegate_webhooks_blocked", float(bool(status.waits_for())))
        return samples.metrics()
