"""The metrics of a worker, read from its engine when they are scraped."""

from collections.abc import Iterable
from time import monotonic
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sluicegate_schemas.topics import ACCOUNTS, USAGE

from .engine.machine import Measured
from .engine.runner import Runner
from .engine.sight import Sight
from .metrics import Family, Samples

_PARTITION: Final = ("partition",)

FAMILIES: Final = (
    Family("sluicegate_partitions_assigned", "gauge", (), "Usage partitions that the group gave this worker."),
    Family("sluicegate_partitions_ready", "gauge", (), "Those of them that are recovered and owned."),
    Family("sluicegate_lag_records", "gauge", _PARTITION, "Usage records in the log that are not applied (ticks too)."),
    Family("sluicegate_lag_events", "gauge", _PARTITION,
           "About how many events are in them, by what a record has held so far."),
    Family("sluicegate_lag_seconds", "gauge", _PARTITION, "Age of the oldest usage record that is not applied."),
    Family("sluicegate_events_total", "counter", ("partition", "outcome"),
           "Events by what became of them (counted, duplicate, rejected, forwarded), once the flush with them stands."),
    Family("sluicegate_rejects_total", "counter", ("partition", "reason"),
           "Rejected events, records and operator commands, once the flush with them stands."),
    Family("sluicegate_fetched_batches_total", "counter", _PARTITION, "Batches of usage that fetches brought."),
    Family("sluicegate_fetched_records_total", "counter", _PARTITION,
           "Records in them; over the batches: the batch size."),
    Family("sluicegate_fetch_delay_seconds", "histogram", (),
           "From the broker's append of a batch's newest usage record to its delivery, by both clocks."),
    Family("sluicegate_apply_delay_seconds", "histogram", (), "From a batch's delivery until all of it is applied."),
    Family("sluicegate_flushes_total", "counter", _PARTITION, "Flushes that took effect."),
    Family("sluicegate_flushed_records_total", "counter", _PARTITION, "State records sent with flushes."),
    Family("sluicegate_flush_seconds", "histogram", (), "From a flush's send to the broker's reply."),
    Family("sluicegate_flush_waiting_seconds", "gauge", _PARTITION, "How long the flush under way has no reply."),
    Family("sluicegate_publish_seconds", "histogram", ("topic",), "From an output's being due to the broker's reply."),
    Family("sluicegate_published_total", "counter", ("topic",),
           "Outputs that the broker has; topic decisions: decisions published."),
    Family("sluicegate_outputs_waiting", "gauge", _PARTITION, "Outputs that are due and not acknowledged."),
    Family("sluicegate_outbox_bytes", "gauge", _PARTITION, "Durable outputs that each flush header carries."),
    Family("sluicegate_recoveries_total", "counter", _PARTITION, "Recoveries that ended with an owned partition."),
    Family("sluicegate_recovery_seconds", "gauge", _PARTITION, "How long the last one took."),
    Family("sluicegate_recovery_rows", "gauge", _PARTITION, "Rows that it restored."),
    Family("sluicegate_void_records_total", "counter", _PARTITION,
           "Records of fenced owners that recoveries left out."),
    Family("sluicegate_repairs_total", "counter", _PARTITION,
           "State rows written again, since a fenced owner had written to them behind a claim."),
    Family("sluicegate_partitions_given_up_total", "counter", ("cause",),
           "Partitions given up: claimed (fenced by another worker), append, publish, log, broker."),
    Family("sluicegate_rebalances_total", "counter", (), "Assignments that the group gave."),
    Family("sluicegate_rejoins_total", "counter", (), "Those that this worker asked for."),
    Family("sluicegate_state_rows", "gauge", ("partition", "table"), "Rows of the state in memory."),
    Family("sluicegate_dedup_reach_seconds", "gauge", _PARTITION,
           "How far back in log time repeats are known; older events are rejected."),
    Family("sluicegate_dedup_oldest_id_seconds", "gauge", _PARTITION,
           "Age in log time of the oldest event whose own id is remembered; their number: state_rows, event_ids."),
    Family("sluicegate_accounts_lag_records", "gauge", _PARTITION, "Operator commands in the log, not applied."),
    Family("sluicegate_accounts_age_seconds", "gauge", _PARTITION,
           "How long there have been operator commands that are not applied."),
    Family("sluicegate_catalogue_age_seconds", "gauge", (), "Since the catalogue was last known to be current."),
    Family("sluicegate_catalogue_version", "gauge", _PARTITION, "The catalogue version in force."),
    Family("sluicegate_lease_seconds", "gauge", (),
           "How long this worker may surely still flush without another heartbeat; negative: it may not."),
    Family("sluicegate_state_unsunk_records", "gauge", _PARTITION,
           "State records that no sink has brought to ClickHouse, as its group says."),
)  # fmt: skip


class WorkerMetrics(Collector):
    """Collects from the scraping thread; only reads."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        settings = sight.engine.settings
        self._accounts_topic = settings.topic(ACCOUNTS.name)
        self._usage_topic = settings.topic(USAGE.name)

    def collect(self) -> Iterable[Metric]:
        """All families, with the values as of now."""
        samples = Samples(FAMILIES)
        engine = self._sight.engine
        runners = dict(engine.runners)
        now = monotonic()
        samples.add("sluicegate_partitions_assigned", len(engine.assigned or ()))
        samples.add("sluicegate_partitions_ready", sum(runner.ready for runner in runners.values()))
        if engine.catalogue_seen_at is not None:
            samples.add("sluicegate_catalogue_age_seconds", now - engine.catalogue_seen_at)
        if engine.assigned is not None and (lease_s := engine.lease_until - now) > float("-inf"):
            samples.add("sluicegate_lease_seconds", lease_s)
        self._of_engine(samples)
        for partition, runner in runners.items():
            if runner.ready:
                self._of_owner(samples, partition, runner, now)
        return samples.metrics()

    def _of_engine(self, samples: Samples) -> None:
        figures = self._sight.engine.figures
        samples.add("sluicegate_rebalances_total", figures.rebalances)
        samples.add("sluicegate_rejoins_total", figures.rejoins)
        for cause, count in list(figures.drops.items()):
            samples.add("sluicegate_partitions_given_up_total", count, cause)
        for topic, count in list(figures.published.items()):
            samples.add("sluicegate_published_total", count, topic)
        samples.add_times("sluicegate_fetch_delay_seconds", figures.fetch_delay)
        samples.add_times("sluicegate_apply_delay_seconds", figures.apply_delay)
        samples.add_times("sluicegate_flush_seconds", figures.flush)
        for topic, times in list(figures.publish.items()):
            samples.add_times("sluicegate_publish_seconds", times, topic)
        for partition, of in list(figures.partitions.items()):
            for outcome, count in list(of.events.items()):
                samples.add("sluicegate_events_total", count, partition, outcome)
            for reason, count in list(of.rejects.items()):
                samples.add("sluicegate_rejects_total", count, partition, reason)
            samples.add("sluicegate_fetched_batches_total", of.batches, partition)
            samples.add("sluicegate_fetched_records_total", of.records, partition)
            samples.add("sluicegate_flushes_total", of.flushes, partition)
            samples.add("sluicegate_flushed_records_total", of.flush_rows, partition)
            samples.add("sluicegate_recoveries_total", of.recoveries, partition)
            samples.add("sluicegate_recovery_seconds", of.recovery_s, partition)
            samples.add("sluicegate_recovery_rows", of.recovery_rows, partition)
            samples.add("sluicegate_void_records_total", of.void_records, partition)
            samples.add("sluicegate_repairs_total", of.repairs, partition)

    def _of_owner(self, samples: Samples, partition: int, runner: Runner, now: float) -> None:
        core, machine = runner.core, runner.core.machine
        if (lag := self._sight.lag(runner)) is not None:
            samples.add("sluicegate_lag_records", lag.records, partition)
            samples.add("sluicegate_lag_events", lag.events, partition)
            samples.add("sluicegate_lag_seconds", lag.seconds, partition)
        since = runner.appending_since
        samples.add("sluicegate_flush_waiting_seconds", 0.0 if since is None else now - since, partition)
        samples.add("sluicegate_outputs_waiting", core.outbox.unacknowledged, partition)
        samples.add("sluicegate_outbox_bytes", core.outbox.durable_bytes, partition)
        samples.add("sluicegate_catalogue_version", machine.catalogue_version, partition)
        if (end := self._sight.ends.of(self._accounts_topic, partition)) is not None:
            behind_since = end.behind_since(core.accounts_next)
            samples.add("sluicegate_accounts_lag_records", max(0, end.offset - core.accounts_next), partition)
            samples.add("sluicegate_accounts_age_seconds", 0 if behind_since is None else now - behind_since, partition)
        if (sunk := runner.figures.of(partition).sink_offset) is not None:
            samples.add("sluicegate_state_unsunk_records", max(0, core.state_end_known - sunk), partition)
        if isinstance(machine, Measured):
            rows, dedup_from_ms, oldest_id_ms = machine.sizes()
            for table, count in rows.items():
                samples.add("sluicegate_state_rows", count, partition, table)
            log_time_ms = machine.log_time_ms
            if dedup_from_ms is not None and log_time_ms:
                samples.add("sluicegate_dedup_reach_seconds", (log_time_ms - dedup_from_ms) / 1000, partition)
            if oldest_id_ms is not None and log_time_ms:
                samples.add("sluicegate_dedup_oldest_id_seconds", (log_time_ms - oldest_id_ms) / 1000, partition)
