"""The metrics: declared, named by Prometheus' conventions, bounded, and described in docs/metrics.md."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickhouse.audit.metrics import FAMILIES as AUDIT
from clickhouse.metrics import FAMILIES as SINK
from stack.metrics_page import PAGE, page
from streams.engine.figures import BOUNDS_S, Figures, PartitionFigures, Times
from streams.metrics import Family, Samples
from streams.worker_metrics import FAMILIES as WORKER
from webhooks.metrics import FAMILIES as WEBHOOKS

ALL = (*WORKER, *SINK, *AUDIT, *WEBHOOKS)


def test_the_page_says_what_the_code_declares() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m stack.metrics_page"


def test_each_metric_is_declared_once_and_named_by_the_conventions() -> None:
    names = [family.name for family in ALL]
    assert len(set(names)) == len(names)
    for family in ALL:
        assert re.fullmatch(r"sluicegate_[a-z]+(_[a-z]+)*", family.name), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.kind != "histogram" or family.name.endswith("_seconds"), family.name
        assert family.text.endswith("."), family.name


def test_no_label_has_the_values_of_a_tenant() -> None:
    bounded = {"partition", "topic", "table", "reason", "outcome", "cause", "pair", "by", "endpoint"}
    assert {label for family in ALL for label in family.labels} <= bounded


def test_what_was_not_declared_is_an_error() -> None:
    samples = Samples([Family("sluicegate_x_total", "counter", ("reason",), "X.")])
    with pytest.raises(KeyError):
        samples.add("sluicegate_y_total", 1)
    with pytest.raises(ValueError, match="has the labels"):
        samples.add("sluicegate_x_total", 1)


@given(st.lists(st.floats(-1, 100)))
def test_a_histogram_counts_each_time_once_below_its_bound(seconds: list[float]) -> None:
    times = Times()
    for one in seconds:
        times.observe(one)
    samples = Samples([Family("sluicegate_x_seconds", "histogram", (), "X.")])
    samples.add_times("sluicegate_x_seconds", times)
    (metric,) = samples.metrics()
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in metric.samples}
    for bound in BOUNDS_S:
        assert values["sluicegate_x_seconds_bucket", str(bound)] == sum(one <= bound for one in seconds)
    assert values["sluicegate_x_seconds_count", None] == len(seconds)
    assert values["sluicegate_x_seconds_sum", None] == pytest.approx(sum(max(0.0, one) for one in seconds))


def tally(counted: int, too_old: int) -> tuple[dict[str, int], dict[str, int]]:
    return {"counted": counted, "rejected": too_old}, {"too_old": too_old} if too_old else {}


def test_events_count_when_their_flush_stands_and_not_when_their_owner_is_fenced() -> None:
    figures = PartitionFigures()
    figures.recovered(0.1, 10, 0, tally(1000, 0))
    figures.flush_begins(5, tally(1040, 2))
    assert not figures.events
    figures.flush_is_true(0)
    assert dict(figures.events) == {"counted": 40, "rejected": 2}
    assert dict(figures.rejects) == {"too_old": 2}
    figures.flush_begins(5, tally(1100, 2))
    figures.recovered(0.1, 10, 3, tally(1040, 2))  # the flush never stood: its successor starts where the log does
    figures.flush_begins(5, tally(1041, 2))
    figures.flush_is_true(7)
    assert figures.events["counted"] == 41
    assert (figures.recoveries, figures.void_records, figures.repairs, figures.flushes) == (2, 3, 7, 2)


def test_a_claim_is_no_flush_and_figures_outlive_an_owner() -> None:
    figures = Figures()
    figures.of(3).recovered(0.1, 1, 0, None)
    figures.of(3).flush_begins(2, None)
    figures.of(3).flush_is_true(0)
    assert (figures.of(3).flushes, dict(figures.of(3).events)) == (1, {})
