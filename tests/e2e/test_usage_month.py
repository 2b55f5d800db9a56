"""A month that is over says the same for ever: from its balance while that is held, then from ClickHouse."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from clickhouse.month_rows import MonthRow, MonthRows, final_balance
from clickhouse.queries import Usage, UsageOf
from clickhouse.record_rows import RecordFormatError
from tests.api_world import World, balance_record
from tests.gating import NOW_MS
from tests.state_log import Record

pytestmark = pytest.mark.engine

OVER = "2026-02"
"""The month before the one that runs in the world."""
LATER_MS = int(datetime(2026, 4, 20, tzinfo=UTC).timestamp() * 1000) - NOW_MS
CORRECTED = {
    "month": OVER,
    "used_micro": 7_500_001,
    "total_micro": 5_000_000,
    "overage_micro": 2_500_001,
    "granted_micro": 1_000_000,
    "breakdown_micro": {"search": 6_500_001, "upload": 1_000_000},
    "corrections_micro": {"2026-01": 2_000_000},
    "requests": 65,
    "served": {"requests": 60, "failures": 1, "p50_ms": 12, "p99_ms": 460},
    "final": True,
}
PATHS = ("usage", "usage/api-keys/key_heron_1", "sla")


def rows_of(records: Iterable[tuple[bytes, bytes | None]]) -> list[MonthRow]:
    """What the sink makes of balances."""
    rows = MonthRows("balances/0")
    rows.feed([Record(offset, key, value, timestamp=NOW_MS) for offset, (key, value) in enumerate(records)])
    return rows.take()


def sink(client: Client, *records: tuple[bytes, bytes | None]) -> None:
    for row in rows_of(records):
        client.insert("usage_month", [row], column_names=MonthRow._fields)


def told(counter: int = 1, kind: str = "organization", name: str = "org_heron", **fields: Any) -> tuple[bytes, bytes]:
    return balance_record(kind, name, **{**CORRECTED, "sequence": {"epoch": 1 << 32, "counter": counter}, **fields})


def world_of(client: Client) -> World:
    world = World()
    world.history.says["final_balance"] = lambda *asked: final_balance(client, *asked)
    return world


def answers(world: World) -> list[dict[str, Any]]:
    """All that is said of the month, but how long it took."""
    bodies = [world.get(f"/v1/organizations/{path}?month={OVER}").json() for path in PATHS]
    return [{name: value for name, value in body.items() if name != "lag_ms"} for body in bodies]


@pytest.mark.contract("1.19")
def test_a_month_is_answered_the_same_before_and_after_its_balance_is_let_go(client: Client) -> None:
    world = world_of(client)
    records = [told(), told(kind="key", name="key_heron_1", total_micro=None, overage_micro=0, served=None)]
    for key, value in records:
        world.balances.apply(key, value, NOW_MS)
    sink(client, *records)
    held = answers(world)
    assert world.history.asked == []
    world.now_ms += LATER_MS
    past = answers(world)
    assert {name for name, _, _ in world.history.asked} == {"final_balance"}
    assert past == held
    usage, key, service = past
    assert (usage["final"], usage["credits"]["total"], usage["credits"]["used"]) == (True, 5, 7.500001)
    assert (usage["corrections"], usage["requests"]) == ({"2026-01": 2}, 65)
    assert (key["final"], key["credits"]["total"], key["credits"]["used"]) == (True, None, 7.500001)
    assert (service["final"], service["requests"], service["latency_p99_ms"]) == (True, 60, 460)


def test_another_organizations_month_is_not_found(client: Client) -> None:
    sink(client, told(name="org_finch"), told(kind="key", name="key_heron_1", organization_id="org_finch"))
    assert final_balance(client, "org_heron", "organization", "org_finch", OVER) is None
    assert final_balance(client, "org_heron", "key", "key_heron_1", OVER) is None
    assert final_balance(client, "org_finch", "key", "key_heron_1", OVER) is not None


def test_a_month_whose_end_was_not_seen_is_told_by_time_of_use_and_is_not_final(client: Client) -> None:
    world = world_of(client)
    world.history.says |= {
        "usage_by": lambda *_, **__: [UsageOf("search.knn", Usage(1, credits_micro=500_000))],
        "reached": lambda *_: (NOW_MS, NOW_MS),
    }
    world.now_ms += LATER_MS
    body = world.get(f"/v1/organizations/usage?month={OVER}").json()
    assert (body["final"], body["credits"]["used"], body["credits"]["total"]) == (False, 0.5, None)
    assert world.get(f"/v1/organizations/sla?month={OVER}").status_code == 404


def test_the_newest_of_a_months_final_balances_stands_in_whatever_order_they_come(client: Client) -> None:
    later, earlier = told(9, used_micro=9), told(2, used_micro=2)
    sink(client, told(1, used_micro=1), later, earlier, later)
    client.command("OPTIMIZE TABLE usage_month FINAL")
    found = final_balance(client, "org_heron", "organization", "org_heron", OVER)
    assert found == rows_of([later])[0]


def test_a_balance_that_may_change_yet_is_no_row_and_neither_is_a_labels(client: Client) -> None:
    labelled = told(kind="label", label="a=b")
    assert rows_of([told(final=False), labelled, (b"organization:org_heron:2026-02", None)]) == []


def test_an_account_is_kept_as_its_own_organizations(client: Client) -> None:
    sink(client, told(kind="account", name="org_pool", total_micro=None))
    found = final_balance(client, "org_pool", "account", "org_pool", OVER)
    assert found is not None
    assert (found.used_micro, found.total_micro, found.breakdown_micro) == (
        7_500_001, None, {"search": 6_500_001, "upload": 1_000_000},
    )  # fmt: skip


def test_a_record_that_is_no_balance_is_refused_with_its_place() -> None:
    with pytest.raises(RecordFormatError, match="balances/0, offset 0"):
        rows_of([(b"k", b'{"final": true}')])
