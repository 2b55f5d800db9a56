"""What the events of one usage record share on their way through the meter."""

from collections.abc import Callable

from sluicegate_schemas.outputs import RejectReason

Refuse = Callable[[int, RejectReason, str | None, str], None]
"""(index of the event, reason, field, detail)."""


class RecordContext:
    """What the events of one usage record share. ``name`` gives the id of an event that has none of its own;
    ``is_checked``: their numbers were, when they were decoded (``check_numbers``)."""

    __slots__ = ("is_checked", "logged_at_ms", "name", "offset", "refuse")

    def __init__(
        self, offset: int, logged_at_ms: int, name: Callable[[int], str], refuse: Refuse, *, is_checked: bool = False
    ) -> None:
        self.offset = offset
        self.logged_at_ms = logged_at_ms
        self.name = name
        self.refuse = refuse
        self.is_checked = is_checked
