"""The backtest: its made-up series, its scores, and what its page says of the projection."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.backtest.score import Outcome, Score, score
from tests.backtest.series import seasonal

PAGE = Path(__file__).parents[2] / "docs/projection.md"
START = datetime(2026, 6, 1, tzinfo=UTC)


def test_the_same_seed_gives_the_same_series_and_another_another() -> None:
    one, again, other = (list(seasonal(seed, 3, START, 500)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert all(len(series.hours) == 500 and min(series.hours) >= 0 < max(series.hours) for series in one)


def test_a_score_counts_errors_and_the_intervals_that_held() -> None:
    outcomes = [Outcome(5, 90, 80, 95, 150.0, 100), Outcome(5, 120, 90, 130, 100.0, 100), Outcome(5, 1, 1, 1, 1.0, 0)]
    assert score(outcomes) == Score(2, pytest.approx(15), pytest.approx(25), 50.0)


def test_the_page_shows_intervals_that_hold_four_times_of_five_and_less_error_than_a_straight_line() -> None:
    rows = re.findall(
        r"^\| (5|10|20|all) \| [\d,]+ \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", PAGE.read_text("utf-8"), re.M
    )
    assert [row[0] for row in rows] == ["5", "10", "20", "all"]
    for day, error, line, coverage in rows:
        assert float(error) < float(line), day
        assert 75 <= float(coverage) <= 85, day
