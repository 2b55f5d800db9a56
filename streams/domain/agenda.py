"""What a partition's participants wait for, in one look: most records bring nobody's time, and nobody news."""

from .deadlines import NEVER_MS


class Agenda:
    """The earliest of all participants' times, or an earlier one, and whether any of them may have news."""

    __slots__ = ("boundary_ms", "has_news", "next_ms")

    def __init__(self) -> None:
        self.boundary_ms = NEVER_MS
        self.next_ms = NEVER_MS
        self.has_news = False
