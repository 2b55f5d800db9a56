"""Many histories: one after the other or on several processes, each with its outcome, none able to hang the run."""

import gc
import hashlib
import logging
import signal
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from os import _exit
from types import FrameType
from typing import Final

from .plan import Plan, draw_plan
from .planted import PLANTS
from .play import History, play

WATCHDOG_S: Final = 120
"""Wall time that no history comes near to: one takes a fraction of a second."""
_AHEAD: Final = 4
"""Seeds that wait for each process."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed. ``faults`` is empty where all was well."""

    seed: int
    faults: tuple[str, ...]
    seen: Counter[str]
    cpu_s: float


class _HangsError(SystemExit):
    """A history that does not end. A SystemExit, since an event loop lets nothing else through."""


@contextmanager
def _watchdog() -> Iterator[None]:
    """Raises out of a history that hangs, where the platform can (and only the main thread can)."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def bark(number: int, frame: FrameType | None) -> None:
        raise _HangsError(f"the history did not end within {WATCHDOG_S} s of wall time")

    before = signal.signal(signal.SIGALRM, bark)
    timer_before = signal.setitimer(signal.ITIMER_REAL, WATCHDOG_S, WATCHDOG_S)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer_before)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Cyclic garbage is collected once, afterwards: a tenth of the time, and a history makes little of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def play_out(plan: Plan, plant: str = "", *, stops: bool = False) -> History:
    """Plays ``plan``, with the bug ``plant`` in the code if it names one; ``stops`` as in ``play``. What the play
    raises, and a play that hangs, is a violation like any other. Raises PlantError."""
    with _uncollected(), PLANTS[plant].planted() if plant else nullcontext():
        try:
            with _watchdog():
                return play(plan, stops=stops)
        except (Exception, _HangsError) as error:
            where = "".join(traceback.format_exception(error)[-3:])
            history = History()
            history.faults.append(f"the play itself failed: {type(error).__name__}: {error}\n{where}")
            return history


def outcome(seed: int, plant: str = "", *, stops: bool = False) -> Outcome:
    """Draws the plan of ``seed`` and plays it, as ``play_out`` does."""
    started_s = time.process_time()
    history = play_out(draw_plan(seed), plant, stops=stops)
    return Outcome(seed, tuple(history.faults), Counter(history.seen), time.process_time() - started_s)


def fingerprint(seed: int, plant: str = "") -> str:
    """A hash of all that can be told of the history of ``seed``: the same each time, in any process."""
    history = play_out(draw_plan(seed), plant)
    told = history.faults, sorted(history.seen.items()), [tuple(map(str, step)) for step in history.steps]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def outcomes(first: int, count: int, jobs: int, plant: str = "") -> Iterator[Outcome]:
    """The outcomes of ``count`` seeds from ``first`` on, as they come in. Close it to stop early."""
    seeds = iter(range(first, first + count))
    if jobs == 1:
        yield from (outcome(seed, plant) for seed in seeds)
        return
    with processes(jobs) as executor:
        waiting: set[Future[Outcome]] = {executor.submit(outcome, seed, plant) for seed in islice(seeds, jobs * _AHEAD)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {executor.submit(outcome, seed, plant) for seed in islice(seeds, len(done))}
            yield from sorted((one.result() for one in done), key=lambda one: one.seed)


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """Processes that end with this one, however it ends."""
    executor = ProcessPoolExecutor(jobs, get_context("spawn"), _begin_process)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def quiet() -> None:
    """Hides what Python says of coroutines that a killed process never came to begin, and what gateways log."""
    logging.getLogger("sluicegate").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _begin_process() -> None:
    quiet()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends what is to end
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        _exit(1)

    threading.Thread(target=watch, daemon=True).start()
