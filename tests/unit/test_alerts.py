"""Alerts clear and fire again, outlive their owner, and stay within bounds (requirements, section 5)."""

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from streams.domain.settings import DomainSettings
from tests.alerting import (
    DAY_MS,
    HOUR_MS,
    MONTH_END_MS,
    SECOND_MS,
    alerts_of,
    credit_world,
    spend,
    throttle,
    told,
    with_rules,
)
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage


def test_one_leap_past_all_thresholds_fires_them_all() -> None:
    world = credit_world("credits_80", "credits_95", "credits_blocked")
    spend(world, 5_000, NOW_MS)
    assert told(world) == ["credits_80 fired", "credits_95 fired", "credits_blocked fired"]


@pytest.mark.contract("5.13", "9.12", "9.28")
def test_an_upgrade_clears_what_it_takes_below_the_threshold_under_the_same_id() -> None:
    world = credit_world("credits_80", "credits_95")
    spend(world, 960, NOW_MS)
    world.obey(organization_put(command_id="up", credits_micro_per_month=1_100_000_000), at=NOW_MS + 2 * SECOND_MS)
    world.pass_time(NOW_MS + 3 * SECOND_MS)
    assert told(world)[2:] == ["credits_95 cleared"]  # 87 %: below 90, and not yet below 75
    fired, cleared = alerts_of(world)[1:]
    assert cleared.alert_id == fired.alert_id
    assert cleared.fired_at == fired.fired_at
    assert cleared.advice == ""
    world.obey(organization_put(command_id="more", credits_micro_per_month=1_280_000_000), at=NOW_MS + 4 * SECOND_MS)
    world.pass_time(NOW_MS + 5 * SECOND_MS)
    assert told(world)[3:] == ["credits_80 cleared"]


@pytest.mark.contract("5.13")
def test_a_threshold_crossed_again_without_being_rearmed_is_no_second_alert() -> None:
    world = credit_world("credits_80")
    spend(world, 850, NOW_MS)
    world.obey(organization_put(command_id="up", credits_micro_per_month=1_100_000_000), at=NOW_MS + 2 * SECOND_MS)
    spend(world, 100, NOW_MS + 3 * SECOND_MS)
    assert told(world) == ["credits_80 fired"]


def test_the_month_s_end_clears_and_the_next_month_alerts_anew_under_another_id() -> None:
    world = credit_world("credits_80")
    spend(world, 900, NOW_MS)
    spend(world, 0, MONTH_END_MS)
    assert told(world) == ["credits_80 fired", "credits_80 cleared"]
    spend(world, 900, MONTH_END_MS + DAY_MS)
    ids = [alert.alert_id for alert in alerts_of(world)]
    assert ids[0] == ids[1] != ids[2]


def test_a_month_that_is_used_up_before_the_log_reaches_it_alerts_as_it_begins() -> None:
    world = credit_world("credits_80")
    spend(world, 900, NOW_MS)
    ahead = usage("documents.create", ts=MONTH_END_MS + 60_000, quantities={"documents": 900})
    world.send(ahead, at=MONTH_END_MS - 60_000)
    world.pass_time(MONTH_END_MS - 30_000)
    assert told(world) == ["credits_80 fired"]
    world.pass_time(MONTH_END_MS)
    assert told(world)[1:] == ["credits_80 cleared", "credits_80 fired"]
    assert alerts_of(world)[2].reset_at is not None


def test_an_account_without_any_credits_is_blocked_and_does_not_flap() -> None:
    world = credit_world("credits_80", "credits_blocked", credits_micro=0)
    for second in range(0, 50, 10):
        spend(world, 1, NOW_MS + second * SECOND_MS)
    assert told(world) == ["credits_80 fired", "credits_blocked fired"]


def test_a_catalogue_that_rates_the_operation_clears_its_alert() -> None:
    first = with_rules("unrated")
    entry = first.operations["documents.get"]
    second = first.model_copy(
        update={
            "version": 2,
            "effective_at": from_epoch_ms(NOW_MS + HOUR_MS),
            "operations": {**first.operations, "frobs.make": entry},
        }
    )
    world = small_world(catalogues=[first, second])
    world.send(usage("frobs.make"), at=NOW_MS)
    world.pass_time(NOW_MS + SECOND_MS)
    world.pass_time(NOW_MS + HOUR_MS)
    assert told(world) == ["unrated fired", "unrated cleared"]


def test_a_rule_that_a_new_catalogue_drops_clears_and_one_that_it_brings_fires() -> None:
    first, other = with_rules("credits_80"), with_rules("credits_95")
    second = other.model_copy(update={"version": 2, "effective_at": from_epoch_ms(NOW_MS + HOUR_MS)})
    world = World(catalogues=[first, second])
    world.obey(organization_put(credits_micro_per_month=1_000_000_000), key_put())
    spend(world, 990, NOW_MS)
    world.pass_time(NOW_MS + HOUR_MS)
    assert told(world) == ["credits_80 fired", "credits_80 cleared", "credits_95 fired"]


def test_a_new_owner_fires_nothing_twice_and_clears_under_the_old_id() -> None:
    world = credit_world("credits_80")
    spend(world, 900, NOW_MS)
    world.take_over()
    world.pass_time(NOW_MS + 5 * SECOND_MS)
    assert told(world) == ["credits_80 fired"]
    world.take_over()
    world.pass_time(MONTH_END_MS)
    fired, cleared = alerts_of(world)
    assert (cleared.state, cleared.alert_id) == ("cleared", fired.alert_id)


def test_a_crossing_that_nobody_had_looked_at_when_its_owner_died_is_alerted_by_the_next() -> None:
    world = credit_world("credits_80")
    world.send(usage("documents.create", quantities={"documents": 900}), at=NOW_MS)
    world.take_over()
    world.pass_time(NOW_MS + SECOND_MS)
    assert told(world) == ["credits_80 fired"]


def test_429s_counted_before_a_takeover_still_count() -> None:
    world = small_world(catalogues=[with_rules("sustained_rate_limiting")])
    throttle(world, 10, NOW_MS)
    world.take_over()
    throttle(world, 1, NOW_MS + 60_000)
    assert told(world) == ["sustained_rate_limiting fired"]


def test_more_alerts_than_one_second_has_room_for_come_with_the_next_records() -> None:
    world = World(catalogues=[with_rules("sustained_rate_limiting")])
    keys = [f"key_{n}" for n in range(1_100)]
    world.obey(organization_put(), *[key_put(key) for key in keys])
    for start in range(0, 1_100, 40):
        world.send(*[usage(status=429, key=key) for key in keys[start : start + 40] for _ in range(12)], at=NOW_MS)
    counts = []
    for later in (1, 1, 1, 2):
        world.pass_time(NOW_MS + later * SECOND_MS)
        counts.append(len(told(world)))
    assert counts == [500, 1_000, 1_100, 1_100]
    assert len({alert.alert_id for alert in alerts_of(world)}) == 1_100


def test_above_the_most_windows_the_key_silent_longest_is_forgotten() -> None:
    world = small_world(
        catalogues=[with_rules("sustained_rate_limiting")], settings=DomainSettings(alert_windows_max=1)
    )
    throttle(world, 10, NOW_MS)
    throttle(world, 1, NOW_MS + 2 * SECOND_MS, key="key_t")
    throttle(world, 1, NOW_MS + 4 * SECOND_MS)
    assert told(world) == []
    assert sum(key.startswith(b"y|") for key in world.rows) == 1


def test_windows_that_hold_nothing_any_more_leave_the_state() -> None:
    world = small_world(catalogues=[with_rules("sustained_rate_limiting")])
    throttle(world, 20, NOW_MS)
    world.pass_time(NOW_MS + HOUR_MS)
    assert not any(key.startswith((b"y|", b"a|")) for key in world.rows)
