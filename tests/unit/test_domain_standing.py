"""What a standing decision says while its key goes on, after new limits and to a new owner."""

import pytest

from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.outputs import Decision
from sluicegate_schemas.topics import DECISIONS
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage

INTERVAL_MS = DomainSettings().block_interval_ms


def burst(world: World, count: int, at: int = NOW_MS, **fields):
    return world.send(*(usage("metadata.free", ts=at, **fields) for _ in range(count)), at=at)


def newest(world: World, limit_name: str) -> Decision:
    return [one for one in world.decisions if one.limit_name == limit_name][-1]


def until_ms(decision: Decision) -> int:
    assert decision.until is not None
    return to_epoch_ms(decision.until)


def clears_ms(world: World, limit_name: str) -> int:
    buckets = world.machine.buckets.get("key_a")
    assert buckets is not None
    return buckets.named(limit_name).until_ms()


@pytest.mark.parametrize(("limit_name", "index"), [("requests_per_second", 20), ("requests_per_minute", 60)])
def test_a_burst_inside_one_envelope_is_blocked_until_all_of_it_is_paid(limit_name, index):
    world = small_world("free")
    burst(world, 400)
    assert len(world.decisions) == 2
    decision = newest(world, limit_name)
    assert decision.observed == 400
    assert until_ms(decision) == clears_ms(world, limit_name)
    assert decision.cause is not None
    assert decision.cause.position.index == index


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_a_block_that_is_too_short_right_after_its_publication_is_corrected_when_the_interval_is_over(is_taken_over):
    world = small_world("free")
    burst(world, 61)
    burst(world, 100, NOW_MS + 10)
    burst(world, 100, NOW_MS + 20)
    assert newest(world, "requests_per_minute").observed == 61
    if is_taken_over:
        world.take_over()
    world.pass_time(NOW_MS + INTERVAL_MS - 1)
    assert newest(world, "requests_per_minute").observed == 61
    world.pass_time(NOW_MS + INTERVAL_MS)
    decision = newest(world, "requests_per_minute")
    assert decision.observed == 261
    assert until_ms(decision) == clears_ms(world, "requests_per_minute") == NOW_MS + 202_000
    assert decision.cause is not None
    assert decision.cause.position.offset == 1
    count = len(world.early)
    world.pass_time(NOW_MS + 10_000)
    assert len(world.early) == count


def test_a_short_block_that_ran_out_while_its_key_went_on_is_renewed():
    world = small_world("pro")  # 100 a second, burst 200
    burst(world, 201)
    burst(world, 90, NOW_MS + 100)
    assert until_ms(newest(world, "requests_per_second")) == NOW_MS + 20
    world.pass_time(NOW_MS + INTERVAL_MS)
    assert until_ms(newest(world, "requests_per_second")) == clears_ms(world, "requests_per_second") == NOW_MS + 920


def test_what_is_a_small_part_of_a_long_block_is_said_before_it_is_a_large_one():
    world = small_world("free")
    burst(world, 400)
    burst(world, 25, NOW_MS + 1_000)
    first = newest(world, "requests_per_minute")
    assert until_ms(first) == NOW_MS + 341_000
    for step in range(1, 341, 5):  # no more requests: ticks alone
        world.pass_time(NOW_MS + step * 1_000)
        short_ms = clears_ms(world, "requests_per_minute") - until_ms(newest(world, "requests_per_minute"))
        assert short_ms <= (until_ms(newest(world, "requests_per_minute")) - world.log_time_ms) // 10 + 500
    assert until_ms(newest(world, "requests_per_minute")) == clears_ms(world, "requests_per_minute") == NOW_MS + 366_000
    assert newest(world, "requests_per_minute").cause.position.offset == 1


def test_no_standing_block_is_materially_too_short_for_longer_than_the_interval():
    world = small_world("free")
    wrong_since = None
    for step in range(200):
        at = NOW_MS + step * 50
        burst(world, 1 + 7 * step % 13, at)
        named = [one for one in world.decisions if one.limit_name == "requests_per_minute"]
        if not named:
            continue
        short_ms = clears_ms(world, "requests_per_minute") - until_ms(named[-1])
        left_ms = until_ms(named[-1]) - at
        is_wrong = short_ms > max(1_000, left_ms // 10)
        wrong_since = (wrong_since or at) if is_wrong else None
        assert wrong_since is None or at - wrong_since < INTERVAL_MS
    assert len(named) > 5


def test_a_key_that_is_in_debt_under_its_new_limits_is_blocked_by_those():
    world = small_world("free")
    for _ in range(4):
        burst(world, 500)
    before = newest(world, "requests_per_minute")
    world.obey(organization_put(tier="pro"))
    after = newest(world, "requests_per_minute")
    assert (before.verdict, after.verdict) == ("block", "block")
    assert (after.limit, after.observed, after.cause) == (600, 2_000, None)
    assert until_ms(after) == clears_ms(world, "requests_per_minute") < until_ms(before)
    assert newest(world, "requests_per_second").limit == 200


def test_a_downgrade_blocks_a_key_that_holds_more_than_its_new_limits_allow():
    world = small_world("pro")
    burst(world, 150)
    assert world.decisions == []
    world.obey(organization_put(tier="free"))
    rates = [one for one in world.decisions if one.scope.kind == "key"]
    assert {(one.verdict, one.limit, one.observed) for one in rates} == {
        ("block", 20, 150),
        ("block", 60, 150),
    }


def test_allows_outlive_the_compaction_lag_and_a_new_owner_repeats_them():
    kept_ms = DomainSettings().allows_kept_ms
    assert kept_ms >= 15 * 60_000 > int(DECISIONS.settings["min.compaction.lag.ms"])
    world = small_world("free")
    burst(world, 100)
    world.send(usage("documents.create", quantities={"documents": 1_000}))
    world.obey(organization_put(tier="pro"))
    world.log_time_ms = NOW_MS + kept_ms - 60_000
    world.pass_time(world.log_time_ms)
    world.early.clear()
    world.take_over()
    assert {(one.limit_name, one.verdict) for one in world.decisions} == {
        ("credits", "allow"),
        ("requests_per_second", "allow"),
        ("requests_per_minute", "allow"),
        ("data_per_minute", "allow"),
    }
    assert {one.sequence.epoch for one in world.decisions} == {world.epoch}
    world.pass_time(NOW_MS + kept_ms)
    assert world.standing() == {}


def test_a_key_that_was_allowed_is_blocked_at_once_when_it_is_in_debt_again():
    world = small_world("free")
    burst(world, 100)
    world.obey(organization_put(tier="pro"))
    for _ in range(2):
        burst(world, 300, NOW_MS + 1)
    assert newest(world, "requests_per_minute").verdict == "block"
    assert world.standing()["requests_per_minute:key:key_a"].verdict == "block"


@pytest.mark.parametrize("what", ["another key's request", "a tick in the log", "a command"])
def test_a_correction_goes_out_with_the_first_record_of_any_kind_after_the_interval(what):
    world = small_world("free")
    burst(world, 61)
    burst(world, 100, NOW_MS + 10)
    at = NOW_MS + INTERVAL_MS
    if what == "a command":
        world.obey(key_put("key_b"), at=at)
    elif what == "a tick in the log":
        world.append(b"\x91\x03", at)
    else:
        burst(world, 1, at, key="key_t")
    assert newest(world, "requests_per_minute").observed == 161
