"""What each operation costs (requirements, sections 2 and 9)."""

import pytest

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.envelope import WireCharge
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, default_catalogue, small_world, usage

GB = 10**9
HOUR_MS = 3_600_000


@pytest.mark.contract("2.5", "2.6")
@pytest.mark.parametrize(
    ("operation", "quantities", "model", "credits_micro"),
    [
        ("documents.create", {"documents": 7}, None, 7_000_000),
        ("inference.embedding", None, "text-small", 1_000_000),
        ("inference.embedding", None, "multimodal-large", 5_000_000),
        ("inference.embedding", None, "a-model-nobody-knows", 1_000_000),
        ("inference.embedding", None, None, 1_000_000),
        ("inference.llm", {"tokens": 0}, None, 10_000_000),
        ("inference.llm", {"tokens": 1_000}, None, 10_000_000),
        ("inference.llm", {"tokens": 1_001}, None, 20_000_000),
        ("inference.llm", {"tokens": 10**6}, None, 100_000_000),
        ("search.knn", None, None, 100_000),
        ("search.knn", {"requests": 3}, None, 300_000),
        ("search.hybrid", None, None, 200_000),
        ("search.web", None, None, 10_000_000),
        ("cluster.execute", {"dataset_size": 1_000}, None, 50_000_000),
        ("cluster.execute", {"dataset_size": 1_001}, None, 100_000_000),
        ("cluster.execute", {"dataset_size": 100_000}, None, 250_000_000),
        ("cluster.execute", {"dataset_size": 100_001}, None, 500_000_000),
        ("upload.file", {"bytes": 1}, None, 1),
        ("upload.file", {"bytes": 1_500_000}, None, 1_500_000),
        ("video.process", {"milliseconds": 1}, None, 167),
        ("video.process", {"milliseconds": 90_000}, None, 15_000_000),
        ("retriever.execute", None, None, 0),
        ("an.operation.nobody_knows", {"tokens": 9}, None, 0),
    ],
)
def test_each_operation_costs_what_the_card_says(operation, quantities, model, credits_micro):
    world = small_world("team")
    world.send(usage(operation, quantities=quantities, model=model))
    for kind, identifier in (("account", "org_a"), ("organization", "org_a"), ("key", "key_a")):
        assert world.used(kind, identifier) == credits_micro


@pytest.mark.contract("9.1")
@pytest.mark.parametrize(("status", "is_paid"), [(199, 0), (200, 1), (299, 1), (300, 0), (404, 0), (429, 0), (500, 0)])
def test_only_success_costs(status, is_paid):
    world = small_world()
    world.send(usage("search.web", status=status))
    assert world.used("account", "org_a") == 10_000_000 * is_paid
    (cell,) = world.cells.values()
    assert (cell.requests, cell.events) == (1, 1)
    assert cell.throttled == (status == 429)
    assert cell.errors == (status >= 400 and status != 429)


@pytest.mark.contract("1.6", "2.8")
def test_a_cache_hit_and_a_test_key_cost_nothing_and_are_metered():
    world = small_world()
    world.send(usage("search.web", cached=True), usage("documents.create", key="key_t", quantities={"documents": 4}))
    assert world.used("account", "org_a") == 0
    cells = {key[2]: cell for key, cell in world.cells.items()}
    assert (cells["search.web"].requests, cells["search.web"].units) == (1, 1)
    assert (cells["documents.create"].requests, cells["documents.create"].units) == (1, 4)


@pytest.mark.contract("2.2")
def test_charges_inside_a_request_cost_under_their_own_operation_and_are_no_requests():
    world = small_world()
    charges = [
        WireCharge("search.knn"),
        WireCharge("inference.llm", {"tokens": 2_500}),
        WireCharge("search.web", None, None, True),
        WireCharge("search.knn", {"requests": 2}),
    ]
    world.send(usage("retriever.execute", charges=charges))
    cells = {key[2]: cell for key, cell in world.cells.items()}
    assert {name: (one.requests, one.events, one.units, one.credits_micro) for name, one in cells.items()} == {
        "retriever.execute": (1, 1, 1, 0),
        "search.knn": (0, 0, 3, 300_000),
        "inference.llm": (0, 0, 2_500, 30_000_000),
        "search.web": (0, 0, 1, 0),
    }
    assert world.used("account", "org_a") == 30_300_000
    assert world.ledger("account", "org_a").requests == 1


@pytest.mark.parametrize("status", [403, 429, 500])
def test_a_request_that_was_refused_before_it_named_a_model_has_none_that_is_unknown(status):
    world = small_world()
    world.send(
        usage("inference.embedding", status=status),
        usage("retriever.execute", status=status, charges=[WireCharge("inference.embedding")]),
        usage("inference.embedding", status=status, model="strange"),
    )
    notices = world.machine.notices
    assert notices.get("model", "inference.embedding:") == 0
    assert notices.get("model", "inference.embedding:strange") == 1


@pytest.mark.contract("2.10", "9.6")
def test_unknown_operations_and_models_are_counted_by_name():
    world = small_world()
    world.send(
        usage("nobody.knows"),
        usage("inference.embedding", model="strange"),
        usage("retriever.execute", charges=[WireCharge("nobody.knows"), WireCharge("inference.embedding")]),
    )
    notices = world.machine.notices
    assert notices.get("operation", "nobody.knows") == 2
    assert notices.get("model", "inference.embedding:strange") == 1
    assert notices.get("model", "inference.embedding:") == 1
    assert world.cells[("org_a", "key_a", "nobody.knows", NOW_MS // 60_000, 0)].category == "unrated"


def test_above_their_bound_unknown_names_share_a_row():
    world = small_world(settings=DomainSettings(notices_max=1))
    world.send(usage("nobody.knows"), usage("also.unknown"), usage("also.strange"))
    assert world.machine.notices.get("operation", "nobody.knows") == 1
    assert world.machine.notices.get("operation", "…") == 2


def sample(ts: int, amount: int):
    return usage("storage", key=None, ts=ts, quantities={"bytes": amount})


@pytest.mark.contract("2.4", "9.4")
def test_storage_costs_by_the_time_that_it_is_held():
    world = small_world()
    month_ms = 30 * 24 * HOUR_MS
    world.send(sample(NOW_MS, 3 * GB))
    assert world.used("account", "org_a") == 0
    world.send(sample(NOW_MS + HOUR_MS, 5 * GB), at=NOW_MS + HOUR_MS)
    assert world.used("account", "org_a") == 300_000_000 * HOUR_MS // month_ms
    world.send(sample(NOW_MS + HOUR_MS // 2, 999 * GB))  # late: changes nothing
    world.send(sample(NOW_MS + 2 * HOUR_MS, 0), at=NOW_MS + 2 * HOUR_MS)
    world.send(sample(NOW_MS + 3 * HOUR_MS, GB), at=NOW_MS + 3 * HOUR_MS)
    assert world.used("account", "org_a") == 800_000_000 * HOUR_MS // month_ms
    assert sum(cell.credits_micro for cell in world.cells.values()) == world.used("account", "org_a")
    assert sum(cell.requests for cell in world.cells.values()) == 0


@pytest.mark.contract("9.5")
def test_held_storage_is_cut_at_the_months_end():
    world = small_world()
    end = 1_796_083_200_000  # 2026-12-01T00:00:00Z
    world.send(sample(end - HOUR_MS, 720 * GB), at=end - HOUR_MS)
    world.send(sample(end + 2 * HOUR_MS, 0), at=end + 2 * HOUR_MS)
    assert world.used("account", "org_a", "2026-11") == 100_000_000
    assert world.used("account", "org_a", "2026-12") == 72_000_000_000 * 2 // (31 * 24)
    by_minute = {key[3]: cell.credits_micro for key, cell in world.cells.items() if cell.credits_micro}
    assert by_minute[end // 60_000 - 1] == 100_000_000


def test_above_the_bound_of_open_cells_sums_stay_exact_and_detail_is_shared():
    world = small_world(settings=DomainSettings(cells_max=3))
    world.send(*(usage(f"invented.op{number}") for number in range(10)), usage("search.knn"))
    world.flush()
    assert len(world.cells) == 4
    assert sum(cell.events for cell in world.cells.values()) == 11
    assert sum(cell.credits_micro for cell in world.cells.values()) == world.used("organization", "org_a") == 100_000
    (shared,) = [
        cell for (_, key, operation, _, _), cell in world.cells.items() if (key, operation) == ("", "overflow")
    ]
    assert shared.events == 8


def test_a_sample_of_a_test_key_changes_nothing_of_what_storage_costs():
    world = small_world()
    world.send(sample(NOW_MS, 720 * GB))
    of_test_key = usage("storage", key="key_t", ts=NOW_MS + HOUR_MS, quantities={"bytes": 0})
    world.send(of_test_key, at=NOW_MS + HOUR_MS)
    world.send(sample(NOW_MS + 2 * HOUR_MS, 0), at=NOW_MS + 2 * HOUR_MS)
    assert world.used("account", "org_a") == 200_000_000
    assert world.ledger("key", "key_t").used_micro == 0


def test_held_storage_costs_by_each_version_for_its_own_time():
    first = default_catalogue()
    held = first.operations["storage"]
    versions = [first]
    for version, starts_ms, credits_micro in ((2, NOW_MS + HOUR_MS, 10**9), (3, NOW_MS + 2 * HOUR_MS, 0)):
        entry = held.model_copy(update={"price": held.price.model_copy(update={"credits_micro": credits_micro})})
        operations = {**first.operations, "storage": entry}
        update = {"version": version, "effective_at": from_epoch_ms(starts_ms), "operations": operations}
        versions.append(first.model_copy(update=update))
    world = small_world(catalogues=versions)
    world.send(sample(NOW_MS, 720 * GB))
    world.send(sample(NOW_MS + 3 * HOUR_MS, 0), at=NOW_MS + 3 * HOUR_MS)
    assert world.used("account", "org_a") == 100_000_000 + 1_000_000_000
    by_minute = {key[3]: (cell.credits_micro, cell.rated_version) for key, cell in world.cells.items()}
    first_end, second_end = ((NOW_MS + hours * HOUR_MS) // 60_000 - 1 for hours in (1, 2))
    assert (by_minute[first_end], by_minute[second_end]) == ((100_000_000, 1), (1_000_000_000, 2))


@pytest.mark.contract("9.5")
def test_storage_is_the_floor_of_the_month_over_all_parts():
    first = default_catalogue()
    starts_ms = NOW_MS + 1
    second = first.model_copy(update={"version": 2, "effective_at": from_epoch_ms(starts_ms)})
    world = small_world(catalogues=[first, second])
    month_ms = 30 * 24 * HOUR_MS
    amount = GB * month_ms // 100_000_000 * 6 // 10  # six tenths of a micro-credit a millisecond
    world.send(sample(NOW_MS, amount))
    world.send(sample(NOW_MS + 2, 0), at=NOW_MS + 2)
    assert world.used("account", "org_a") == 1
