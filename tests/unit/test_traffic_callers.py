"""The rule that gives a trace its tenants and operations is fixed, and callers keep to it."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stack.callers import OPERATION_MIX, call_of, spending_calls, tenants_drawn
from stack.trace import Trace, TraceRow
from stack.traffic import Counts, Secrets, replay, steady

ROWS = st.builds(TraceRow, st.integers(2, 10**6), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))


def test_the_mix_covers_a_hundred_percent() -> None:
    assert sum(percent for percent, _ in OPERATION_MIX) == 100
    calls = [call_of(TraceRow(line, 0, 0, 0)) for line in range(100)]
    assert len({call.path.split("/")[2] for call in calls}) == 8


@given(ROWS)
def test_a_row_always_becomes_the_same_call_with_small_whole_quantities(row: TraceRow) -> None:
    call = call_of(row)
    assert call == call_of(row)
    assert call.path.startswith("/v1/")
    assert all(value >= 0 for value in (call.body or {}).values() if isinstance(value, int))


def test_tenants_are_drawn_by_the_same_zipf_law_every_time() -> None:
    drawn = list(itertools.islice(tenants_drawn(["first", "second", "third"]), 10_000))
    assert drawn == list(itertools.islice(tenants_drawn(["first", "second", "third"]), 10_000))
    shares = Counter(drawn)
    assert 0.71 < shares["first"] / 10_000 < 0.76
    assert 0.16 < shares["second"] / 10_000 < 0.20
    assert shares["third"] > 0
    assert set(itertools.islice(tenants_drawn(["alone"]), 5)) == {"alone"}


def test_a_replay_keeps_the_recorded_gaps_and_starts_anew() -> None:
    trace = Trace((TraceRow(2, 0, 1, 1), TraceRow(3, 1000, 1, 1)), 2000)
    counts = Counts()
    due = list(itertools.islice(replay(trace, [["a", "b"]], 2.0, counts), 5))
    assert [one.at_s for one in due] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert [one.secret for one in due] == ["a", "b", "a", "b", "a"]
    assert counts.cycles == 2


def test_a_steady_stream_is_even_and_the_spender_asks_for_something_free_too() -> None:
    due = list(itertools.islice(steady("key", spending_calls(), 4.0), 4))
    assert [one.at_s for one in due] == [0.0, 0.25, 0.5, 0.75]
    assert [one.call.method for one in due] == ["POST", "POST", "POST", "GET"]


@given(st.lists(st.lists(st.text(), min_size=1).map(tuple), min_size=1), st.text(), st.text())
def test_secrets_survive_their_json(tenants: list[tuple[str, ...]], over_rate: str, spender: str) -> None:
    secrets = Secrets(tuple(tenants), over_rate, spender)
    assert Secrets.from_json(secrets.to_json()) == secrets
