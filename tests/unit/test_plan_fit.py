"""What past use would have come to on another plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickhouse.plan_fit import PlanFit, SpanUse, sentence, throttled
from tests.domain_world import default_catalogue

CARD = default_catalogue()


def use(*requests: int, category: str = "metadata", key: str = "key_a") -> list[SpanUse]:
    """Requests of minute after minute."""
    return [SpanUse(key, category, 60 * number, count) for number, count in enumerate(requests) if count]


@pytest.mark.parametrize(
    ("requests", "refused"),
    [
        ((60, 60, 60), 0),
        ((120,), 0),  # a full bucket, and what comes in meanwhile
        ((121,), 1),
        ((120, 60, 60), 0),
        ((120, 61), 1),
        ((120, 0, 120), 0),  # a minute's rest fills it
        ((120, 0, 0, 0, 130), 10),
    ],
)
def test_a_key_of_free_has_sixty_requests_a_minute(requests: tuple[int, ...], refused: int) -> None:
    assert throttled(use(*requests), CARD, "free") == refused
    assert throttled(use(*requests), CARD, "pro") == 0
    assert throttled(use(*requests), CARD, "enterprise") == 0, "its limits are its own"


def test_a_category_has_its_share_and_a_refused_request_takes_nothing_from_the_others() -> None:
    assert throttled(use(20, category="compute"), CARD, "free") == 20 - 2 * 6
    both = [*use(200, category="compute"), *use(108)]
    assert throttled(both, CARD, "free") == 200 - 12


def test_an_hour_admits_what_its_minutes_bring_and_leaves_a_bucket_that_is_no_fuller_than_a_minute() -> None:
    hour = SpanUse("key_a", "metadata", 0, 60 + 60 * 60, 60)
    assert throttled([hour], CARD, "free") == 0
    assert throttled([hour._replace(requests=hour.requests + 1)], CARD, "free") == 1
    after = SpanUse("key_a", "metadata", hour.end_s, 61)
    assert throttled([hour, after], CARD, "free") == 1, "it was left empty"
    assert throttled([hour._replace(requests=0), after._replace(requests=121)], CARD, "free") == 1


def test_each_key_has_its_own() -> None:
    assert throttled([*use(120), *use(120, key="key_b")], CARD, "free") == 0


@given(st.lists(st.integers(0, 400), max_size=30))
def test_over_any_time_a_bucket_admits_its_capacity_and_its_rate(requests: list[int]) -> None:
    refused = throttled(use(*requests), CARD, "free")
    admitted = sum(requests) - refused
    assert admitted <= 60 + 60 * len(requests)
    assert refused >= max(0, sum(requests) - 60 - 60 * len(requests))
    assert throttled(use(*requests), CARD, "team") <= throttled(use(*requests), CARD, "pro") <= refused


def test_it_says_it_in_a_sentence() -> None:
    fit = PlanFit(
        tier="pro",
        used_micro=120_000_000_000,
        total_micro=100_000_000_000,
        beyond_micro=20_000_000_000,
        ran_out_at=None,
        requests=1_000,
        throttled=7,
    )
    assert sentence(fit).replace(",", "") == (
        "on PRO (100000 a month): 120000 credits used 20000 beyond; 7 of 1000 requests throttled"
    )
