"""From a seed that fails to what people look at: shrunk, played once more, shown."""

from .plan import Plan, draw_plan
from .seeds import play_out
from .shrink import PLAYS_MAX, kind_of, shrink
from .table import report


def explain(seed: int, plant: str = "", *, shrinks: bool = True, plays_max: int = PLAYS_MAX) -> str:
    """The report of a failed seed: its violations, and the smallest plan found that breaks the same promise."""
    plan = draw_plan(seed)
    history = play_out(plan, plant)
    if not history.faults:
        return f"Seed {seed} failed, and does not when it is played again: the simulator is not deterministic here."
    kinds = {kind_of(fault) for fault in history.faults}

    def fails(smaller: Plan) -> bool:
        return any(kind_of(fault) in kinds for fault in play_out(smaller, plant).faults)

    if shrinks:
        plan = shrink(plan, fails, plays_max)
        history = play_out(plan, plant)
    return report(seed, history.faults, plan, history.steps, plant)
