"""Work that waits for a reason, and work that is stuck: told apart by looking again and again."""

from collections.abc import Sequence

from streams.progress import FORGOTTEN_AFTER_S, PAUSE_S, Halt, Progress, Work

STUCK_S = 30.0


def work(at: int = 0, *, has_more: bool = True, excuse: str = "", step: str = "input") -> Work:
    return Work("usage/3", step, at, has_more, "its own work", excuse)


def looks(progress: Progress, until: float, *works: Work, since: float = 0.0) -> Sequence[Halt]:
    """The last of one look a second."""
    halts: Sequence[Halt] = ()
    now = since
    while now <= until:
        halts = progress.look(now, works)
        now += 1.0
    return halts


def test_work_that_goes_on_is_no_halt() -> None:
    progress = Progress(STUCK_S)
    assert all(progress.look(now, [work(at=now)]) == [] for now in range(100))


def test_work_with_nothing_to_do_rests() -> None:
    assert looks(Progress(STUCK_S), 1000, work(has_more=False)) == []


def test_a_halt_is_stuck_after_its_limit_and_says_since_when_and_on_what() -> None:
    progress = Progress(STUCK_S)
    (halt,) = looks(progress, STUCK_S - 1, work())
    assert halt == Halt("usage/3", "input", 0.0, "its own work", waits=False, stuck=False)
    (halt,) = looks(progress, STUCK_S, work(), since=STUCK_S)
    assert halt.stuck


def test_a_stated_reason_is_never_stuck_and_the_limit_begins_anew_after_it() -> None:
    progress = Progress(STUCK_S)
    (halt,) = looks(progress, 10 * STUCK_S, work(excuse="a catalogue"))
    assert (halt.waits, halt.stuck, halt.on, halt.since) == (True, False, "a catalogue", 0.0)
    (halt,) = looks(progress, 11 * STUCK_S - 1, work(), since=10 * STUCK_S + 1)
    assert (halt.waits, halt.stuck) == (False, False)
    (halt,) = looks(progress, 11 * STUCK_S, work(), since=11 * STUCK_S)
    assert halt.stuck


def test_one_step_of_progress_begins_the_limit_anew() -> None:
    progress = Progress(STUCK_S)
    looks(progress, STUCK_S - 1, work())
    assert progress.look(STUCK_S, [work(at=1)]) == []
    (halt,) = looks(progress, 2 * STUCK_S - 1, work(at=1), since=STUCK_S + 1)
    assert not halt.stuck


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """A process that was stopped by a signal, or whose machine slept, is not stuck when it wakes."""
    progress = Progress(STUCK_S)
    looks(progress, 10, work())
    (halt,) = progress.look(10 + 100 * STUCK_S, [work()])
    assert (halt.stuck, halt.since) == (False, 100 * STUCK_S)
    (halt,) = looks(progress, 10 + 100 * STUCK_S + 20, work(), since=11 + 100 * STUCK_S)
    assert halt.stuck


def test_a_rejoin_that_changes_nothing_does_not_begin_the_limit_anew() -> None:
    """The steps are absent for a moment, and the partition comes back where it was."""
    progress = Progress(STUCK_S)
    looks(progress, 20, work())
    for now in (21.0, 22.0, 23.0):
        assert progress.look(now, []) == []
    (halt,) = looks(progress, 30, work(), since=24.0)
    assert halt.stuck
    looks(progress, 30 + FORGOTTEN_AFTER_S + PAUSE_S, since=31.0)
    assert progress.look(200.0, [work()]) == []


def test_what_others_wait_on_comes_first() -> None:
    halts = looks(Progress(STUCK_S), STUCK_S, work(step="flush"), work(step="input"))
    assert [halt.step for halt in halts] == ["flush", "input"]
