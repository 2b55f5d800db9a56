"""What an owner notices of others' records on its compacted outputs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.output_fence import OutputFence


def test_a_record_right_behind_the_last_one_is_no_news() -> None:
    fence = OutputFence({"decisions": 7})
    for offset in (7, 8, 9):
        fence.sent("decisions")
        assert fence.acknowledged("decisions", offset) is None
    assert list(fence.quiet()) == ["decisions"]
    assert fence.end_seen("decisions", 10) is None


def test_a_record_of_another_is_found_when_the_owner_writes_next() -> None:
    fence = OutputFence({"decisions": 7})
    fence.sent("decisions")
    assert fence.acknowledged("decisions", 9) == (7, 9)
    assert list(fence.quiet()) == ["decisions"]
    assert fence.end_seen("decisions", 10) is None


def test_an_owner_that_writes_nothing_finds_it_too() -> None:
    fence = OutputFence({"decisions": 7})
    assert list(fence.quiet()) == ["decisions"]
    assert fence.end_seen("decisions", 8) == (7, 8)
    assert list(fence.quiet()) == ["decisions"]
    assert fence.end_seen("decisions", 8) is None


def test_an_end_tells_nothing_if_something_was_sent_since_it_was_asked() -> None:
    fence = OutputFence({"decisions": 7})
    assert list(fence.quiet()) == ["decisions"]
    fence.sent("decisions")
    assert fence.end_seen("decisions", 8) is None
    assert fence.acknowledged("decisions", 7) is None


def test_topics_that_are_not_compacted_are_not_watched() -> None:
    fence = OutputFence({"decisions": 0})
    fence.sent("rejects")
    assert fence.acknowledged("rejects", 100) is None


def test_where_the_broker_no_longer_knows_the_offset_the_next_look_tells() -> None:
    fence = OutputFence({"decisions": 7})
    fence.sent("decisions")
    assert fence.acknowledged("decisions", -1) is None
    assert list(fence.quiet()) == ["decisions"]
    assert fence.end_seen("decisions", 8) == (7, 8), "its own record among it is of its own epoch, so it is left alone"


@given(st.lists(st.sampled_from(["own", "other", "look"]), max_size=40))
def test_every_foreign_record_is_in_exactly_one_range(history: list[str]) -> None:
    fence, log, found = OutputFence({"t": 0}), list[str](), list[int]()
    for what in [*history, "look"]:
        seen = None
        if what == "own":
            fence.sent("t")
            log.append("own")
            seen = fence.acknowledged("t", len(log) - 1)
        elif what == "other":
            log.append("other")
        else:
            list(fence.quiet())
            seen = fence.end_seen("t", len(log))
        found += range(*seen) if seen else ()
    assert found == [offset for offset, writer in enumerate(log) if writer == "other"]
