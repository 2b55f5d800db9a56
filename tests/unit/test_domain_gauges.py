"""Concurrency from the nodes' gauges: what is summed up, when it closes, and that it always opens again."""

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.envelope import WireInFlight
from sluicegate_schemas.partitioning import partition_of
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, default_catalogue, organization_put, small_world
from tests.limits_world import exemption_put, gauge, newest
from tests.lossy_world import LogRecord, LossyWorld

TTL_MS = 5_000
FREE_LIMIT = 5
INTERVAL_MS = DomainSettings().block_interval_ms


def said(world: World, scope: str = "organization:org_a") -> list[tuple[str, int, int]]:
    return [
        (one.verdict, one.observed, one.limit)
        for one in world.decisions
        if one.limit_name == "concurrency" and one.scope.text() == scope
    ]


@pytest.mark.contract("3.4")
def test_the_requests_of_all_nodes_together_close_an_organization_and_fewer_open_it():
    world = small_world("free")
    world.append(gauge(2, node="node-1"))
    assert said(world) == []
    world.append(gauge(3, node="node-2"), at=NOW_MS + 10)
    assert said(world) == [("block", 5, 5)]
    block = newest(world, "concurrency")
    assert block.until is None
    assert block.cause is not None
    assert (block.cause.position.offset, block.cause.event_id) == (1, "gauge:node-2:1")
    world.append(gauge(2, node="node-2", sequence=2), at=NOW_MS + 20)
    assert said(world)[1:] == [("allow", 4, 5)]


def test_use_is_told_as_it_crosses_bands_and_not_too_often():
    world = small_world("pro")  # 50 at a time
    for step in range(50):
        world.append(gauge(step, sequence=step + 1), at=NOW_MS + step * INTERVAL_MS)
    assert said(world) == [("allow", 25, 50), ("allow", 40, 50), ("allow", 45, 50)]
    for step in range(50, 60):
        world.append(gauge(24 + step % 2, sequence=step + 1), at=NOW_MS + 20_000 + step)
    assert len(said(world)) == 4, "only the first of ten crossings within some milliseconds"
    world.pass_time(NOW_MS + 20_050 + INTERVAL_MS)
    assert said(world)[4:] == [("allow", 25, 50)], "the last is told when the interval is over"


def test_use_that_was_told_stands_until_it_is_told_that_it_fell():
    kept_ms = 2 * TTL_MS
    world = small_world("free", settings=DomainSettings(allows_kept_ms=kept_ms))
    begin_ms, step_ms = NOW_MS + kept_ms + 1_000, TTL_MS - 1
    for step in range(20):
        world.append(gauge(4, sequence=step + 1), at=begin_ms + step * step_ms)
        world.pass_time(world.log_time_ms)
    assert said(world) == [("allow", 4, 5)]
    world.append(gauge(0, sequence=21), at=begin_ms + 20 * step_ms)
    assert said(world)[1:] == [("allow", 0, 5)]
    world.pass_time(world.log_time_ms + kept_ms + 60_000)
    assert "concurrency:organization:org_a" not in world.standing()


@pytest.mark.contract("2.3")
def test_what_a_crashed_node_held_is_free_when_its_time_to_live_is_over():
    world = small_world("free")
    world.append(gauge(3, node="node-1"))
    world.append(gauge(2, node="node-2"), at=NOW_MS + 3_000)
    assert said(world)[-1][0] == "block"
    world.pass_time(NOW_MS + TTL_MS - 1)
    assert said(world)[-1][0] == "block"
    world.pass_time(NOW_MS + TTL_MS)
    assert said(world)[-1] == ("allow", 2, 5)
    assert [key for key in world.rows if key.startswith(b"v|")] == [b"v|org_a|node-2"]
    world.pass_time(NOW_MS + 3_000 + TTL_MS)
    assert not [key for key in world.rows if key.startswith(b"v|")]
    assert world.machine.participants.sizes()["gauges"] == 0


def test_a_node_that_started_anew_holds_only_what_it_says_now_and_what_is_late_changes_nothing():
    world = small_world("free")
    world.append(gauge(5, sequence=7))
    assert said(world)[-1][0] == "block"
    world.append(gauge(0, sequence=6), at=NOW_MS + 1)
    world.append(gauge(0, sequence=7), at=NOW_MS + 2)
    assert said(world)[-1][0] == "block"
    world.append(gauge(1, boot="boot-2", sequence=1), at=NOW_MS + 3)
    assert said(world)[-1] == ("allow", 1, 5)


@pytest.mark.contract("3.6")
@pytest.mark.parametrize("is_taken_over", [False, True])
def test_a_cluster_runs_one_execution_at_a_time(is_taken_over):
    world = small_world("pro")
    runs = [("cluster.execute", "cluster-7", 1)]
    world.append(gauge(1, subjects=runs))
    if is_taken_over:
        world.take_over()
    block = newest(world, "operation_concurrency")
    assert (block.verdict, block.limit, block.observed, block.until) == ("block", 1, 1, None)
    assert block.scope.text() == "operation:org_a:cluster.execute:cluster-7"
    world.append(gauge(1, sequence=2, subjects=[("cluster.execute", "cluster-8", 1)]), at=NOW_MS + 10)
    verdicts = {one.scope.subject: one.verdict for one in world.decisions if one.limit_name == "operation_concurrency"}
    assert verdicts == {"cluster-7": "allow", "cluster-8": "block"}
    world.pass_time(NOW_MS + 10 + TTL_MS)
    assert newest(world, "operation_concurrency", "operation:org_a:cluster.execute:cluster-8").verdict == "allow"


def test_a_plan_an_exemption_and_a_new_catalogue_version_open_and_close():
    world = small_world("free")
    world.append(gauge(10))
    world.obey(organization_put(tier="pro"), at=NOW_MS + 500)
    assert said(world)[-1] == ("allow", 10, 50)
    world.obey(organization_put(tier="free", command_id="down"), at=NOW_MS + 1_000)
    assert said(world)[-1] == ("block", 10, 5)
    world.obey(exemption_put("concurrency", from_ms=NOW_MS + 1_500, until_ms=NOW_MS + 2_500), at=NOW_MS + 1_500)
    assert said(world)[-1][:2] == ("allow", 10)
    world.pass_time(NOW_MS + 2_500)
    assert said(world)[-1] == ("block", 10, 5)


def test_a_limit_of_another_version_holds_from_its_start_on():
    first = default_catalogue()
    plans = first.plans | {"free": first.plans["free"].model_copy(update={"concurrency": 20})}
    later = first.model_copy(update={"version": 2, "plans": plans, "effective_at": from_epoch_ms(NOW_MS + 1_000)})
    world = small_world("free", catalogues=[first, later])
    world.append(gauge(10))
    assert said(world)[-1] == ("block", 10, 5)
    world.pass_time(NOW_MS + 1_000)
    assert said(world)[-1] == ("allow", 10, 20)


def test_gauges_come_from_rows_after_a_takeover_and_what_stands_is_said_again():
    world = small_world("free")
    world.append(gauge(3, node="node-1"))
    world.append(gauge(2, node="node-2"))
    world.early.clear()
    world.take_over()
    assert said(world) == [("block", 5, 5)]
    world.append(gauge(1, node="node-2", sequence=2), at=NOW_MS + 10)
    assert said(world)[-1] == ("allow", 4, 5)


def test_a_block_that_a_former_owner_said_and_did_not_keep_is_taken_back_where_a_command_comes_first_now():
    world = LossyWorld()
    world.obey(organization_put(tier="free"))
    world.keep()
    world.take_in(LogRecord("usage", NOW_MS, gauge(20)))
    assert said(world) == [("block", 20, 5)], "it went out early, and its flush never came"
    world.applied.append(LogRecord("accounts", NOW_MS, organization_put(tier="pro")))  # the former owner never saw it
    world.die(commands_first=True)
    believed = world.last_said("concurrency", "organization:org_a")
    assert believed is not None
    assert (believed.verdict, believed.limit) == ("allow", 50)


def test_a_gauge_in_a_partition_that_is_not_its_accounts_home_is_rejected():
    home = partition_of("org_a", 2)
    for partition in (0, 1):
        world = World(partition=partition, partitions=2)
        world.append(gauge(1))
        (reject,) = world.rejects
        expected = ("unknown_organization", "organizations[0].org_id")
        assert (reject.reason, reject.field) == (expected if partition == home else ("invalid", "account_id"))


def test_an_organization_that_is_not_the_accounts_is_rejected_by_its_place_and_the_others_count():
    world = small_world("free")
    world.append(gauge(organizations=[WireInFlight("org_x", 9, []), WireInFlight("org_a", 5, [])]))
    (reject,) = world.rejects
    assert (reject.reason, reject.field, reject.source.index) == (
        "unknown_organization", "organizations[0].org_id", 0,
    )  # fmt: skip
    assert said(world) == [("block", 5, 5)]
    assert world.machine.totals.rejected == 1


def test_more_gauges_than_a_partition_holds_are_refused_and_those_that_are_there_change():
    world = small_world("free", settings=DomainSettings(gauges_max=2))
    for number in range(4):
        world.append(gauge(1, node=f"node-{number}"))
    assert [one.reason for one in world.rejects] == ["table_full", "table_full"]
    world.append(gauge(4, node="node-0", sequence=2), at=NOW_MS + 1)
    assert said(world)[-1] == ("block", 5, 5)


def test_gauges_of_many_subjects_fill_a_flush_sooner():
    world = small_world("free", settings=DomainSettings(changed_rows_max=150))
    subjects = [("cluster.execute", f"c{number}", 1) for number in range(100)]
    records = [(offset, NOW_MS, None, gauge(100, node=f"node-{offset}", subjects=subjects)) for offset in range(10)]
    assert world.machine.apply_usage(records) < 3


def test_a_gauge_waits_for_the_accounts_that_it_names_and_is_refused_once_they_are_read():
    world = small_world("free")
    value = gauge(2, account="org_new", org="org_new")
    record = (0, NOW_MS, None, value)
    assert world.machine.apply_usage([record]) == 0
    assert world.machine.needs_accounts
    assert world.machine.apply_usage([record], accounts_current=True) == 1
    assert world.machine.totals.rejected == 1
