"""Category buckets of keys, and limits that change for many keys at once (requirements, sections 1 and 3)."""

from collections.abc import Iterator
from itertools import islice

import msgspec
import pytest

from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.limits import CategoryShares, RateLimits
from streams.domain.settings import DomainSettings
from streams.domain.tables import BucketsRow
from tests.domain_world import NOW_MS, World, default_catalogue, key_put, organization_put, small_world, usage
from tests.limits_world import exemption_put, newest

FREE_SEARCH = 30
"""Half of the free plan's 60 requests a minute."""


def spread(world: World, count: int, operation: str, *, at: int = NOW_MS, **fields: object) -> int:
    """``count`` requests, 100 ms apart: no second bucket fills. Returns the log time after them."""
    for step in range(count):
        world.send(usage(operation, ts=at + step * 100, **fields), at=at + step * 100)
    return at + (count - 1) * 100


@pytest.mark.contract("3.2")
def test_a_key_is_blocked_by_the_bucket_of_its_category_alone():
    world = small_world("free")
    spread(world, FREE_SEARCH + 1, "documents.get")
    assert world.decisions == [], "data has 80 % of the minute"
    world = small_world("free")
    end_ms = spread(world, FREE_SEARCH + 2, "search.knn")  # one came back meanwhile
    (block,) = world.decisions
    assert (block.verdict, block.limit_name, block.scope.text()) == ("block", "search_per_minute", "key:key_a")
    assert (block.limit, block.observed) == (FREE_SEARCH, FREE_SEARCH + 1)
    assert block.until is not None
    assert to_epoch_ms(block.until) > end_ms
    assert block.decision_id == "block/search/key_a/u0-31-0"


@pytest.mark.contract("1.12")
@pytest.mark.parametrize(
    ("operation", "limit_name", "limit"),
    [("collections.get", "metadata_per_minute", 60), ("documents.get", "data_per_minute", 48),
     ("search.knn", "search_per_minute", 30), ("upload.file", "upload_per_minute", 15),
     ("inference.llm", "compute_per_minute", 6)],
)  # fmt: skip
def test_each_category_has_its_share_of_the_keys_minute(operation, limit_name, limit):
    world = small_world("free")
    quantities = {"bytes": 1} if operation == "upload.file" else {"tokens": 1} if "llm" in operation else None
    for _ in range(limit + 1):
        world.send(usage(operation, quantities=quantities))
    named = [one for one in world.decisions if one.limit_name == limit_name]
    assert [(one.limit, one.observed) for one in named] == [(limit, limit + 1)]


@pytest.mark.contract("3.3", "9.3")
def test_a_429_takes_no_token_of_a_category_and_a_cache_hit_takes_one():
    world = small_world("free")
    spread(world, 100, "search.knn", status=429)
    assert world.decisions == []
    spread(world, FREE_SEARCH + 8, "search.knn", at=NOW_MS + 10_000, cached=True)
    assert newest(world, "search_per_minute").verdict == "block"


@pytest.mark.contract("3.3")
def test_a_plan_may_charge_a_429_a_token():
    first = default_catalogue()
    plans = first.plans | {"free": first.plans["free"].model_copy(update={"throttled_takes_token": True})}
    world = small_world("free", catalogues=[first.model_copy(update={"plans": plans})])
    for _ in range(21):
        world.send(usage("collections.get", status=429))
    assert newest(world, "requests_per_second").observed == 21
    assert sum(cell.throttled for cell in world.cells.values()) == 21


def test_an_operation_that_the_card_lacks_has_no_category():
    world = small_world("free")
    spread(world, 60, "metadata.free")
    assert {one.limit_name for one in world.decisions} == set()


@pytest.mark.contract("1.18")
def test_an_exempt_limit_blocks_no_more_and_counts_anew_when_the_exemption_ends():
    world = small_world("free")
    spread(world, FREE_SEARCH + 8, "search.knn")
    at = NOW_MS + 4_000
    assert newest(world, "search_per_minute").verdict == "block"
    world.obey(exemption_put("search_per_minute", from_ms=at, until_ms=at + 20_000), at=at)
    assert newest(world, "search_per_minute").verdict == "allow"
    before = len(world.decisions)
    for step in range(40):
        world.send(usage("search.knn", ts=at + step * 400), at=at + step * 400)
    assert [one.limit_name for one in world.decisions[before:]] == [], "41 in 16 s are within the key's own"
    world.take_over()
    world.pass_time(at + 20_000)
    assert newest(world, "search_per_minute").verdict == "allow"
    spread(world, FREE_SEARCH, "search.knn", at=at + 40_000)
    assert newest(world, "search_per_minute").verdict == "allow"
    spread(world, 8, "search.knn", at=at + 43_000)
    assert newest(world, "search_per_minute").verdict == "block"


def test_a_row_of_before_categories_were_kept_loads_and_keeps_its_requests():
    world = small_world("free")
    spread(world, 10, "search.knn")
    row = msgspec.msgpack.decode(world.rows[b"b|key_a"], type=BucketsRow)
    world.rows[b"b|key_a"] = msgspec.msgpack.encode(msgspec.structs.astuple(row)[:5])
    world.take_over()
    buckets = world.machine.buckets.get("key_a")
    assert buckets is not None
    assert [one.limit for one in buckets.all] == [20, 60, 60, 48, 30, 15, 6]
    assert [one.held(NOW_MS + 900) for one in buckets.all] == [1, 10, 0, 0, 0, 0, 0]
    assert world.decisions == []


# ---- another catalogue version, for many keys at once ----

KEYS = 400
START_MS = NOW_MS + 60_000
SMALL_FLUSH = DomainSettings(changed_rows_max=100)


def versions() -> list[Catalogue]:
    """Free keys get four times as many requests, and a smaller share of searches."""
    first = default_catalogue()
    rates = RateLimits(requests_per_second=40, burst=80, requests_per_minute=240)
    plan = first.plans["free"].model_copy(update={"rates": rates, "shares": CategoryShares(search=30)})
    update = {"version": 2, "effective_at": from_epoch_ms(START_MS), "plans": first.plans | {"free": plan}}
    return [first, first.model_copy(update=update)]


def many_keys(*, takes_over_at: int = -1) -> Iterator[tuple[World, list[int]]]:
    """A world with many keys in debt and many that are not, as it is after each flush from the version's start on, and
    how many rows each flush had."""
    world = World(settings=SMALL_FLUSH, catalogues=versions())
    for number in range(KEYS):
        name = f"org_{number % 50}"
        if number < 50:
            world.obey(organization_put(name, "free"))
        world.obey(key_put(f"key_{number}", name))
    at = START_MS - 1_000
    for number in range(KEYS):
        count = 70 if number % 2 else 3
        world.send(
            *(usage("metadata.free", key=f"key_{number}", org=f"org_{number % 50}", ts=at) for _ in range(count)), at=at
        )
    flushed: list[int] = []
    take = world.machine.take_changes
    for step in range(200):
        if step == takes_over_at:
            world.take_over()
            take = world.machine.take_changes
        at = START_MS + step * 10

        def counted(take=take):
            changes = take()
            flushed.append(len(changes))
            return changes

        world.machine.take_changes = counted  # type: ignore[method-assign]  # to see how large a flush is
        world.pass_time(at)
        yield world, flushed


def last_verdicts(world: World) -> dict[str, tuple[str, int]]:
    found = {}
    for decision in world.decisions:
        if decision.limit_name == "requests_per_minute":
            found[decision.scope.id] = decision.verdict, decision.limit
    return found


@pytest.mark.parametrize("takes_over_at", [-1, 0, 3, 17])
def test_new_limits_of_many_keys_go_out_by_as_many_as_a_flush_holds_and_each_verdict_is_right(takes_over_at):
    *_, (world, flushed) = islice(many_keys(takes_over_at=takes_over_at), 150)
    assert last_verdicts(world) == {f"key_{number}": ("allow", 240) for number in range(KEYS)}
    assert max(flushed) <= SMALL_FLUSH.changed_rows_max
    assert sum(flushed) > 10 * SMALL_FLUSH.changed_rows_max, "one flush was too small for all of it"


def test_blocked_keys_are_told_first():
    for world, _ in many_keys():
        told = [name for name, verdict in last_verdicts(world).items() if verdict == ("allow", 240)]
        if len(told) >= KEYS // 4:
            break
    assert all(int(name.removeprefix("key_")) % 2 for name in told)


def test_a_key_that_is_used_before_its_verdict_was_said_is_counted_by_the_new_limits():
    world, _ = next(many_keys())
    name = next(f"key_{number}" for number in range(KEYS) if last_verdicts(world).get(f"key_{number}") is None)
    number = int(name.removeprefix("key_"))
    assert number % 2 == 0
    org = f"org_{number % 50}"
    world.send(*(usage("metadata.free", key=name, org=org, ts=START_MS) for _ in range(200)), at=START_MS)
    assert last_verdicts(world).get(name, ("allow", 240))[0] == "allow"
    world.send(*(usage("metadata.free", key=name, org=org, ts=START_MS) for _ in range(100)), at=START_MS)
    assert last_verdicts(world)[name] == ("block", 240)


def test_what_a_bucket_holds_when_its_limits_change_does_not_hang_on_when_it_is_looked_at():
    held = []
    for takes_over_at in (-1, 0, 5, 30):
        *_, (world, _) = islice(many_keys(takes_over_at=takes_over_at), 41)
        held.append({
            one.api_key_id: [bucket.held(START_MS + 400) for bucket in one.all] for one in world.machine.buckets
        })  # fmt: skip
    assert held[0] == held[1] == held[2] == held[3]
