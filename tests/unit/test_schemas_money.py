"""Credits are written as people read them, and never lose a micro-credit."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX
from sluicegate_schemas.money import credits_text, parse_credits
from tests.property.schemas_events import unhurried

amounts = st.integers(0, CREDITS_MICRO_MAX)


@pytest.mark.contract("2.7")
@unhurried
@given(amounts)
def test_credits_written_and_read_again_are_the_same(micro: int) -> None:
    assert parse_credits(credits_text(micro)) == micro


@pytest.mark.contract("9.15")
@unhurried
@given(st.integers(-CREDITS_MICRO_MAX, CREDITS_MICRO_MAX))
def test_credits_in_json_are_exact_decimals_without_exponent_or_idle_zeros(micro: int) -> None:
    text = credits_text(micro)
    assert Decimal(str(json.loads(text, parse_float=Decimal))) * 1_000_000 == micro
    assert "e" not in text.lower()
    assert not ("." in text and text.endswith(("0", ".")))


@pytest.mark.parametrize(
    ("written", "micro"),
    [(5, 5_000_000), ("0.1", 100_000), ("0.000001", 1), ("12", 12_000_000), ("1.50", 1_500_000), (0, 0)],
)
def test_credits_are_read_from_whole_numbers_and_decimal_texts(written: object, micro: int) -> None:
    assert parse_credits(written) == micro


@pytest.mark.parametrize(
    "written", [0.1, 1.0, True, -1, "-1", "1e3", "0.0000001", ".5", "5.", "", "１", "1\n", " 1", 10**13, None, []]
)
def test_whatever_is_not_exact_is_refused(written: object) -> None:
    with pytest.raises(ValueError):
        parse_credits(written)
