"""The report of a failure says what broke, how to see it again, and what happened last."""

from .plan import draw_plan
from .play import Step
from .table import STEPS_SHOWN, command, report


def test_a_report_names_the_seed_the_command_the_violations_the_plan_and_the_last_steps() -> None:
    plan = draw_plan(7)
    steps = [Step(at_ms, "worker 1", "flushes", f"flush {at_ms}") for at_ms in range(500)]
    text = report(7, ["ledgers differ: [o1] has 5, should have 4"], plan, steps)
    assert "Seed 7 fails. Again: python -m tests.sim --seeds 1 --first 7" in text
    assert "ledgers differ: [o1] has 5, should have 4" in text
    assert all(fault.kind in text for fault in plan.faults)
    assert "flush 499" in text
    assert f"flush {500 - STEPS_SHOWN}" in text
    assert f"flush {499 - STEPS_SHOWN}" not in text


def test_the_command_of_a_planted_bug_plants_it_again() -> None:
    assert command(3, "zombie not fenced") == "python -m tests.sim --seeds 1 --first 3 --plant 'zombie not fenced'"


def test_a_violation_of_any_length_leaves_the_report_readable() -> None:
    assert len(report(1, ["x" * 10**6], draw_plan(1), [])) < 20_000
