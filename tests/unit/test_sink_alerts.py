"""Alerts on their topic, and what they come to in ClickHouse."""

import logging
from pathlib import Path
from typing import Any

import pytest

from clickhouse.alerts import AlertRow, AlertRows
from clickhouse.intake import Intake, PositionError
from clickhouse.patience import Patience
from clickhouse.record_rows import RecordFormatError
from clickhouse.tables import PositionRow
from sluicegate_schemas.bounds import from_epoch_ms
from tests.alerting import credit_world, spend
from tests.domain_world import NOW_MS
from tests.state_log import Record

DRIFT = Path(__file__).parents[1] / "contract/golden/alert_audit_drift.json"


def row_of(value: bytes) -> AlertRow:
    rows = AlertRows("alerts/0")
    rows.feed([Record(0, b"k", value)])
    [row] = rows.take()
    return row


def test_what_workers_tell_when_an_account_crosses_a_threshold_is_a_row_of_its_own_organization() -> None:
    world = credit_world("credits_80")
    spend(world, 850, NOW_MS)
    [fired] = [row_of(record.value) for record in world.durable if record.topic == "alerts"]
    assert (fired.state, fired.rule, fired.scope_kind, fired.unit) == (
        "fired",
        "credits_80",
        "account",
        "credits_micro",
    )
    assert fired.organization_id == fired.account_id == fired.scope_id != ""
    assert (fired.observed, fired.limit_value) == (850_000_000, 1_000_000_000)
    assert fired.fired_at == fired.at
    assert fired.reset_at is not None
    assert from_epoch_ms(fired.reset_at).day == 1


def test_a_drift_is_no_alert_of_an_account() -> None:
    drift = row_of(DRIFT.read_bytes())
    assert (drift.kind, drift.rule, drift.account_id, drift.observed, drift.unit) == (
        "audit_drift", "cells_minute", "", 1, "buckets",
    )  # fmt: skip
    assert drift.sentence.startswith("In the minute")


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"kind": "usage"}'])
def test_a_record_that_is_no_alert_is_refused_with_its_place(value: bytes | None) -> None:
    with pytest.raises(RecordFormatError, match="alerts/0, offset 7"):
        AlertRows("alerts/0").feed([Record(7, b"k", value)])


class Stored:
    """Tables that hold positions."""

    def __init__(self, *positions: PositionRow) -> None:
        self._positions = {(row.topic, row.partition): row for row in positions}

    def positions(self) -> dict[tuple[str, int], PositionRow]:
        return self._positions


async def starts(topic: str, held: int, first: int, end: int) -> dict[tuple[str, int], int]:
    """Where a sink goes on that holds the topic up to ``held``, while its log holds ``first`` to ``end``."""
    stored: Any = Stored(PositionRow(topic, 0, held, 0, 0))

    async def ranges() -> dict[tuple[str, int], tuple[int, int]]:
        return {(topic, 0): (first, end)}

    return await Intake(stored, Patience(), topic_prefix="").positions(ranges)


async def test_alerts_that_expired_before_the_sink_came_are_said_and_gone_on_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await starts("alerts", 5, 9, 20) == {("alerts", 0): 9}
    [record] = caplog.records
    assert (record.levelno, "4 records" in record.getMessage()) == (logging.ERROR, True)
    assert await starts("alerts", 9, 9, 20) == {("alerts", 0): 9}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("topic", "first", "end"), [("decisions", 9, 20), ("alerts", 0, 4)])
async def test_a_log_that_was_cut_is_refused_all_the_same(topic: str, first: int, end: int) -> None:
    with pytest.raises(PositionError):
        await starts(topic, 5, first, end)
