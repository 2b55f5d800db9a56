"""What a partition has to send, and how much of each promise is kept (design: outbox)."""

from collections.abc import Iterable
from itertools import count

from sluicegate_schemas.state import OutboxRecord

from .actions import Publish
from .machine import Outputs


class Outbox:
    """The outputs of one owner of a partition between the machine and the broker's acknowledgement.

    Early ones are sent as they come. Durable ones stand in each flush's header until the broker has them, and are sent
    once a flush that holds them is acknowledged.
    """

    def __init__(self) -> None:
        self._tokens = count(1)
        self._durable: dict[int, OutboxRecord] = {}
        self._new: list[int] = []
        self._in_flush: list[int] = []
        self._sent: set[int] = set()
        self._header_count = 0
        self.durable_bytes = 0
        """Size of all durable outputs that the next header has to carry."""

    def add(self, outputs: Outputs) -> list[Publish]:
        """Takes in new outputs; returns the early ones, to be sent at once."""
        for record in outputs.durable:
            self._new.append(self._keep(record))
        return [self._send(next(self._tokens), record) for record in outputs.early]

    def recover(self, records: Iterable[OutboxRecord]) -> list[Publish]:
        """Takes over a former owner's header outbox: sent again at once, since its flush is durable."""
        publish = [self._send(self._keep(record), record) for record in records]
        self._header_count = len(publish)
        return publish

    def begin_flush(self) -> list[OutboxRecord]:
        """The outbox of the header of the flush that begins now."""
        self._in_flush, self._new = self._new, []
        self._header_count = len(self._durable)
        return list(self._durable.values())

    def flushed(self) -> list[Publish]:
        """The flush is acknowledged: what may be sent now."""
        publish = [self._send(token, self._durable[token]) for token in self._in_flush]
        self._in_flush = []
        return publish

    def published(self, token: int) -> None:
        """The broker has the output."""
        self._sent.discard(token)
        if (record := self._durable.pop(token, None)) is not None:
            self.durable_bytes -= _size_bytes(record)

    @property
    def newest(self) -> int:
        """The token of the output that was sent last; 0 before the first."""
        return max(self._sent, default=0)

    def has_sent(self, token: int) -> bool:
        """The broker has all outputs up to this token."""
        return all(sent > token for sent in self._sent)

    @property
    def waits_for_flush(self) -> bool:
        """Something may be sent only after a flush that has not begun."""
        return bool(self._new)

    @property
    def header_is_stale(self) -> bool:
        """The newest header holds outputs, and the broker has all of them: another flush spares a repetition."""
        return self._header_count > 0 and not self._durable

    @property
    def unacknowledged(self) -> int:
        """How many outputs are sent and not acknowledged."""
        return len(self._sent)

    def _keep(self, record: OutboxRecord) -> int:
        token = next(self._tokens)
        self._durable[token] = record
        self.durable_bytes += _size_bytes(record)
        return token

    def _send(self, token: int, record: OutboxRecord) -> Publish:
        self._sent.add(token)
        return Publish(token, record)


def _size_bytes(record: OutboxRecord) -> int:
    return len(record.value) + len(record.key or b"") + len(record.topic) + 24
