"""Deadlines against a plain dict."""

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.deadlines import NEVER_MS, Deadlines

NAMES = st.sampled_from("abcde")
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, st.integers(0, 100)),
    st.tuples(st.just("drop"), NAMES, st.just(0)),
    st.tuples(st.just("take"), st.just(""), st.integers(0, 100)),
)


@given(st.lists(STEPS, max_size=60))
def test_each_name_is_due_once_at_its_newest_deadline(steps):
    deadlines, plain = Deadlines(), {}
    for verb, name, time_ms in steps:
        if verb == "set":
            deadlines.set(name, time_ms)
            plain[name] = time_ms
        elif verb == "drop":
            deadlines.drop(name)
            plain.pop(name, None)
        else:
            due = sorted((at, one) for one, at in plain.items() if at <= time_ms)
            assert deadlines.take(time_ms) == [one for _, one in due]
            for _, one in due:
                del plain[one]
        assert deadlines.next_ms <= min(plain.values(), default=NEVER_MS)


def test_replaced_deadlines_take_no_room_for_ever():
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set("a", 10**6 - number)
    assert len(deadlines._heap) < 2_000
    assert deadlines.take(10**6) == ["a"]
