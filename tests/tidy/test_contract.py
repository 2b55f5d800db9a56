"""The contract's table is whole: every sentence is held by a test, or is named here as open."""

from tests.contract.table import TABLE, held, marks, page, sentences

OPEN: frozenset[str] = frozenset()
"""What no test holds yet. It only ever gets shorter."""
MAKE = "python -m tests.contract.table"


def test_every_sentence_is_held_by_a_test_or_named_as_open() -> None:
    known = {name for section in sentences().values() for name in section}
    tests = set(held())
    assert tests <= known, "a mark names a sentence that the contract does not have"
    assert known - tests == OPEN, "a sentence lost its test, or has one and is still listed as open"


def test_the_table_of_the_contract_is_up_to_date() -> None:
    assert TABLE.read_text("utf-8") == page(sentences(), held()), f"run {MAKE}"


def test_a_sentence_is_a_line_of_the_section_that_its_number_says() -> None:
    for title, section in sentences().items():
        numbers = [tuple(map(int, name.split("."))) for name in section]
        assert numbers == [(int(title.partition(".")[0]), at) for at in range(1, len(numbers) + 1)]
        for text in section.values():
            assert text.endswith(".")
            assert len(text) <= 130
            assert "|" not in text


def test_no_test_names_a_sentence_twice() -> None:
    all_marks = list(marks())
    assert len(set(all_marks)) == len(all_marks)
