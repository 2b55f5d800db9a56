"""A world whose owner dies: what it did since its last flush is lost, but for what it had said early."""

from typing import NamedTuple

from sluicegate_schemas.outputs import Decision
from tests.domain_world import World


class LogRecord(NamedTuple):
    """One record of the ``usage`` or ``accounts`` log; ``time`` only moves the log time."""

    topic: str
    at: int
    value: bytes = b""


class LossyWorld(World):
    """``keep`` is a flush; ``die`` goes back to it with a new owner, who takes all that came since in again."""

    def __init__(self) -> None:
        self._keeps = True
        super().__init__()
        self.applied: list[LogRecord] = []
        """What the living owner took in, in its order."""
        self._kept = 0, self.offset, self.accounts_offset, self.log_time_ms

    def flush(self) -> None:
        if self._keeps:
            super().flush()
        else:
            self.early += self.machine.take_outputs().early

    def keep(self) -> None:
        """The owner flushes."""
        super().flush()
        self._kept = len(self.applied), self.offset, self.accounts_offset, self.log_time_ms

    def take_in(self, record: LogRecord) -> None:
        """One more record."""
        self._keeps = False
        at = max(record.at, self.log_time_ms)
        match record.topic:
            case "accounts":
                self.obey(record.value, at=at)
            case "usage":
                self.append(record.value, at=at)
            case _:
                self.pass_time(at)
        self.applied.append(record)

    def die(self, *, commands_first: bool) -> None:
        """Commands and usage are two logs: the new owner may take them in in another order than the one before."""
        count, self.offset, self.accounts_offset, self.log_time_ms = self._kept
        lost, self.applied = self.applied[count:], self.applied[:count]
        self._keeps = False
        self.take_over()
        if commands_first:
            lost.sort(key=lambda record: record.topic != "accounts")
        for record in lost:
            self.take_in(record)

    def last_said(self, limit_name: str, scope: str) -> Decision | None:
        """What a reader of the decisions believes."""
        found = [one for one in self.decisions if one.limit_name == limit_name and one.scope.text() == scope]
        return max(found, key=lambda one: (one.sequence.epoch, one.sequence.counter), default=None)
