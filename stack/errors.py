"""What a person is told when the stack cannot go on."""

from __future__ import annotations


class StackError(Exception):
    """One clear sentence for a person: what happened, what was kept, what to do next.

    Every failure of this room that a person can meet is a ``StackError``; the command line prints it without a
    traceback and exits with 1.
    """

    def __init__(self, happened: str, *, kept: str = "", next_step: str = "") -> None:
        self.happened = happened
        self.kept = kept
        self.next_step = next_step
        super().__init__(happened, kept, next_step)

    def __str__(self) -> str:
        return ". ".join(part.rstrip(".") for part in (self.happened, self.kept, self.next_step) if part) + "."


class ChildDiedError(StackError):
    """A child process ended although nobody asked it to; ``log_tail`` holds its last lines."""

    def __init__(self, happened: str, *, kept: str = "", next_step: str = "", log_tail: str = "") -> None:
        super().__init__(happened, kept=kept, next_step=next_step)
        self.log_tail = log_tail


class PortInUseError(StackError):
    """Another program listens on the port that was asked for."""
