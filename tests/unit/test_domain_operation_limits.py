"""Limits of single operations: once per subject, and a quantity a minute."""

import pytest

from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.envelope import WireCharge
from streams.domain.notices import SUBJECT
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, default_catalogue, small_world, usage
from tests.limits_world import exemption_put, newest


def submit(world: World, subject: str = "batch-1", at: int = NOW_MS, **fields) -> None:
    event = usage("batch.submit", ts=at, **fields)
    event.subject = subject
    world.send(event, at=at)


def until_ms(world: World, limit_name: str) -> int:
    until = newest(world, limit_name).until
    assert until is not None
    return to_epoch_ms(until)


def said(world: World, limit_name: str) -> list[str]:
    return [one.verdict for one in world.decisions if one.limit_name == limit_name]


@pytest.mark.contract("3.5", "9.24")
def test_a_batch_is_closed_for_a_minute_from_its_admission():
    world = small_world()
    submit(world, at=NOW_MS, started=NOW_MS - 3_000)
    block = newest(world, "operation_interval")
    assert (block.verdict, block.scope.text()) == ("block", "operation:org_a:batch.submit:batch-1")
    assert until_ms(world, "operation_interval") == NOW_MS + 57_000
    assert block.cause is not None
    assert block.cause.position.offset == 0
    submit(world, at=NOW_MS + 10, started=NOW_MS - 4_000)
    assert len(said(world, "operation_interval")) == 1, "an earlier one changes nothing"
    submit(world, at=NOW_MS + 20)
    assert until_ms(world, "operation_interval") == NOW_MS + 60_020
    world.pass_time(NOW_MS + 180_000)
    assert world.standing() == {}


@pytest.mark.contract("9.24")
@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_refused_or_failed_request_closes_nothing(status):
    world = small_world()
    submit(world, status=status)
    assert said(world, "operation_interval") == []


def test_a_client_error_was_admitted_all_the_same_and_other_operations_and_events_without_subject_close_nothing():
    world = small_world()
    world.send(usage("batch.submit"))
    event = usage("cluster.execute", quantities={"dataset_size": 1})
    event.subject = "cluster-1"
    world.send(event)
    assert said(world, "operation_interval") == []
    submit(world, status=404)
    assert said(world, "operation_interval") == ["block"]


def test_an_old_request_closes_nothing_now():
    world = small_world(settings=DomainSettings(start_skew_ms=120_000))
    submit(world, started=NOW_MS - 61_000)
    assert said(world, "operation_interval") == []


def test_more_subjects_than_are_remembered_and_the_oldest_is_forgotten_and_counted():
    world = small_world(tier="enterprise", settings=DomainSettings(subjects_max=3))
    for number in range(5):
        submit(world, f"batch-{number}", at=NOW_MS + number)
    standing = [row.subject for row in world.standing().values() if row.limit_name == "operation_interval"]
    assert standing == ["batch-2", "batch-3", "batch-4"]
    assert world.machine.notices.get(SUBJECT, "batch.submit") == 2
    world.take_over()
    assert world.machine.participants.sizes()["closed_subjects"] == 3


def test_an_exemption_opens_closed_subjects():
    world = small_world()
    submit(world)
    world.obey(exemption_put("operation_interval", from_ms=NOW_MS + 10, until_ms=NOW_MS + 50_000), at=NOW_MS + 10)
    assert said(world, "operation_interval") == ["block", "allow"]
    submit(world, "batch-2", at=NOW_MS + 20)
    assert said(world, "operation_interval") == ["block", "allow"]


@pytest.mark.contract("3.7", "9.3")
def test_web_searches_of_all_keys_and_charges_share_ten_a_minute_and_cache_hits_take_none():
    world = small_world("team")
    for step in range(4):
        world.send(usage("search.web", ts=NOW_MS + step), at=NOW_MS + step)
    world.send(usage("search.web", cached=True, key="key_t"), usage("search.web", status=429))
    world.send(usage("retriever.execute", charges=[WireCharge("search.web"), WireCharge("search.web", cached=True)]))
    world.send(*[usage("search.web", key="key_t")] * 5)
    assert said(world, "operation_quantity") == []
    world.send(usage("search.web", ts=NOW_MS + 10), at=NOW_MS + 10)
    block = newest(world, "operation_quantity")
    assert (block.verdict, block.limit, block.observed) == ("block", 10, 11)
    assert block.scope.text() == "operation:org_a:search.web"
    assert until_ms(world, "operation_quantity") == NOW_MS + 12_000
    world.pass_time(NOW_MS + 120_000)
    assert world.standing() == {}


@pytest.mark.contract("3.7")
@pytest.mark.parametrize("is_taken_over", [False, True])
def test_tokens_of_the_model_operation_are_held_to_their_minute_and_a_long_debt_is_said_again(is_taken_over):
    world = small_world("team")
    world.send(usage("inference.llm", quantities={"tokens": 100_000}))
    assert said(world, "operation_quantity") == []
    world.send(usage("inference.llm", ts=NOW_MS + 1, quantities={"tokens": 50_000}), at=NOW_MS + 1)
    if is_taken_over:
        world.take_over()
    world.send(usage("inference.llm", ts=NOW_MS + 2, quantities={"tokens": 100_000}), at=NOW_MS + 2)
    assert newest(world, "operation_quantity").observed == 149_999
    world.pass_time(NOW_MS + 1_000)
    assert newest(world, "operation_quantity").observed in range(248_000, 250_000)
    assert until_ms(world, "operation_quantity") == NOW_MS + 90_001


def test_a_new_version_changes_the_limit_and_keeps_what_was_used():
    first = default_catalogue()
    limits = tuple(
        one.model_copy(update={"limit": 100}) if one.operation == "search.web" else one
        for one in first.operation_limits
    )
    later = first.model_copy(
        update={"version": 2, "effective_at": from_epoch_ms(NOW_MS + 1_000), "operation_limits": limits}
    )
    world = small_world("team", catalogues=[first, later])
    world.send(*[usage("search.web")] * 30)
    assert newest(world, "operation_quantity").verdict == "block"
    world.pass_time(NOW_MS + 1_000)
    allow = newest(world, "operation_quantity")
    assert (allow.verdict, allow.observed) == ("allow", 30)
    world.send(*[usage("search.web", ts=NOW_MS + 1_000)] * 71, at=NOW_MS + 1_000)
    assert newest(world, "operation_quantity").limit == 100


def test_buckets_at_rest_go_and_those_that_pass_their_number_too():
    world = small_world("team", settings=DomainSettings(operation_buckets_max=1))
    world.send(usage("search.web"), usage("inference.llm", quantities={"tokens": 5}))
    assert [key for key in world.rows if key.startswith(b"r|")] == [b"r|org_a|inference.llm|tokens"]
    assert world.machine.notices.get(SUBJECT, "search.web") == 1
    world.pass_time(NOW_MS + 3_600_000)
    assert not [key for key in world.rows if key.startswith(b"r|")]


def test_an_exemption_takes_the_quantity_off_and_begins_anew_when_it_ends():
    world = small_world("team")
    world.send(*[usage("search.web")] * 15)
    assert said(world, "operation_quantity") == ["block"]
    world.obey(exemption_put("operation_quantity", from_ms=NOW_MS + 10, until_ms=NOW_MS + 50_000), at=NOW_MS + 10)
    world.send(*[usage("search.web", ts=NOW_MS + 20)] * 50, at=NOW_MS + 20)
    assert said(world, "operation_quantity") == ["block", "allow"]
    world.send(*[usage("search.web", ts=NOW_MS + 50_000)] * 10, at=NOW_MS + 50_000)
    assert said(world, "operation_quantity") == ["block", "allow"]
    world.send(usage("search.web", ts=NOW_MS + 50_001), at=NOW_MS + 50_001)
    assert said(world, "operation_quantity") == ["block", "allow", "block"]
