"""The simulator is held against bugs planted on purpose: one that stays unfound makes it blind."""

from types import CodeType

import pytest

from .planted import NOT_YET, PLANTS, PlantError, measure
from .planted.plant import Plant, edit
from .seeds import processes

ASKED_FOR = {
    "output before flush", "header offset off by one", "flush split in two batches", "claim not awaited",
    "void record kept", "dedup by last position", "zombie not fenced", "sink commit before insert",
    "decision sequence reset", "off-by-one at the month's end", "grant burned twice",
    "rollup without source partition", "late event in the wrong month", "debt forgotten", "reject swallowed",
    "lent twice", "lease of a dead node kept", "lease held against one month", "worst case not reserved",
    "lease given back with requests on it", "pool's cap forgotten", "reserve of a pool open to all",
    "reserved capacity never used", "rollover of what was used", "failed batch stays closed", "slots of others alone",
    "gauge of a dead node kept", "expired grant still burns", "boost that never ends",
}  # fmt: skip
JOBS = 2
SEEDS_MAX = 100
"""Beside the recorded one: a change of the simulator, or of the code, makes another history of a seed."""


def test_each_bug_that_was_asked_for_is_planted_or_named() -> None:
    assert not PLANTS.keys() & NOT_YET.keys()
    assert PLANTS.keys() | NOT_YET.keys() >= ASKED_FOR


@pytest.mark.parametrize("name", PLANTS)
def test_a_plant_fits_the_code_changes_it_and_leaves_it_as_it_was(name: str) -> None:
    functions = [one.function() for one in PLANTS[name].edits]
    before = [function.__code__ for function in functions]
    with PLANTS[name].planted():
        assert all(_words(function.__code__) != _words(code) for function, code in zip(functions, before, strict=True))
    assert [function.__code__ for function in functions] == before


def _words(code: CodeType) -> tuple[object, ...]:
    return code.co_code, code.co_consts, code.co_names


def test_a_plant_whose_words_are_gone_says_so() -> None:
    target = "streams.engine.outbox:Outbox.add"
    for lost in (edit(target, ("no such words", "")), edit(target + "_gone", ("x", "")), edit("streams.gone:x")):
        with pytest.raises(PlantError), Plant("lost", "", (lost,)).planted():
            pass


def test_the_document_lists_each_plant() -> None:
    assert measure.listed() == PLANTS.keys(), f"{measure.COMMAND} writes it anew"


def test_each_plant_is_found_again() -> None:
    """By the history that found it when the document was written, or by one of a few others."""
    seeds = measure.recorded()
    with processes(JOBS) as pool:
        found = {name: pool.submit(measure.is_found, name, seed, SEEDS_MAX) for name, seed in seeds.items()}
        assert [name for name, one in found.items() if not one.result()] == []
