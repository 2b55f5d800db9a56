"""What a bucket promises: over any time t at most capacity + rate x t (requirements, section 9)."""

from fractions import Fraction


def most_beyond(passed: list[int], capacity: int, per_ms: Fraction) -> Fraction:
    """By how much more than capacity + rate x time passed, over whichever time that was most."""
    worst, least = Fraction(-capacity), Fraction(0)
    for number, at_ms in enumerate(passed):
        debt = number - per_ms * at_ms
        least = debt if not number else min(least, debt)
        worst = max(worst, debt + 1 - least - capacity)
    return worst
