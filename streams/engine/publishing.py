"""What one owner of a partition publishes beside its outbox: what stands again, and what others said otherwise."""

from collections.abc import Callable, Iterable
from typing import Final

from sluicegate_schemas.state import Header
from sluicegate_schemas.topics import DECISIONS, ENTITLEMENTS

from .actions import Publish
from .machine import ForeignRecord, Machine, Outputs
from .outbox import Outbox
from .standing import Standing

COMPARED: Final = (DECISIONS.name, ENTITLEMENTS.name)
"""The topics of a header's ``outputs_next``; balances a new owner tells again anyway."""


class Publishing:
    """Takes the machine's outputs to the outbox, and knows how far those of others are compared with the state."""

    def __init__(self, outbox: Outbox) -> None:
        self.outputs_next: list[int] = []
        """As the last header says."""
        self.ask: Callable[[], list[int]] = list
        """Where the outputs are read up to; empty while nobody knows. The adapter sets it."""
        self._outbox = outbox
        self._standing = Standing()
        self._contradictions = 0
        self._flushed = 0

    def resume(self, machine: Machine, header: Header | None, usage_end: int, accounts_end: int) -> list[Publish]:
        """After a recovery: what is sent again at once. The rest waits until the inputs are applied to these ends."""
        resent = self._outbox.recover(header.outbox if header else [])
        outputs = Outputs._make(machine.take_outputs())
        self._standing = Standing(outputs.early, usage_end, accounts_end)
        self._outbox.add(outputs._replace(early=[]))
        self.outputs_next = header.outputs_next if header else [0] * len(COMPARED)
        return resent

    def hear(self, records: Iterable[ForeignRecord]) -> None:
        """Others said this; ``collect`` lets the machine answer, see ``Machine.say_again``."""
        self._standing.hear(records)

    def collect(self, machine: Machine, usage_next: int, accounts_next: int) -> list[Publish]:
        """What may be sent now. The offsets below these are applied."""
        outputs = Outputs._make(machine.take_outputs())
        early = self._standing.ahead_of(outputs.early, usage_next, accounts_next)
        publish = self._outbox.add(outputs._replace(early=early))
        if foreign := self._standing.take_foreign(usage_next, accounts_next):
            machine.say_again(foreign)
            publish += self._outbox.add(Outputs._make(machine.take_outputs()))
            self._contradictions = self._outbox.newest
        return publish

    @property
    def may_flush(self) -> bool:
        """The broker has what was said before the last flush. The next one may drop a verdict that the last one still
        holds, and no later owner would say it again."""
        return self._outbox.has_sent(self._flushed)

    def begin_flush(self) -> list[int]:
        """``outputs_next`` of a flush that holds all that was decided: it moves on only once all that others said
        before it is contradicted, and the broker has the contradictions."""
        if not self._standing.has_foreign and self._outbox.has_sent(self._contradictions):
            self.outputs_next = self.ask() or self.outputs_next
        self._flushed = self._outbox.newest
        return self.outputs_next
