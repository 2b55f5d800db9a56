"""The expectation reads the contract as its section 9 says where two honest builders would differ."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import FORWARD_VERSION, WireCharge, WireEvent, WireForward
from sluicegate_schemas.partitioning import partition_of
from stack.expected import Expectation, Place, Totals
from stack.rating import month_span_ms
from tests.unit.test_expected_totals import CATALOGUE, NOW_MS, envelope, event, tenants

DAY_MS = 86_400_000
HOME, AWAY = partition_of("org_a", 2), 1 - partition_of("org_a", 2)


class Log:
    """An expectation of ``partitions``, fed record by record."""

    def __init__(self, *catalogues: Catalogue, partitions: int = 1) -> None:
        self.expectation = Expectation(catalogues or (CATALOGUE,), tenants(), partitions)
        self._offset = 0

    @property
    def totals(self) -> Totals:
        return self.expectation.totals

    def place(self, at_ms: int, partition: int = 0) -> Place:
        self._offset += 1
        return Place(partition, self._offset, at_ms)

    def single(self, *, at_ms: int = NOW_MS, partition: int = 0, **fields: Any) -> None:
        self.expectation.add_single(event(**{"id": "one", **fields}), self.place(at_ms, partition))

    def enveloped(self, *, at_ms: int = NOW_MS, partition: int = 0, **fields: Any) -> None:
        one = event(**{"id": "one", **fields})
        self.expectation.add_envelope(envelope(one, sequence=self._offset + 1), self.place(at_ms, partition))

    def forward(self, origin: int, *, logged_at_ms: int = NOW_MS, at_ms: int = NOW_MS, **fields: Any) -> None:
        one = event(**{"id": "one", **fields})
        forward = WireForward(FORWARD_VERSION, "usage", AWAY, origin, 0, logged_at_ms, one)
        self.expectation.add_forward(forward, self.place(at_ms, HOME))

    def fates(self) -> tuple[int, int, dict[str, int]]:
        """(counted, duplicate, rejected by reason)."""
        return self.totals.events_counted, self.totals.events_duplicate, dict(self.totals.rejected_by_reason)


def of_version(version: int, start_ms: int, **changes: int) -> Catalogue:
    """The catalogue from ``start_ms`` on, with other prices."""
    operations = {
        name: entry.model_copy(
            update={"price": entry.price.model_copy(update={"credits_micro": changes[name.replace(".", "_")]})}
        )
        for name, entry in CATALOGUE.operations.items()
        if name.replace(".", "_") in changes
    }
    effective_at = datetime.fromtimestamp(start_ms / 1000, UTC)
    update = {"version": version, "effective_at": effective_at, "operations": {**CATALOGUE.operations, **operations}}
    return CATALOGUE.model_copy(update=update)


SENDERS: list[Callable[..., None]] = [Log.single, Log.enveloped]


@pytest.mark.parametrize("first", SENDERS)
@pytest.mark.parametrize("second", SENDERS)
def test_an_id_counts_once_whoever_sends_it(first: Callable[..., None], second: Callable[..., None]) -> None:
    log = Log()
    first(log)
    second(log)
    assert log.fates() == (1, 1, {})


@pytest.mark.parametrize("second", SENDERS)
def test_another_body_under_a_counted_id_is_a_conflict_and_the_first_body_still_a_duplicate(
    second: Callable[..., None],
) -> None:
    log = Log()
    log.single()
    second(log, operation="search.web")
    second(log)
    assert log.fates() == (1, 1, {"id_conflict": 1})
    assert log.totals.credits_micro == 100_000


def test_the_order_of_a_bodys_fields_does_not_matter() -> None:
    log = Log()
    for quantities in ({"requests": 1, "tokens": 2}, {"tokens": 2, "requests": 1}):
        log.single(quantities=quantities)
    assert log.fates() == (1, 1, {})


def test_a_rejected_event_leaves_its_id_free() -> None:
    log = Log()
    log.single(operation="inference.llm")
    log.single(operation="inference.llm", quantities={"tokens": 1})
    assert log.fates() == (1, 0, {"missing_quantity": 1})


def test_an_id_is_free_again_once_its_event_lies_before_the_horizon() -> None:
    log = Log()
    log.single(ts_ms=NOW_MS - 6 * DAY_MS, at_ms=NOW_MS)
    for after_ms in (0, 999):
        log.single(operation="search.web", ts_ms=NOW_MS, at_ms=NOW_MS + DAY_MS + after_ms)
    assert log.fates() == (1, 0, {"id_conflict": 2})
    log.single(operation="search.web", ts_ms=NOW_MS, at_ms=NOW_MS + DAY_MS + 1_000)
    assert log.fates() == (2, 0, {"id_conflict": 2})


def test_an_event_in_another_partition_has_its_forwards_fate() -> None:
    log = Log(partitions=2)
    log.single(partition=AWAY)
    assert log.fates() == (0, 0, {})
    assert log.expectation.forwards_wrong() == [(AWAY, 1, 0)]
    log.forward(1)
    assert log.fates() == (1, 0, {})
    assert log.expectation.forwards_wrong() == []
    assert (log.totals.events_logged, log.totals.events_forwarded, log.totals.forwards_repeated) == (1, 1, 0)


def test_a_forward_sent_twice_is_no_duplicate_of_a_caller_and_a_callers_duplicate_is_one_though_forwarded() -> None:
    log = Log(partitions=2)
    log.single(partition=AWAY)
    log.forward(1)
    log.forward(1)
    assert (log.fates(), log.totals.forwards_repeated) == ((1, 0, {}), 1)
    log.single(partition=HOME)
    log.single(partition=AWAY)
    log.forward(5)
    assert (log.fates(), log.totals.forwards_repeated) == ((1, 2, {}), 1)
    assert log.totals.events_logged == 3


def test_a_nameless_event_is_forwarded_under_its_place_in_its_envelope() -> None:
    log = Log(partitions=2)
    log.enveloped(partition=AWAY, id=None)
    log.forward(1, id=f"p-1-{AWAY}-1-0")
    assert log.expectation.forwards_wrong() == []


def test_a_forward_that_changes_an_event_or_comes_from_nowhere_is_wrong() -> None:
    log = Log(partitions=2)
    log.single(partition=AWAY)
    log.forward(1, operation="search.web")
    log.forward(77, id="two")
    assert log.expectation.forwards_wrong() == [(AWAY, 1, 0), (AWAY, 77, 0)]


def test_a_forward_is_held_against_the_time_of_its_original_and_rejected_past_the_horizon() -> None:
    log = Log(partitions=2)
    log.forward(1, logged_at_ms=NOW_MS, at_ms=NOW_MS + 6 * DAY_MS, ts_ms=NOW_MS)
    log.forward(2, logged_at_ms=NOW_MS, at_ms=NOW_MS + 8 * DAY_MS, ts_ms=NOW_MS, id="two")
    assert log.fates() == (1, 0, {"older_than_dedup_horizon": 1})


def test_an_event_is_judged_where_the_account_that_it_names_lives() -> None:
    log = Log(partitions=2)
    stranger = next(name for name in map("org_{}".format, range(99)) if partition_of(name, 2) == AWAY)
    log.single(account_id="org_a", partition=HOME)
    log.single(account_id=stranger, partition=HOME, id="two")
    assert (log.totals.events_counted, log.totals.events_forwarded) == (1, 1)
    log.single(account_id=stranger, partition=AWAY, id="two")
    assert log.fates() == (1, 0, {"unknown_organization": 1})


def test_an_account_that_is_not_the_organizations_is_refused() -> None:
    log = Log()
    log.single(account_id="org_b")
    assert log.fates() == (0, 0, {"invalid": 1})


def test_a_forward_to_a_partition_that_is_not_its_home_is_refused() -> None:
    log = Log(partitions=2)
    stranger = next(name for name in map("org_{}".format, range(99)) if partition_of(name, 2) == AWAY)
    log.forward(1, account_id=stranger)
    assert log.fates() == (0, 0, {"invalid": 1})


@pytest.mark.parametrize(
    ("after_end", "month"), [(timedelta(hours=24) - timedelta(milliseconds=1), "2026-01"), (timedelta(hours=24), None)]
)
def test_a_late_event_is_booked_in_its_month_within_the_grace_and_then_in_the_current_one(
    after_end: timedelta, month: str | None
) -> None:
    end_ms = month_span_ms("2026-01")[1]
    log = Log()
    log.single(ts_ms=end_ms - 1, at_ms=end_ms + after_end // timedelta(milliseconds=1))
    booked = month or "2026-02"
    assert log.totals.by_account == {("org_a", booked): 100_000}
    assert log.totals.by_key == {("key_live", booked): 100_000}
    assert log.totals.requests_by_organization == {("org_a", booked): 1}


def test_the_grace_ends_by_the_logs_time_even_where_a_record_is_stamped_earlier() -> None:
    end_ms = month_span_ms("2026-01")[1]
    log = Log()
    log.expectation.pass_time(log.place(end_ms + DAY_MS))
    log.single(ts_ms=end_ms - 1, at_ms=end_ms)
    assert set(log.totals.by_account) == {("org_a", "2026-02")}


def test_what_was_before_the_first_version_is_rated_by_the_first() -> None:
    log = Log(of_version(2, NOW_MS + 2 * DAY_MS, search_knn=700_000), of_version(1, NOW_MS + DAY_MS, search_knn=1))
    log.single()
    assert log.totals.credits_micro == 1


def sample(log: Log, ts_ms: int, amount: int, **fields: Any) -> None:
    options = {"id": f"s{ts_ms}", "api_key_id": None, **fields}
    log.single(operation="storage", ts_ms=ts_ms, at_ms=ts_ms, quantities={"bytes": amount}, **options)


def test_held_time_is_cut_where_a_price_changes_and_each_part_costs_its_own() -> None:
    start, end = month_span_ms("2026-02")
    quarter = (end - start) // 4
    log = Log(
        of_version(1, start - DAY_MS, storage=100_000_000),
        of_version(2, start + quarter, storage=400_000_000),
        of_version(3, start + 2 * quarter, storage=0),
    )
    sample(log, start, 10**9)
    sample(log, start + 3 * quarter, 0)
    assert log.totals.by_account == {("org_a", "2026-02"): 25_000_000 + 100_000_000}


def test_many_samples_cost_the_floor_of_their_sum() -> None:
    start, end = month_span_ms("2026-02")
    log = Log(of_version(1, start, storage=1))
    for step in range(9):
        sample(log, start + step * (end - start) // 9, 10**9 * 5)
    assert log.totals.credits_micro == 5 * 8 // 9


def test_held_time_of_a_closed_month_is_a_correction_of_the_current_one() -> None:
    start, end = month_span_ms("2026-01")
    log = Log()
    sample(log, start + (end - start) // 2, 10**9)
    sample(log, end + 2 * DAY_MS, 0)
    assert +log.totals.by_account == {("org_a", "2026-02"): 50_000_000 + 100_000_000 * 2 // 28}


def test_a_sample_with_a_test_key_changes_nothing() -> None:
    start, end = month_span_ms("2026-02")
    log = Log()
    sample(log, start, 10**9)
    sample(log, (start + end) // 2, 10**12, api_key_id="key_test")
    sample(log, end - (end - start) // 4, 0)
    assert log.totals.events_counted == 3
    assert log.totals.credits_micro == 75_000_000


def test_a_sample_without_a_key_cannot_carry_the_charges_of_a_request() -> None:
    log = Log()
    sample(log, NOW_MS, 1, charges=[WireCharge("search.knn")])
    sample(log, NOW_MS, 1, charges=[WireCharge("storage", {"bytes": 1})])
    assert log.fates() == (1, 0, {"invalid": 1})


def test_a_held_charge_inside_a_request_needs_its_quantity_and_costs_nothing() -> None:
    log = Log()
    log.single(operation="retriever.execute", charges=[WireCharge("storage")])
    log.single(operation="retriever.execute", charges=[WireCharge("storage", {"bytes": 5})])
    assert log.fates() == (1, 0, {"missing_quantity": 1})
    assert log.totals.credits_micro == 0


def test_what_costs_more_than_a_ledger_can_hold_is_rejected() -> None:
    log = Log()
    log.single(operation="documents.create", quantities={"documents": 10**12})
    log.single(id="two")
    assert log.fates() == (1, 0, {"invalid": 1})
    assert log.totals.credits_micro == 10**18


def test_the_expectation_changes_no_event_that_it_is_given() -> None:
    one: WireEvent = event(id=None)
    kept = msgspec.structs.replace(one)
    expectation = Expectation([CATALOGUE], tenants(), 2)
    expectation.add_envelope(envelope(one), Place(AWAY, 0, NOW_MS))
    assert one == kept
