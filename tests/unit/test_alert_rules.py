"""Every alert rule by example: when it fires and what it says (requirements, section 5)."""

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.envelope import WireCharge
from tests.alerting import (
    DAY_MS,
    HOUR_MS,
    MONTH_END_MS,
    SECOND_MS,
    alerts_of,
    budget,
    credit_world,
    spend,
    throttle,
    told,
    with_rules,
)
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage
from tests.limits_world import gauge


@pytest.mark.contract("5.1")
def test_credits_alert_at_80_95_and_100_percent_each_once() -> None:
    world = credit_world("credits_80", "credits_95", "credits_blocked")
    at = NOW_MS
    for amount in (799, 1, 149, 1, 49, 1, 50):
        spend(world, amount, at)
        at += 10 * SECOND_MS
    assert told(world) == ["credits_80 fired", "credits_95 fired", "credits_blocked fired"]
    first, _, last = alerts_of(world)
    assert (first.severity, first.observed, first.limit, first.unit) == (
        "warning", 800_000_000, 1_000_000_000, "credits_micro",
    )  # fmt: skip
    assert first.reset_at == from_epoch_ms(MONTH_END_MS)
    assert first.scope.text() == "account:org_a"
    assert first.sentence == "org_a has used 80 % of its credits of the month: 800 of 1000."
    assert last.severity == "critical"


@pytest.mark.contract("5.9")
def test_the_advice_names_the_operations_that_cost_most() -> None:
    world = credit_world("credits_80")
    world.send(usage("search.knn"), usage("inference.llm", quantities={"tokens": 5_000}), at=NOW_MS)
    spend(world, 800, NOW_MS)
    (alert,) = alerts_of(world)
    assert alert.costliest == ("documents.create", "inference.llm", "search.knn")
    assert alert.advice.endswith("documents.create, inference.llm, search.knn.")


@pytest.mark.contract("5.4", "9.28")
@pytest.mark.parametrize(("left_ms", "fires"), [(5 * DAY_MS + 1, True), (5 * DAY_MS, False), (DAY_MS, False)])
def test_little_credit_is_critical_only_with_more_than_five_days_to_the_reset(left_ms: int, fires: bool) -> None:
    at = MONTH_END_MS - left_ms
    world = credit_world("credits_critical", at=at - 10 * SECOND_MS)
    spend(world, 951, at)
    assert told(world) == (["credits_critical fired"] if fires else [])
    for alert in alerts_of(world):
        assert alert.sentence == "org_a has 4 % of its credits of the month left: 49 of 1000."


def test_exactly_five_percent_left_is_not_below_five() -> None:
    world = credit_world("credits_critical")
    spend(world, 950, NOW_MS)
    assert told(world) == []


@pytest.mark.contract("5.11", "9.28")
@pytest.mark.parametrize(
    ("left_ms", "amount", "fires"), [(10 * DAY_MS, 901, True), (10 * DAY_MS - 1, 901, False), (15 * DAY_MS, 900, False)]
)
def test_an_upgrade_is_recommended_above_90_percent_with_ten_days_left(left_ms: int, amount: int, fires: bool) -> None:
    at = MONTH_END_MS - left_ms
    world = credit_world("upgrade_credits", at=at - 10 * SECOND_MS)
    spend(world, amount, at)
    assert told(world) == (["upgrade_credits fired"] if fires else [])


def test_an_unlimited_account_and_a_test_key_alert_about_no_credits() -> None:
    world = World(catalogues=[with_rules("credits_80")])
    world.obey(organization_put(tier="enterprise"), key_put())
    spend(world, 10**6, NOW_MS)
    assert told(world) == []
    world = credit_world("credits_80")
    world.send(usage("documents.create", key="key_t", quantities={"documents": 900}), at=NOW_MS)
    world.pass_time(NOW_MS + SECOND_MS)
    assert told(world) == []


@pytest.mark.contract("5.2", "9.28")
def test_a_key_at_80_percent_of_its_minute_is_warned_and_clears_at_75() -> None:
    world = World(catalogues=[with_rules("rate_limit_warning")])
    world.obey(organization_put(), key_put())
    world.send(*[usage() for _ in range(490)], at=NOW_MS)  # 600 a minute: 10 flow off each second
    world.pass_time(NOW_MS + SECOND_MS)
    world.pass_time(NOW_MS + 3 * SECOND_MS)
    assert told(world) == ["rate_limit_warning fired"]
    (alert,) = alerts_of(world)
    assert (alert.observed, alert.limit, alert.scope.text(), alert.organization_id) == (480, 600, "key:key_a", "org_a")
    world.pass_time(NOW_MS + 4 * SECOND_MS - 1)
    world.pass_time(NOW_MS + 4 * SECOND_MS)
    assert told(world)[1:] == ["rate_limit_warning cleared"]
    assert alerts_of(world)[1].observed == 450


@pytest.mark.contract("5.6")
def test_more_than_ten_429_in_five_minutes_is_sustained_rate_limiting() -> None:
    world = small_world(catalogues=[with_rules("sustained_rate_limiting")])
    throttle(world, 10, NOW_MS)
    assert told(world) == []
    throttle(world, 1, NOW_MS + 4 * 60_000)
    assert told(world) == ["sustained_rate_limiting fired"]
    (alert,) = alerts_of(world)
    assert (alert.observed, alert.limit, alert.threshold, alert.severity) == (11, None, 10, "critical")
    assert alert.sentence == "key_a was answered 429 11 times in 5 min."
    assert "circuit breaker" in alert.advice


def test_it_clears_when_the_window_holds_ten_or_fewer() -> None:
    world = small_world(catalogues=[with_rules("sustained_rate_limiting")])
    throttle(world, 20, NOW_MS)
    world.pass_time(NOW_MS + 294 * SECOND_MS)
    assert told(world) == ["sustained_rate_limiting fired"]
    world.pass_time(NOW_MS + 301 * SECOND_MS)
    assert told(world)[1:] == ["sustained_rate_limiting cleared"]


@pytest.mark.contract("9.28")
def test_429s_of_two_keys_are_counted_apart() -> None:
    world = small_world(catalogues=[with_rules("sustained_rate_limiting")])
    throttle(world, 10, NOW_MS)
    throttle(world, 10, NOW_MS + 2 * SECOND_MS, key="key_t")
    assert told(world) == []


def test_429s_that_are_told_an_hour_late_are_no_sustained_rate_limiting() -> None:
    world = small_world(catalogues=[with_rules("sustained_rate_limiting")])
    world.send(*[usage(status=429, ts=NOW_MS - HOUR_MS) for _ in range(50)], at=NOW_MS)
    world.pass_time(NOW_MS + SECOND_MS)
    assert told(world) == []


def test_429s_of_a_key_without_rate_limits_count_too() -> None:
    world = World(catalogues=[with_rules("sustained_rate_limiting")])
    world.obey(organization_put(tier="enterprise"), key_put())
    throttle(world, 11, NOW_MS)
    assert told(world) == ["sustained_rate_limiting fired"]


@pytest.mark.contract("5.10")
def test_an_upgrade_is_recommended_after_more_than_three_429_an_hour() -> None:
    world = small_world(catalogues=[with_rules("upgrade_throttled")])
    for minutes in (0, 20, 40):
        throttle(world, 1, NOW_MS + minutes * 60_000)
    assert told(world) == []
    throttle(world, 1, NOW_MS + 58 * 60_000)
    assert told(world) == ["upgrade_throttled fired"]
    assert alerts_of(world)[0].advice.startswith("Upgrade recommended")


@pytest.mark.contract("5.7")
def test_a_creation_answered_403_is_a_quota_breach_of_its_operation() -> None:
    world = small_world(catalogues=[with_rules("quota_breach")])
    world.send(usage("collections.create", status=403), usage("collections.list", status=403), at=NOW_MS)
    world.pass_time(NOW_MS + SECOND_MS)
    (alert,) = alerts_of(world)
    assert (alert.rule, alert.scope.text()) == ("quota_breach", "operation:org_a:collections.create")
    assert "Archive" in alert.advice
    world.send(usage("collections.create", status=403, ts=NOW_MS + HOUR_MS // 2), at=NOW_MS + HOUR_MS // 2)
    world.pass_time(NOW_MS + HOUR_MS + 1)
    assert told(world) == ["quota_breach fired"]
    world.pass_time(NOW_MS + 2 * HOUR_MS)
    assert told(world)[1:] == ["quota_breach cleared"]


def test_a_creation_that_the_credits_refused_is_no_quota_breach() -> None:
    catalogue = with_rules("quota_breach")
    creation = catalogue.operations["documents.create"].model_copy(update={"creates": "documents"})
    catalogue = catalogue.model_copy(update={"operations": {**catalogue.operations, "documents.create": creation}})
    world = World(catalogues=[catalogue])
    world.obey(organization_put(credits_micro_per_month=1_000_000), key_put())
    spend(world, 1, NOW_MS)
    world.send(usage("documents.create", status=403, quantities={"documents": 1}), at=NOW_MS + 2 * SECOND_MS)
    world.pass_time(NOW_MS + 4 * SECOND_MS)
    assert told(world) == []


@pytest.mark.contract("5.8")
def test_a_budget_alerts_at_its_own_thresholds_and_clears_when_its_window_ends() -> None:
    world = credit_world("budget_threshold", "budget_used_up")
    budget(world, 100, NOW_MS)
    spend(world, 50, NOW_MS + 10 * SECOND_MS)
    spend(world, 45, NOW_MS + 20 * SECOND_MS)
    spend(world, 20, NOW_MS + 30 * SECOND_MS)
    assert told(world) == ["budget_threshold fired", "budget_threshold fired", "budget_used_up fired"]
    alerts = alerts_of(world)
    assert [(alert.threshold, alert.observed, alert.limit) for alert in alerts] == [
        (50, 50_000_000, 100_000_000), (90, 95_000_000, 100_000_000), (100, 115_000_000, 100_000_000),
    ]  # fmt: skip
    assert alerts[0].sentence == "org_a has used 50 % of its budget of the day: 50 of 100 credits."
    assert len({alert.alert_id for alert in alerts}) == 3
    world.pass_time(NOW_MS // DAY_MS * DAY_MS + DAY_MS)
    assert told(world)[3:] == ["budget_threshold cleared", "budget_threshold cleared", "budget_used_up cleared"]


@pytest.mark.contract("5.8")
def test_a_larger_budget_or_none_clears_its_alerts() -> None:
    world = credit_world("budget_threshold", "budget_used_up")
    budget(world, 100, NOW_MS, api_key_id="key_a")
    spend(world, 100, NOW_MS + 10 * SECOND_MS)
    assert len(told(world)) == 3
    assert {alert.scope.text() for alert in alerts_of(world)} == {"key:key_a"}
    budget(world, 150, NOW_MS + 20 * SECOND_MS, api_key_id="key_a")
    world.pass_time(NOW_MS + 21 * SECOND_MS)
    assert told(world)[3:] == ["budget_threshold cleared", "budget_used_up cleared"]  # 66 %: not yet below 45
    world.take_over()
    budget(world, 150, NOW_MS + 30 * SECOND_MS, api_key_id="key_a", thresholds_percent=[])
    world.pass_time(NOW_MS + 31 * SECOND_MS)
    assert told(world)[5:] == ["budget_threshold cleared"]


@pytest.mark.contract("2.10")
def test_an_operation_that_the_card_lacks_is_alerted_once_by_one_id_everywhere() -> None:
    ids = set()
    for org in ("org_a", "org_b"):
        world = World(catalogues=[with_rules("unrated")])
        world.obey(organization_put(org), key_put("key_1", org))
        for second in range(3):
            at = NOW_MS + second * 10 * SECOND_MS
            world.send(usage("frobs.make", org=org, key="key_1", ts=at), at=at)
            world.pass_time(at + SECOND_MS)
        assert told(world) == ["unrated fired"]
        (alert,) = alerts_of(world)
        ids.add(alert.alert_id)
        assert alert.scope.text() == f"operation:{org}:frobs.make"
    assert len(ids) == 1


@pytest.mark.contract("9.6")
def test_an_unknown_model_is_alerted_once_also_as_a_charge() -> None:
    world = small_world(catalogues=[with_rules("unrated")])
    embedding = WireCharge("inference.embedding", {"requests": 1}, "no-such-model")
    world.send(usage("retriever.execute", charges=[embedding]), at=NOW_MS)
    world.send(usage("inference.embedding", model="no-such-model"), at=NOW_MS)
    world.pass_time(NOW_MS + SECOND_MS)
    (alert,) = alerts_of(world)
    assert "no-such-model" in alert.sentence


@pytest.mark.contract("5.3")
def test_an_organization_at_80_percent_of_its_requests_at_a_time_is_warned_and_clears_at_75() -> None:
    world = small_world(catalogues=[with_rules("concurrency_warning")])  # 50 at a time
    for sequence, (in_flight, rules) in enumerate(
        [(39, []), (40, ["fired"]), (45, ["fired"]), (38, ["fired"]), (37, ["fired", "cleared"])], 1
    ):
        world.append(gauge(in_flight, sequence=sequence), NOW_MS + 2 * sequence * SECOND_MS)
        assert told(world) == [f"concurrency_warning {state}" for state in rules]
    fired = alerts_of(world)[0]
    assert (fired.scope.text(), fired.observed, fired.limit) == ("organization:org_a", 40, 50)


@pytest.mark.contract("5.3")
def test_a_crashed_nodes_requests_alert_no_longer_than_they_live() -> None:
    world = small_world(catalogues=[with_rules("concurrency_warning")])
    world.append(gauge(50, ttl_ms=5_000), NOW_MS + SECOND_MS)
    world.take_over()
    world.pass_time(NOW_MS + 5 * SECOND_MS)
    assert told(world) == ["concurrency_warning fired"]
    world.pass_time(NOW_MS + 8 * SECOND_MS)
    assert told(world)[1:] == ["concurrency_warning cleared"]


@pytest.mark.contract("5.1")
def test_an_organization_of_a_pool_alerts_by_its_cap_and_the_account_by_the_pool() -> None:
    world = World(catalogues=[with_rules("credits_80", "credits_blocked")])
    pool = {"cap_micro": 100_000_000}
    world.obey(
        organization_put(tier="enterprise", credits_micro_per_month=1_000_000_000),
        organization_put("org_b", "enterprise", account_id="org_a", pool=pool),
        organization_put("org_c", "enterprise", account_id="org_a"),
        key_put("key_b", "org_b", account_id="org_a"),
        key_put("key_c", "org_c", account_id="org_a"),
    )
    for at, (org, amount) in enumerate([("org_b", 79), ("org_b", 1), ("org_c", 700), ("org_b", 20)]):
        event = usage(
            "documents.create", org=org, key=f"key_{org[-1]}", account="org_a", quantities={"documents": amount}
        )
        world.send(event, at=NOW_MS + 2 * at * SECOND_MS)
    world.take_over()
    world.pass_time(NOW_MS + 10 * SECOND_MS)
    assert [(alert.rule, alert.scope.text(), alert.limit) for alert in alerts_of(world)] == [
        ("credits_80", "organization:org_b", 100_000_000),
        ("credits_80", "account:org_a", 1_000_000_000),
        ("credits_blocked", "organization:org_b", 100_000_000),
    ]
    assert {alert.account_id for alert in alerts_of(world)} == {"org_a"}
