"""A meter for tests: what a publisher is to the middleware."""

from __future__ import annotations

from typing import Unpack

from sluicegate.publisher import EventFields


class Recorder:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[EventFields] = []

    def publish(self, **fields: Unpack[EventFields]) -> bool:
        """Takes every event."""
        self.events.append(fields)
        return True
