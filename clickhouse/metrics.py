"""The metrics of a sink, read when they are scraped."""

from collections.abc import Iterable
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.metrics import Family, Samples

from .sight import SinkSight
from .tables import Tables

_PARTITION: Final = ("topic", "partition")

FAMILIES: Final = (
    Family("sluicegate_sink_partitions_assigned", "gauge", (), "Partitions that the group gave this sink."),
    Family("sluicegate_sink_delay_records", "gauge", _PARTITION, "Records of the log that ClickHouse does not hold."),
    Family("sluicegate_sink_delay_seconds", "gauge", _PARTITION, "How long the oldest of them has been in the log."),
    Family("sluicegate_sink_inserts_total", "counter", ("table",), "Inserts that ClickHouse acknowledged."),
    Family("sluicegate_sink_rows_total", "counter", ("table",), "Rows in them; over the inserts: the batch size."),
    Family("sluicegate_sink_insert_seconds", "histogram", (), "From an insert's begin to ClickHouse's answer."),
    Family("sluicegate_sink_retries_total", "counter", (), "Calls to ClickHouse that failed and are done again."),
    Family("sluicegate_sink_clickhouse_away_seconds", "gauge", (),
           "For how long ClickHouse has been away; 0 while it answers."),
    Family("sluicegate_sink_rows_waiting", "gauge", (), "Rows in memory that no insert has taken."),
    Family("sluicegate_sink_bytes_waiting", "gauge", (), "Size of the records that they came from."),
)  # fmt: skip


class SinkMetrics(Collector):
    """Collects from the scraping thread; only reads."""

    def __init__(self, sight: SinkSight, tables: Tables) -> None:
        self._sight = sight
        self._tables = tables

    def collect(self) -> Iterable[Metric]:
        """All families, with the values as of now."""
        samples, sight, tables = Samples(FAMILIES), self._sight, self._tables
        assigned = sight.assigned() or ()
        samples.add("sluicegate_sink_partitions_assigned", len(assigned))
        for name in assigned:
            if (delay := sight.delay(name)) is not None:
                samples.add("sluicegate_sink_delay_records", delay.records, *name)
                samples.add("sluicegate_sink_delay_seconds", delay.seconds, *name)
        for table, count in list(tables.inserts.items()):
            samples.add("sluicegate_sink_inserts_total", count, table)
            samples.add("sluicegate_sink_rows_total", tables.rows[table], table)
        samples.add_times("sluicegate_sink_insert_seconds", tables.insert_times)
        samples.add("sluicegate_sink_retries_total", sight.patience.failures)
        samples.add("sluicegate_sink_clickhouse_away_seconds", sight.patience.away_s)
        rows, size_bytes = sight.intake.waiting()
        samples.add("sluicegate_sink_rows_waiting", rows)
        samples.add("sluicegate_sink_bytes_waiting", size_bytes)
        return samples.metrics()
