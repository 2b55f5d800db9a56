"""What the usage API answers, route by route, from tables that are filled by hand."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from clickhouse.projection import Projection
from clickhouse.queries import Usage, UsageOf, UsagePoint
from sluicegate_schemas.bounds import from_epoch_ms
from tests.api_world import MONTH, OTHER_SECRET, World, alert_record
from tests.gating import (
    NOW,
    NOW_MS,
    SECRET,
    credit_block,
    decision_record,
    key_record,
    organization_record,
    used_record,
)

HOUR_MS = 3_600_000
CUSTOMER_PATHS = (
    "/v1/organizations",
    "/v1/organizations/usage",
    "/v1/organizations/usage/api-keys/key_heron_1",
    "/v1/organizations/usage/series",
    "/v1/organizations/projection",
    "/v1/organizations/plan-fit",
    "/v1/organizations/limits",
    "/v1/organizations/alerts",
    "/v1/organizations/decisions/d-1",
    "/v1/organizations/sla",
    "/v1/organizations/live",
)


@pytest.mark.contract("4.1", "4.7")
def test_an_organization_reads_its_tier_credits_limits_and_quotas() -> None:
    world = World(used_record("quota_collections", 50, 42))
    body = world.get("/v1/organizations").json()
    assert (body["id"], body["tier"], body["credits_per_month"]) == ("org_heron", "pro", 100_000)
    assert body["limits"] == {
        "per_second": 100,
        "burst": 200,
        "per_minute": 600,
        "by_category": {"metadata": 600, "data": 480, "search": 300, "upload": 150, "compute": 60},
    }
    assert body["concurrency"] == 50
    assert body["quotas"]["collections"] == {"used": 42, "limit": 50}
    assert body["quotas"]["api_keys"] == {"used": 1, "limit": 10}
    assert body["features"]["modalities"] == ["text", "image", "audio", "video"]
    assert (body["lag_ms"], body["final"]) == (3, False)


def test_limits_of_its_own_and_exemptions_are_what_an_organization_reads() -> None:
    world = World(
        organization_record(rank=(2, 0), concurrency=7, quotas={"buckets": None}, exempt=("search_per_minute",))
    )
    body = world.get("/v1/organizations").json()
    assert body["concurrency"] == 7
    assert body["quotas"]["buckets"] == {"used": None, "limit": None}
    assert body["limits"]["by_category"]["search"] is None


@pytest.mark.contract("4.2")
def test_credits_are_exact_decimals_as_the_contract_shows_them() -> None:
    world = World()
    world.balance(
        used_micro=123_456_789_012_345_678, total_micro=999_999_999_999_999_999,
        breakdown_micro={"search": 8_500_000_000, "storage": 1}, requests=7,
    )  # fmt: skip
    response = world.get("/v1/organizations/usage")
    assert (
        f'"month":"{MONTH}","credits":{{"total":999999999999.999999,"used":123456789012.345678,'
        '"remaining":876543210987.654321,"reset_date":"2026-04-01T00:00:00Z"' in response.text
    )
    assert '"breakdown":{"inference":0,"search":8500,"storage":0.000001,"documents":0}' in response.text
    assert response.json()["lag_ms"] == 43


def test_a_month_without_usage_has_its_plan_s_credits_and_one_that_is_not_held_is_asked_of_history() -> None:
    world = World()
    assert world.get("/v1/organizations/usage").json()["credits"]["remaining"] == 100_000
    assert world.get("/v1/organizations/usage?month=2026-02").status_code == 200
    assert world.get("/v1/organizations/usage?month=2026-01").status_code == 503
    world.balances.full_month = MONTH
    assert world.get("/v1/organizations/usage").status_code == 503


@pytest.mark.contract("4.2")
@pytest.mark.parametrize("path", ["usage", "usage/api-keys/key_heron_1"])
@pytest.mark.parametrize("month", [MONTH, "2026-02", "2026-01"])
def test_the_groups_of_the_contract_stand_in_every_breakdown(path: str, month: str) -> None:
    """Also of a month without usage, and of one that only history knows; others follow where they were used."""
    world = World()
    world.history.says |= {"usage_by": lambda *_, **__: [], "reached": lambda *_: (NOW_MS, NOW_MS)}
    world.history.says["final_balance"] = lambda *_: None
    golden = '"breakdown":{"inference":0,"search":0,"storage":0,"documents":0}'
    assert golden in world.get(f"/v1/organizations/{path}?month={month}").text
    for kind, name in (("organization", "org_heron"), ("key", "key_heron_1")):
        world.balance(kind, name, month=month, used_micro=500_000, breakdown_micro={"upload": 500_000})
    world.history.says["usage_by"] = lambda *_, **__: [UsageOf("upload.file", Usage(1, credits_micro=500_000))]
    upload = golden.replace("}", ',"upload":0.5}')
    assert upload in world.get(f"/v1/organizations/{path}?month={month}").text


@pytest.mark.contract("9.16")
def test_a_member_of_a_pool_reads_its_share_and_never_the_whole_plan() -> None:
    secret = "sk_live_demo_key_wren_1"
    world = World(
        organization_record("org_wren", tier="free", account_id="org_heron"),
        key_record(secret, name="key_wren_1", organization="org_wren", account="org_heron"),
    )
    for path in ("usage", "live"):
        assert world.get(f"/v1/organizations/{path}", secret).status_code == 503, "nobody has told its share yet"
    before = world.get("/v1/organizations/usage?month=2026-02", secret).json()
    assert (before["credits"]["total"], before["credits"]["used"]) == (None, 0)
    world.balance(name="org_wren", account_id="org_heron", total_micro=30_000_000)
    shown = world.get("/v1/organizations/usage", secret).json()["credits"]
    assert (shown["total"], shown["used"], shown["remaining"]) == (30, 0, 30)


def test_a_balance_of_an_older_sequence_changes_nothing_and_the_month_before_last_is_let_go() -> None:
    world = World()
    world.balance(used_micro=5_000_000, sequence={"epoch": 2, "counter": 1})
    world.balance(used_micro=1_000_000, sequence={"epoch": 1, "counter": 9})
    assert world.get("/v1/organizations/usage").json()["credits"]["used"] == 5
    world.now_ms += 62 * 86_400_000
    world.balance(month="2026-05")
    assert len(world.balances) == 1


@pytest.mark.contract("4.6")
@pytest.mark.parametrize("path", CUSTOMER_PATHS)
def test_nobody_reads_anything_without_a_key_that_is_known_and_not_revoked(path: str) -> None:
    world = World(key_record("sk_live_revoked_key_1", name="key_heron_9", revoked=True))
    refused = [world.get(path, secret) for secret in (None, "sk_live_unknown_key_1", "sk_live_revoked_key_1", "\xff")]
    assert {(one.status_code, one.content, one.headers["www-authenticate"]) for one in refused} == {
        (401, refused[0].content, "Bearer")
    }
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert world.meter.events == []


@pytest.mark.contract("4.6")
def test_what_is_another_s_is_answered_as_what_does_not_exist() -> None:
    world = World(
        decision_record(name="key_finch_1", limit_name="search_per_minute", decision_id="d-finch"), credit_block()
    )
    world.balance("key", "key_finch_1", used_micro=1)
    for foreign, none in (
        ("usage/api-keys/key_finch_1", "usage/api-keys/key_nobody"),
        ("decisions/d-finch", "decisions/d-none"),
    ):
        world.history.says["decision_row"] = lambda *_: None
        answers = [world.get(f"/v1/organizations/{path}") for path in (foreign, none)]
        assert {(one.status_code, one.content) for one in answers} == {(404, answers[0].content)}
    assert world.get("/v1/organizations/limits", OTHER_SECRET).json()["decisions"][0]["decision_id"] == "d-finch"
    assert [one["decision_id"] for one in world.get("/v1/organizations/limits").json()["decisions"]] == ["d-credits"]


@pytest.mark.contract("4.4", "4.7")
def test_current_limits_and_blocks_are_answered_with_their_reasons_and_ends() -> None:
    world = World(
        credit_block(),
        decision_record(limit_name="search_per_minute", until_ms=NOW_MS + 5_000),
        used_record("concurrency", 50, 41),
        decision_record(kind="operation", name="org_heron", operation="batch.submit", subject="b1",
                        limit_name="operation_interval", decision_id="d-sub", until_ms=NOW_MS - 1),
    )  # fmt: skip
    body = world.get("/v1/organizations/limits").json()
    by_name = {one["limit_name"]: one for one in body["limits"]}
    assert set(by_name) == {"credits", "search_per_minute", "concurrency"}
    assert by_name["concurrency"]["utilization"] == 0.82
    money, minute = sorted(body["decisions"], key=lambda one: one["limit_name"])
    assert (money["limit"], money["observed"], money["until"]) == (500, 500.1, "2026-04-01T00:00:00Z")
    assert money["reason"].startswith("The month's credits are used up")
    assert (minute["scope"]["kind"], minute["scope"]["id"]) == ("key", "key_heron_1")


@pytest.mark.contract("4.4")
def test_alerts_are_answered_newest_first_page_by_page_and_say_when_they_cleared() -> None:
    world = World()
    for number in range(5):
        world.alerts.apply(alert_record(f"a-{number}", fired_at=NOW - timedelta(minutes=number)))
    world.alerts.apply(alert_record("a-3", fired_at=NOW - timedelta(minutes=3), state="cleared", at=NOW))
    world.alerts.apply(alert_record("a-9", organization="org_finch"))
    world.alerts.apply(b"{")
    first = world.get("/v1/organizations/alerts?limit=3").json()
    second = world.get(f"/v1/organizations/alerts?limit=3&cursor={first['next_cursor']}").json()
    assert [one["alert_id"] for one in first["alerts"] + second["alerts"]] == [f"a-{number}" for number in range(5)]
    assert second["next_cursor"] is None
    assert [one["cleared_at"] is None for one in second["alerts"]] == [False, True]
    assert world.get("/v1/organizations/alerts?cursor=!!").status_code == 422


def series(world: World, **more: Any) -> None:
    """ClickHouse knows three hours of three keys."""
    points = [
        UsagePoint(from_epoch_ms(NOW_MS - number * HOUR_MS), f"key_{number}", Usage(3, 1, 1, 9, 100_000, 3))
        for number in (3, 2, 1)
    ]

    def usage_series(*_: Any, after: tuple[int, str], rows_max: int) -> list[UsagePoint]:
        return [point for point in points if (point.at.timestamp(), point.name) > after][:rows_max]

    world.history.says |= {"usage_series": usage_series, "reached": lambda *_: (NOW_MS - 900, NOW_MS - 200)} | more


@pytest.mark.contract("4.3", "4.7")
def test_usage_over_time_is_answered_a_page_at_a_time_as_json_and_as_csv() -> None:
    world = World()
    series(world)
    path = "/v1/organizations/usage/series?interval=hour&group_by=api_key&limit=2"
    first = world.get(path)
    body = first.json()
    assert [one["group"] for one in body["points"]] == ["key_3", "key_2"]
    assert body["points"][0]["credits"] == 0.1
    assert (body["as_of"], body["lag_ms"]) == ("2026-03-10T11:59:59.100000Z", 700)
    assert [name for name, *_ in world.history.asked] == ["reached", "usage_series"], (
        "what is reached, then what is there"
    )
    assert world.history.asked[1][1][:3] == ("org_heron", "hour", "api_key_id")
    link = first.headers["link"].split(">")[0].removeprefix("<")
    assert [one["group"] for one in world.get(link).json()["points"]] == ["key_1"]
    csv = world.get(path, headers={"Accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[1] == "2026-03-10T09:00:00Z,key_3,3,1,1,9,0.1"
    assert csv.headers["x-lag-ms"] == "700"


@pytest.mark.contract("4.3")
def test_by_label_requests_and_credits_are_known_and_an_hour_is_the_finest() -> None:
    world = World()
    points = [UsagePoint(from_epoch_ms(NOW_MS - HOUR_MS), "pipeline=nightly", Usage(3, credits_micro=100_000))]
    series(world, label_series=lambda *_, **__: points)
    path = "/v1/organizations/usage/series?group_by=label&interval"
    [point] = world.get(f"{path}=hour").json()["points"]
    assert (point["group"], point["requests"], point["credits"]) == ("pipeline=nightly", 3, 0.1)
    assert (point["errors"], point["throttled"], point["units"]) == (None, None, None)
    csv = world.get(f"{path}=hour", headers={"Accept": "text/csv"}).text
    assert csv.splitlines()[1] == "2026-03-10T11:00:00Z,pipeline=nightly,3,,,,0.1"
    refused = world.get(f"{path}=minute")
    assert (refused.status_code, "hour" in refused.json()["detail"]) == (422, True)


def test_a_series_that_has_not_changed_is_not_sent_again() -> None:
    world = World()
    series(world)
    first = world.get("/v1/organizations/usage/series")
    world.now_ms += 60_000
    again = world.get("/v1/organizations/usage/series", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    series(world, usage_series=lambda *_, **__: [])
    changed = world.get("/v1/organizations/usage/series", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    "query",
    ["from=2026-03-10T00:00:00Z&to=2026-03-09T00:00:00Z", "from=2026-03-10T00:00:00", "interval=week", "limit=0",
     "from=2025-01-01T00:00:00Z&interval=minute", "cursor=AAAA", "group_by=org_id", "from=x", "format=xml"],
)  # fmt: skip
def test_a_series_that_cannot_be_asked_for_is_refused_with_the_field(query: str) -> None:
    world = World()
    series(world)
    response = world.get(f"/v1/organizations/usage/series?{query}")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.contract("4.3")
def test_the_projection_says_where_the_month_ends_and_is_asked_for_once_a_minute() -> None:
    world = World()
    world.balance(used_micro=10_000_000, total_micro=30_000_000)
    found = Projection("org_heron", 10, 5_000_000, 4_000_000, 9_500_000, NOW, None, None, 1, 2, 300)
    world.history.says["project"] = lambda now, left: [found] if left["org_heron"] == 20_000_000 else []
    world.history.says["reached"] = lambda *_: (NOW_MS, NOW_MS)
    body = world.get("/v1/organizations/projection").json()
    assert (body["projected"], body["low"], body["high"]) == (5, 4, 9.5)
    assert (body["level"], body["interval_is_learnt"]) == ("hour_of_week", False)
    assert body["exhausted_at"] == "2026-03-10T12:00:00Z"
    world.get("/v1/organizations/projection")
    assert [name for name, *_ in world.history.asked].count("project") == 1
    assert world.get("/v1/organizations/projection", OTHER_SECRET).status_code == 404


def projecting(world: World) -> list[dict[str, int]]:
    """What is left to whom, by each question that ``world`` asks."""
    asked: list[dict[str, int]] = []
    found = Projection("org_heron", 0, 5_000_000, 4_000_000, 9_500_000, NOW, None, None, 0, 0, 300)

    def project(_: object, left: dict[str, int]) -> list[Projection]:
        asked.append(left)
        return [found]

    world.history.says |= {"project": project, "reached": lambda *_: (NOW_MS, NOW_MS)}
    return asked


@pytest.mark.contract("4.3")
def test_before_the_first_use_of_a_month_its_credits_may_run_out_too() -> None:
    """Of who pays for itself they are the plan's, or its own; of a pool's member they are told by the workers alone."""
    world = World(
        organization_record("org_own", tier="enterprise", credits_micro_per_month=5_000_000),
        organization_record("org_unlimited", tier="enterprise"),
        organization_record("org_pool", tier="team"),
        organization_record("org_member", tier="team", account_id="org_pool"),
    )
    world.balance("organization", "org_finch", used_micro=1_000_000, total_micro=None)
    world.balance("organization", "org_heron", month="2026-02", used_micro=1, total_micro=2)
    world.balance("account", "org_pool", used_micro=400, total_micro=1_000)
    asked = projecting(world)
    assert world.get("/v1/organizations/projection").json()["exhausted_at"] == "2026-03-10T12:00:00Z"
    assert asked == [{"org_heron": 100_000_000_000, "org_own": 5_000_000, "org_pool": 600}]


def test_nothing_is_projected_while_it_is_not_known_what_is_left() -> None:
    world = World()
    asked = projecting(world)
    world.balances_from.ready = False
    assert world.get("/v1/organizations/projection").status_code == 503
    world.balances_from.ready = True
    world.balances.full_month = MONTH
    assert world.get("/v1/organizations/projection").status_code == 200
    assert asked == [{}], "a balance that is missing may be one that found no room"


@pytest.mark.contract("1.19", "4.7")
def test_service_levels_of_a_month_are_answered_with_how_fresh_they_are() -> None:
    world = World()
    assert world.get("/v1/organizations/sla").json()["availability"] is None
    world.balance(served={"requests": 3000, "failures": 2, "p50_ms": 12, "p99_ms": 460}, final=True)
    body = world.get("/v1/organizations/sla").json()
    assert (body["availability"], body["latency_p50_ms"], body["latency_p99_ms"]) == (0.999333, 12, 460)
    assert (body["lag_ms"], body["final"]) == (43, True)
    assert world.get("/v1/organizations/sla?month=2025-01").status_code == 503
    world.history.says["final_balance"] = lambda *_: None
    assert world.get("/v1/organizations/sla?month=2025-01").status_code == 404


def test_while_clickhouse_is_away_history_answers_503_and_the_current_numbers_go_on() -> None:
    world = World()
    for path in ("usage/series", "projection"):
        response = world.get(f"/v1/organizations/{path}")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert world.get("/v1/organizations/usage").status_code == 200


def test_each_request_is_metered_as_its_caller_s_own_and_a_credit_block_closes_nothing() -> None:
    world = World(credit_block())
    assert world.get("/v1/organizations/usage").status_code == 200
    (event,) = world.meter.events
    assert (event["org_id"], event["api_key_id"], event["operation"]) == ("org_heron", "key_heron_1", "usage.get")
    assert world.get("/health", None).status_code == 200
    assert len(world.meter.events) == 1


def test_the_api_s_own_requests_are_limited_as_the_contract_says() -> None:
    world = World()
    statuses = [world.get("/v1/organizations/usage", OTHER_SECRET).status_code for _ in range(21)]
    assert statuses == [200] * 20 + [429]
    refused = world.get("/v1/organizations/usage", OTHER_SECRET)
    assert json.loads(refused.content)["error"]["type"] == "TooManyRequestsError"
    assert refused.headers["retry-after"] == "1"


def test_an_account_whose_secret_is_in_a_query_or_a_body_is_never_repeated_in_an_error() -> None:
    world = World()
    for path in (f"/v1/{SECRET}", f"/v1/organizations/usage?month={SECRET}", f"/v1/organizations/decisions/{SECRET}!"):
        assert SECRET not in world.get(path).text


def test_a_single_failure_among_millions_shows() -> None:
    world = World()
    served = {"requests": 3_000_000, "failures": 1, "p50_ms": 5, "p99_ms": 9}
    world.balance(used_micro=1, served=served)
    assert world.get("/v1/organizations/sla").json()["availability"] == 0.999999


def test_a_keys_usage_is_its_own_organizations_though_an_operator_gave_another_a_key_of_that_id() -> None:
    world = World()
    (key_id,) = (key.api_key_id for key in world.directory.keys_of("org_heron"))
    world.balance("key", key_id, organization_id="org_finch", used_micro=7)
    assert world.get(f"/v1/organizations/usage/api-keys/{key_id}").status_code == 404
    world.balance("key", key_id, organization_id="org_heron", used_micro=8, sequence={"epoch": 9, "counter": 9})
    assert world.get(f"/v1/organizations/usage/api-keys/{key_id}").status_code == 200


def test_a_live_stream_waits_for_the_balances() -> None:
    world = World()
    world.balances_from.ready = False
    assert world.get("/v1/organizations/live").status_code == 503
