"""When a partition tells what is current."""

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.telling import until_turn_s

INSTANTS_S = st.floats(0.0, 1e7)


@given(INSTANTS_S, INSTANTS_S, st.floats(0.01, 10.0), st.floats(0.0, 0.5))
def test_partitions_tell_together_after_their_pause_and_wait_one_interval_more_at_most(
    one_s, other_s, least_s, pause_s
):
    turns = [now_s + until_turn_s(now_s, least_s, pause_s) for now_s in (one_s, other_s)]
    for turn_s, now_s in zip(turns, (one_s, other_s), strict=True):
        assert pause_s <= turn_s - now_s + 1e-6
        assert 0.001 - 1e-6 <= turn_s - now_s <= pause_s + least_s + 1e-6
    late_s = (turns[1] - turns[0]) % least_s
    assert min(late_s, least_s - late_s) < 0.0011
