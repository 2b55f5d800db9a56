"""What the events of one usage record share on their way through the meter."""

from collections.abc import Callable

from sluicegate_schemas.outputs import RejectReason

Refuse = Callable[[int, RejectReason, str | None, str], None]
"""(index of the event, reason, field, detail)."""


class RecordContext:
    """What the events of one usage record share. ``name`` gives the id of an event that has none of its own."""

    __slots__ = ("logged_at_ms", "name", "offset", "refuse")

    def __init__(self, offset: int, logged_at_ms: int, name: Callable[[int], str], refuse: Refuse) -> None:
        self.offset = offset
        self.logged_at_ms = logged_at_ms
        self.name = name
        self.refuse = refuse
