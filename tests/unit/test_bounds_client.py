"""What an API service holds, filled past its limit: publisher, spool, follower view, gate, middleware.

The limits' list: docs/bounds.md.
"""

import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Publisher, PublisherSettings
from sluicegate.follower import Limits, Outcome, View
from sluicegate.gate import Gate, GateSettings
from sluicegate.gate.limiter import Limiter, buckets_of
from sluicegate.metering import Usage
from sluicegate.publisher.batcher import Envelope
from sluicegate.publisher.spool import Budget, SpoolQueue
from sluicegate_schemas.limits import RateLimits
from streams.engine.intake import UsageIntake
from streams.engine.machine import InputRecord
from tests.gating import (
    NOW_MS,
    Known,
    catalogue_record,
    credit_block,
    decision_record,
    heron,
    key_record,
    organization_record,
)

EVENT: Any = {
    "org_id": "org_acme",
    "api_key_id": "key_acme_1",
    "operation": "search.knn",
    "started_at_ms": NOW_MS - 5,
    "ts_ms": NOW_MS,
    "duration_ms": 5,
    "status": 200,
}


@pytest.mark.contract("8.2")
@pytest.mark.parametrize("bound", [{"buffer_events_max": 1_000}, {"buffer_bytes_max": 300_000}])
def test_a_publisher_without_kafka_drops_the_newest_counts_them_and_stays_within_its_memory(
    bound: dict[str, int],
) -> None:
    publisher = Publisher(PublisherSettings(node="n", **bound))  # type: ignore[arg-type]  # one of its bounds
    publisher.publish(**EVENT)
    tracemalloc.start()
    try:
        taken = sum(publisher.publish(**EVENT) for _ in range(20_000))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stats = publisher.stats()
    assert (stats.buffered, stats.dropped) == (taken + 1, {"buffer_full": 20_000 - taken})
    assert 900 <= stats.buffered <= 1_400
    assert held_bytes < 1_000_000


def test_a_spool_takes_no_envelope_beyond_its_bytes_and_says_how_many_it_took(tmp_path: Path) -> None:
    budget = Budget(100_000, lambda kind, text: None)
    queue = SpoolQueue(tmp_path, 3, budget)
    envelopes = [Envelope(3, number, b"org_a", b"x" * 995, 1, 0.0, 0) for number in range(200)]
    written = queue.append(envelopes)
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    queue.close()
    assert written == 100_000 // (12 + 5 + 995)
    assert on_disk == budget.bytes_held <= 100_000


def filled(limits: Limits) -> View:
    view = View(limits)
    for number in range(20):
        view.apply(*organization_record(f"org_{number}"))
        view.apply(*key_record(f"sk_live_demo_key_{number}", name=f"key_{number}", organization=f"org_{number}"))
    return view


@pytest.mark.contract("8.6")
def test_a_view_without_room_keeps_what_it_has_and_the_gate_says_503_not_401() -> None:
    view = filled(Limits(keys_max=5, organizations_max=5))
    view.apply(*catalogue_record())
    assert (view.complete, view.outcomes[Outcome.OVERFLOWED]) == (False, 30)
    gate = Gate(Known(view))
    statuses = [gate.check(f"sk_live_demo_key_{number}", "search.knn", now_ms=NOW_MS).status for number in range(20)]
    assert statuses == [200] * 5 + [503] * 15


def test_decisions_beyond_their_number_displace_allows_then_are_left_out_and_that_scope_stays_open() -> None:
    view = View(Limits(decisions_max=3))
    for number in range(3):
        view.apply(*decision_record(name=f"key_{number}", verdict="allow"))
    outcomes = [view.apply(*decision_record(name=f"key_{number}")).outcome for number in range(10, 15)]
    assert outcomes == [Outcome.APPLIED] * 3 + [Outcome.OVERFLOWED] * 2
    assert [view.block(f"requests_per_minute:key:key_{number}") is not None for number in range(10, 15)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert len(view._verdicts) == 3


@pytest.mark.contract("8.6")
def test_the_gates_buckets_are_as_many_as_allowed_and_the_longest_unused_is_forgotten_and_counted() -> None:
    limiter = Limiter(100)
    buckets = buckets_of(RateLimits(requests_per_second=1, burst=1, requests_per_minute=1))
    for number in range(5_000):
        assert limiter.take(f"key_{number}", buckets, NOW_MS).admitted
    assert (len(limiter), limiter.forgotten) == (100, 4_900)
    assert not limiter.take("key_4999", buckets, NOW_MS).admitted
    assert limiter.take("key_0", buckets, NOW_MS).admitted, "forgotten: it bursts once more"


def test_keys_that_nobody_has_leave_nothing_in_the_gate() -> None:
    gate = Gate(heron(credit_block()), GateSettings(keys_max=10))
    for number in range(2_000):
        secret = f"sk_live_{hashlib.sha256(str(number).encode()).hexdigest()}"
        assert gate.check(secret, "search.knn", now_ms=NOW_MS).status == 401
    assert len(gate.limiter) == 0


def test_charges_beyond_the_most_of_an_event_are_counted_as_lost() -> None:
    usage = Usage("retriever.execute")
    for _ in range(20):
        usage.charge("search.knn")
    assert (len(usage.charges), usage.charges_lost) == (16, 4)


def record(offset: int) -> InputRecord:
    return InputRecord(offset, NOW_MS, None, b"x" * 1_000)


def test_input_that_is_held_until_the_log_was_looked_at_counts_as_pending_so_that_fetching_pauses() -> None:
    intake = UsageIntake(0)
    assert intake.fetched([record(5)], None) == "seek"
    intake.sought()
    assert intake.fetched([record(5)], 0) == "look"
    for offset in range(6, 30):
        intake.fetched([record(offset)], None)
    assert intake.pending_bytes == 25 * 1_064
    assert intake.log_starts(0)
    assert intake.pending_bytes == 25 * 1_064
    intake.clear()
    assert intake.pending_bytes == 0
