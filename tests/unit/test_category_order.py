"""Categories: their order by share, and which one a request belongs to."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.files import FileError, load_catalogue
from sluicegate_schemas.limits import CATEGORIES, CategoryShares
from tests.domain_world import NOW_MS, small_world, usage

DEFAULT = Path(__file__).parents[2] / "catalogue" / "default.toml"


@pytest.mark.contract("1.13")
@given(st.lists(st.integers(1, 100), min_size=5, max_size=5))
def test_shares_are_taken_in_the_order_of_the_categories_and_refused_in_any_other(shares: list[int]) -> None:
    given_shares = dict(zip(CATEGORIES, shares, strict=True))
    if all(left >= right for left, right in pairwise(shares)):
        assert CategoryShares(**given_shares).model_dump() == given_shares
    else:
        with pytest.raises(ValidationError, match="metadata ≥ data ≥ search ≥ upload ≥ compute"):
            CategoryShares(**given_shares)


@pytest.mark.contract("1.13")
def test_a_catalogue_file_that_breaks_the_order_is_refused_by_the_plan() -> None:
    text = DEFAULT.read_text("utf-8").replace("search = 50, upload = 25", "search = 10, upload = 25", 1)
    with pytest.raises(FileError, match=r"plans\.free\.shares.*search must not be below upload"):
        load_catalogue(text)


@pytest.mark.contract("1.14")
def test_inference_inside_a_retriever_takes_from_search_and_its_own_endpoint_from_compute() -> None:
    inside = usage("retriever.execute", charges=[WireCharge("inference.llm", {"tokens": 10})])
    world = small_world("pro")  # 600 a minute: 300 for search, 60 for compute
    world.send(*[inside] * 150, at=NOW_MS)
    assert [one.limit_name for one in world.decisions if one.verdict == "block"] == []
    world.send(*[usage("inference.llm", quantities={"tokens": 10})] * 62, at=NOW_MS)
    assert {one.limit_name for one in world.decisions} >= {"compute_per_minute"}
