"""The expected totals agree with amounts computed by hand, for each kind of price and each reading of the contract."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.accounts import KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.bounds import to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import ENVELOPE_VERSION, WireCharge, WireEnvelope, WireEvent
from sluicegate_schemas.files import load_catalogue
from stack.expected import Expectation, Place, Totals, tenants_of
from stack.rating import MissingQuantityError, month_span_ms, price_micro

CATALOGUE = load_catalogue((Path(__file__).parents[2] / "catalogue" / "default.toml").read_text("utf-8"))
NOW_MS = to_epoch_ms(datetime(2026, 2, 10, 12, 0, tzinfo=UTC))
ISSUED = {"issued_at": datetime(2026, 1, 1, tzinfo=UTC), "issued_by": "tests", "account_id": "org_a"}


def tenants() -> Any:
    keys = [("key_live", "live"), ("key_test", "test")]
    return tenants_of(
        [
            OrganizationPut(kind="organization.put", command_id="c0", organization_id="org_a", tier="pro", **ISSUED),
            *(
                KeyPut.model_validate(
                    {
                        "kind": "key.put",
                        "command_id": name,
                        "api_key_id": name,
                        "organization_id": "org_a",
                        "key_sha256": "0" * 64,
                        "mode": mode,
                        **ISSUED,
                    }
                )
                for name, mode in keys
            ),
            KeyRevoke(kind="key.revoke", command_id="c9", api_key_id="key_live", organization_id="org_a", **ISSUED),
        ]
    )


def event(operation: str = "search.knn", *, ts_ms: int = NOW_MS, **fields: Any) -> WireEvent:
    return WireEvent(
        **{
            "id": None,
            "org_id": "org_a",
            "api_key_id": "key_live",
            "operation": operation,
            "started_at_ms": ts_ms,
            "ts_ms": ts_ms,
            "duration_ms": 0,
            "status": 200,
            **fields,
        }
    )


def totals_of(*events: WireEvent, catalogues: tuple[Catalogue, ...] = (CATALOGUE,)) -> Totals:
    expectation = Expectation(catalogues, tenants(), 1)
    for sequence, one in enumerate(events, start=1):
        expectation.add_envelope(envelope(one, sequence=sequence), Place(0, sequence, one.ts_ms))
    return expectation.totals


def envelope(*events: WireEvent, sequence: int = 1) -> WireEnvelope:
    return WireEnvelope(ENVELOPE_VERSION, "p", 1, sequence, NOW_MS, None, list(events))


@pytest.mark.parametrize(
    ("operation", "quantities", "model", "micro"),
    [
        ("documents.create", {"documents": 7}, None, 7_000_000),
        ("inference.embedding", None, "text-large", 3_000_000),
        ("inference.embedding", None, "never-heard-of", 1_000_000),
        ("inference.embedding", {"requests": 4}, None, 4_000_000),
        ("inference.llm", {"tokens": 0}, None, 10_000_000),
        ("inference.llm", {"tokens": 1_000}, None, 10_000_000),
        ("inference.llm", {"tokens": 1_001}, None, 20_000_000),
        ("inference.llm", {"tokens": 9_001}, None, 100_000_000),
        ("inference.llm", {"tokens": 10**12}, None, 100_000_000),
        ("search.knn", None, None, 100_000),
        ("search.hybrid", None, None, 200_000),
        ("search.web", None, None, 10_000_000),
        ("cluster.execute", {"dataset_size": 1_000}, None, 50_000_000),
        ("cluster.execute", {"dataset_size": 1_001}, None, 100_000_000),
        ("cluster.execute", {"dataset_size": 100_000}, None, 250_000_000),
        ("cluster.execute", {"dataset_size": 100_001}, None, 500_000_000),
        ("upload.file", {"bytes": 1}, None, 1),
        ("upload.file", {"bytes": 1_500_000}, None, 1_500_000),
        ("video.process", {"milliseconds": 1}, None, 167),  # 166.6…, half up
        ("video.process", {"milliseconds": 90_000}, None, 15_000_000),
        ("collections.list", None, None, 0),
        ("storage", {"bytes": 10**12}, None, 0),
    ],
)
def test_a_charge_costs_what_the_rate_card_says(
    operation: str, quantities: dict[str, int] | None, model: str | None, micro: int
) -> None:
    assert price_micro(CATALOGUE.operations[operation].price, quantities or {}, model) == micro


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.integers(0, 10**9))
def test_pro_rata_prices_round_half_up(amount: int, per: int, micro: int) -> None:
    price = CATALOGUE.operations["upload.file"].price.model_copy(update={"per": per, "credits_micro": micro})
    charged = price_micro(price, {"bytes": amount}, None)
    assert 2 * charged * per - per <= 2 * amount * micro < 2 * charged * per + per


def test_a_missing_quantity_is_named_and_rejects_the_event() -> None:
    with pytest.raises(MissingQuantityError, match="tokens"):
        price_micro(CATALOGUE.operations["inference.llm"].price, {}, None)
    totals = totals_of(event("inference.llm"), event())
    assert (totals.events_counted, totals.rejected_by_reason) == (1, {"missing_quantity": 1})


def test_charges_inside_a_request_cost_and_the_request_counts_once() -> None:
    totals = totals_of(
        event(
            "retriever.execute",
            charges=[
                WireCharge("search.knn"),
                WireCharge("inference.llm", {"tokens": 2_500}),
                WireCharge("search.web"),
            ],
        )
    )
    assert totals.requests == 1
    assert totals.credits_micro == 100_000 + 30_000_000 + 10_000_000
    assert totals.by_breakdown == {
        ("org_a", "2026-02", "search"): 10_100_000,
        ("org_a", "2026-02", "inference"): 30_000_000,
    }


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"status": 429}, (1, 0, 1)),
        ({"status": 500}, (1, 1, 0)),
        ({"status": 302}, (1, 0, 0)),
        ({"cached": True}, (1, 0, 0)),
        ({"api_key_id": "key_test"}, (1, 0, 0)),
    ],
)
def test_what_is_not_a_paid_success_counts_and_costs_nothing(fields: dict[str, Any], counts: tuple[int, ...]) -> None:
    totals = totals_of(event("search.web", **fields))
    assert (totals.requests, totals.errors, totals.throttled) == counts
    assert totals.credits_micro == 0


def test_a_refused_request_without_quantities_is_counted_and_not_rejected() -> None:
    assert totals_of(event("inference.llm", status=403)).events_counted == 1


def test_a_repeated_envelope_and_a_repeated_foreign_id_are_counted_once() -> None:
    expectation = Expectation([CATALOGUE], tenants(), 1)
    for offset in range(3):
        expectation.add_envelope(envelope(event(), event()), Place(0, 2 * offset, NOW_MS))
        expectation.add_single(event(id="one"), Place(0, 2 * offset + 1, NOW_MS))
    totals = expectation.totals
    assert (totals.events_logged, totals.events_counted, totals.events_duplicate) == (9, 3, 6)
    assert totals.credits_micro == 300_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"org_id": "org_b"}, "unknown_organization"),
        ({"api_key_id": "key_b"}, "unknown_key"),
        ({"status": 99}, "invalid"),
        ({"quantities": {"tokens": -1}}, "invalid"),
    ],
)
def test_what_no_tenant_can_have_sent_is_rejected(fields: dict[str, Any], reason: str) -> None:
    totals = totals_of(event(**fields))
    assert totals.rejected_by_reason == {reason: 1}
    assert totals.credits_micro == 0


def test_an_event_is_booked_in_the_month_of_its_own_time() -> None:
    start, end = month_span_ms("2026-02")
    totals = totals_of(event(ts_ms=end - 1), event(ts_ms=end), event(ts_ms=start))
    assert totals.by_account == {("org_a", "2026-02"): 200_000, ("org_a", "2026-03"): 100_000}
    assert totals.by_key == {("key_live", "2026-02"): 200_000, ("key_live", "2026-03"): 100_000}


def test_the_highest_catalogue_in_force_at_the_events_time_rates_it() -> None:
    operations = {**CATALOGUE.operations}
    dearer = operations["search.knn"].model_copy(
        update={"price": operations["search.knn"].price.model_copy(update={"credits_micro": 500_000})}
    )
    second = CATALOGUE.model_copy(
        update={
            "version": 2,
            "effective_at": datetime(2026, 2, 10, 13, 0, tzinfo=UTC),
            "operations": {**operations, "search.knn": dearer},
        }
    )
    before, after = event(), event(ts_ms=NOW_MS + 3_600_000)
    assert totals_of(before, after, catalogues=(second, CATALOGUE)).credits_micro == 600_000


def test_storage_costs_what_was_held_between_samples() -> None:
    start, end = month_span_ms("2026-02")
    middle = (start + end) // 2

    def sample(ts_ms: int, amount: int) -> WireEvent:
        return event("storage", api_key_id=None, ts_ms=ts_ms, quantities={"bytes": amount})

    totals = totals_of(sample(start, 10**9), sample(middle, 3 * 10**9), sample(end - 1, 0))
    assert totals.requests == 0
    # A gigabyte for half of the month, three for the other half less a millisecond: 50 + 150 credits, rounded down.
    assert 199_999_000 < totals.credits_micro < 200_000_000
    totals = totals_of(sample(middle, 10**9), sample(end + 12 * 3_600_000, 0))  # half of the 31 days' first
    assert totals.by_account == {("org_a", "2026-02"): 50_000_000, ("org_a", "2026-03"): 100_000_000 // 62}


def test_sequences_count_in_each_partition_by_itself() -> None:
    expectation = Expectation([CATALOGUE], tenants(), 2)
    for partition in (0, 1):
        expectation.add_envelope(envelope(event(org_id="org_b")), Place(partition, 0, NOW_MS))
    assert expectation.totals.events_duplicate == 0
