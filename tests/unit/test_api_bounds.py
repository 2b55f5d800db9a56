"""What the usage API holds and takes is bounded, and what lies beyond has the meaning that docs/bounds.md states."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from api import breaker, directory, history
from api.alerts import AlertTable
from api.balances import BalanceTable, month_of
from api.history import ClickHouseHistory
from api.metrics import ApiCollector
from api.problems import ProblemError
from clickhouse.connection import ClickHouse
from tests.api_world import MONTH, OTHER_SECRET, World, alert_record, balance_record
from tests.gating import NOW, NOW_MS, credit_block, decision_record, key_record

DAY_MS = 86_400_000


def test_a_request_that_is_too_large_is_refused_before_anybody_reads_it() -> None:
    world = World()
    usage = "/v1/organizations/usage"
    assert world.get(f"{usage}?month={'x' * 5_000}").status_code == 414
    assert world.get(f"/{'x' * 2_000}").status_code == 414
    assert world.get(usage, headers={f"x-{number}": "1" for number in range(70)}).status_code == 431
    assert world.request("POST", usage, content=b"x" * 70_000).status_code == 413
    assert world.meter.events == []


def test_every_answer_carries_the_headers_that_keep_a_browser_safe() -> None:
    world = World()
    for path in ("/v1/organizations/usage", "/v1/nothing", f"/{'x' * 2_000}", "/health"):
        headers = world.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


def test_a_fault_of_ours_is_a_problem_that_tells_nothing_of_the_inside() -> None:
    world = World()
    world.parts.balances = None  # type: ignore[assignment]  # what no process has
    response = world.get("/v1/organizations/usage")
    assert response.status_code == 500
    assert "NoneType" not in response.text


def test_a_full_table_of_balances_says_so_instead_of_showing_zeros() -> None:
    table = BalanceTable(balances_max=1)
    assert table.complete
    table.apply(*balance_record(), NOW_MS)
    assert table.is_complete(MONTH)
    table.apply(*balance_record("key", "key_heron_1"), NOW_MS)
    assert (len(table), table.complete, table.is_complete(MONTH)) == (1, False, False)
    table.apply(balance_record()[0], b"[" * 100_000, NOW_MS)
    table.apply(b"\xff", b"{}", NOW_MS)
    assert table.malformed == 2


def test_a_table_is_whole_again_with_the_months_that_found_room() -> None:
    table = BalanceTable(balances_max=2)
    for name in ("org_heron", "org_finch", "org_wren"):
        table.apply(*balance_record(name=name), NOW_MS)
    months = [month_of(NOW_MS + days * DAY_MS) for days in (0, 31, 62)]
    assert not table.is_complete(months[0])
    assert table.is_complete(months[1]), "of a month that begins nothing is missing"
    table.apply(*balance_record(month=months[2]), NOW_MS + 62 * DAY_MS)
    assert table.complete, "what found no room belonged to a month that nobody can ask for any more"
    assert [table.is_complete(month) for month in months[1:]] == [True, True]


def test_the_oldest_alerts_make_room() -> None:
    table = AlertTable(alerts_max=3)
    for number in range(5):
        table.apply(alert_record(f"a-{number}", fired_at=NOW + timedelta(seconds=number)))
    assert [alert.alert_id for alert in table.of("org_heron")] == ["a-4", "a-3", "a-2"]
    assert len(table) == 3


def test_decisions_that_stand_no_more_make_room_for_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "STANDING_MAX", 3)
    monkeypatch.setattr(directory, "DECISIONS_MAX", 4)
    world = World(credit_block())
    for number in range(6):
        subject = {"kind": "operation", "name": "org_heron", "operation": "batch.submit", "subject": f"b{number}"}
        for rank, verdict in ((1, "block"), (2, "allow")):
            world.learn(
                decision_record(
                    limit_name="operation_interval", verdict=verdict, rank=(1, rank), decision_id=f"d-{number}-{rank}",
                    until_ms=NOW_MS + 1_000, **subject,
                )  # type: ignore[arg-type]  # the fields of decision_record
            )  # fmt: skip
    assert [one.decision_id for one in world.directory.standing("org_heron", "org_heron")] == ["d-credits"]
    assert world.directory.decision("d-0-1") is None
    assert world.directory.decision("d-5-2") is not None


def test_a_key_beyond_those_that_are_listed_sees_its_own_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "KEYS_MAX", 1)
    own = "sk_live_second_key_1"
    world = World(
        key_record(revoked=True, rank=(2, 0)),  # a revoked one is listed, too
        key_record(own, name="key_heron_2"),
        decision_record(name="key_heron_2", limit_name="search_per_minute", decision_id="d-own"),
    )
    assert [key.api_key_id for key in world.directory.keys_of("org_heron")] == ["key_heron_1"]
    world.balance("key", "key_heron_2", used_micro=2_000_000)
    usage = world.get("/v1/organizations/usage/api-keys/key_heron_2", own)
    assert (usage.status_code, usage.json()["credits"]["used"]) == (200, 2)
    assert world.get("/v1/organizations/usage/api-keys/key_heron_2", OTHER_SECRET).status_code == 404
    world.history.says["reached"] = lambda *_: (NOW_MS, NOW_MS)
    assert world.get("/v1/organizations/decisions/d-own", OTHER_SECRET).status_code == 503, "history is asked, and away"
    assert world.directory.concerns(world.directory.decision("d-own"), "org_heron", "org_heron")  # type: ignore[arg-type]
    assert world.directory.organization_of_key("key_heron_2") == "org_heron", "whose streams are told of it"
    world.history.says["decision_row"] = lambda *_: None
    assert world.get("/v1/organizations/decisions/d-older", own).status_code == 404
    name, (_, owners), _ = world.history.asked[-1]
    assert (name, "key_heron_2" in owners) == ("decision_row", True), "of an older one it is asked as well"


async def test_too_many_questions_about_the_past_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "QUEUE_MAX", 2)
    asked = ClickHouseHistory(ClickHouse())
    monkeypatch.setattr(asked, "_connected", lambda: None)
    go_on = threading.Event()
    waiting = [asyncio.create_task(asked.ask(lambda _: go_on.wait(20))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ProblemError) as refused:
        await asked.ask(lambda _: True)
    assert refused.value.status == 503
    go_on.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await asked.ask(lambda _: 5) == 5
    asked.close()


async def test_clickhouse_that_is_away_or_slow_is_a_503_and_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "ANSWER_LIMIT_S", 0.2)
    monkeypatch.setattr(breaker, "REMEMBERED_S", 0.0)
    asked = ClickHouseHistory(ClickHouse(url="http://127.0.0.1:1"))
    for _ in range(2):
        with pytest.raises(ProblemError) as refused:
            await asked.ask(lambda client: client.query("SELECT 1"))
        assert refused.value.status == 503
    monkeypatch.setattr(asked, "_connected", lambda: None)
    go_on = threading.Event()
    with pytest.raises(ProblemError):
        await asked.ask(lambda _: go_on.wait(20))
    go_on.set()
    asked.close()


def test_metrics_name_tables_and_never_an_organization() -> None:
    world = World()
    world.balance()
    world.alerts.apply(b"{")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in ApiCollector(world.parts, (world.app.state.hub,), world.app.state.served).collect()
        for sample in metric.samples
    }
    assert found["sluicegate_api_balances",] == 1
    assert found["sluicegate_api_malformed_total", "alerts"] == 1
    assert found["sluicegate_api_staleness_seconds", "balances"] == 0.003
    assert not any("org_" in label for name in found for label in name)
