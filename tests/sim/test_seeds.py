"""Fresh histories each time: whatever breaks in them, the product stays exact."""

import os
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from . import seeds
from .__main__ import draw_first
from .failure import explain
from .plan import Plan, draw_plan
from .play import History
from .seeds import outcomes, play_out

ROOT = Path(__file__).parents[2]
SEEDS = 300
JOBS = 2
PLAYS_MAX = 100
"""To shrink with: a failure shall be shown within the time of a test run."""


@pytest.mark.contract("8.1")
@pytest.mark.timeout(600)
def test_fresh_histories_of_disasters_keep_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    first = draw_first()
    with capsys.disabled():
        print(f"\n{SEEDS} histories from seed {first}: python -m tests.sim --first {first} --seeds {SEEDS}")
    seen: Counter[str] = Counter()
    with closing(outcomes(first, SEEDS, JOBS)) as played:
        for one in played:
            if one.faults:
                pytest.fail(explain(one.seed, plays_max=PLAYS_MAX), pytrace=False)
            seen.update(one.seen)
    print(seen)


def test_a_seed_is_one_history_in_any_process() -> None:
    code = "import sys; from tests.sim.seeds import fingerprint; print(*map(fingerprint, map(int, sys.argv[1:])))"
    told = set()
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, "11", "12", "13"],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        told.add(run.stdout)
    assert len(told) == 1
    assert len(set(told.pop().split())) == 3


def test_several_processes_play_each_seed_once() -> None:
    with closing(outcomes(20, 9, JOBS)) as played:
        assert sorted(one.seed for one in played) == list(range(20, 29))


def test_what_a_play_raises_is_a_violation_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(plan: Plan, *, stops: bool) -> History:
        raise LookupError("no catalogue")

    monkeypatch.setattr(seeds, "play", broken)
    (fault,) = play_out(draw_plan(1)).faults
    assert "LookupError: no catalogue" in fault


def test_a_history_that_hangs_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(plan: Plan, *, stops: bool) -> History:
        while True:
            try:
                sum(range(100))
            except Exception:
                continue

    monkeypatch.setattr(seeds, "play", endless)
    monkeypatch.setattr(seeds, "WATCHDOG_S", 0.2)
    (fault,) = play_out(draw_plan(1)).faults
    assert "did not end within" in fault


def test_a_failure_shows_its_seed_a_smaller_plan_and_the_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(plan: Plan, *, stops: bool = False) -> History:
        history = History()
        if any(send.kind == "poison" for send in plan.traffic):
            history.faults.append("a poison record was seen")
        return history

    monkeypatch.setattr(seeds, "play", poisoned)
    seed = next(seed for seed in range(100) if poisoned(draw_plan(seed)).faults)
    text = explain(seed)
    assert f"--first {seed}" in text
    assert "a poison record was seen" in text
    assert text.count("poison") == 2
    assert "envelope" not in text


def test_the_processes_of_a_run_end_with_it_however_it_ends() -> None:
    code = (
        "import os, time\nfrom tests.sim.seeds import processes\n"
        "with processes(2) as pool:\n"
        "    waiting = [pool.submit(time.sleep, 60) for _ in range(2)]\n"
        "    print(*pool._processes, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    # Both ends of the pipe are closed only once the last process is gone: that ends the wait for the output.
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert len(run.stdout.split()) == JOBS
