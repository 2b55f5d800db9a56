"""What the events of one usage record share on their way through the meter."""

from typing import Protocol

from sluicegate_schemas import topics
from sluicegate_schemas.envelope import WireEnvelope, WireEvent
from sluicegate_schemas.outputs import RejectReason

from .outputs import RecordOrigin


class Reject(Protocol):
    """Rejects the event ``index`` of a record, of a producer where it came in an envelope."""

    def __call__(
        self,
        origin: RecordOrigin,
        index: int,
        reason: RejectReason,
        field: str | None,
        detail: str,
        event: WireEvent | None,
        producer_id: str | None,
        /,
    ) -> None: ...


class RecordContext(Protocol):
    """The record's place and time. ``is_checked``: its events' numbers were, when they were decoded."""

    offset: int
    logged_at_ms: int
    is_checked: bool

    def name(self, index: int) -> str:
        """The id of an event, also of one that brought none."""

    def refuse(self, index: int, reason: RejectReason, field: str | None, detail: str) -> None:
        """Rejects an event."""


class EnvelopeContext:
    """Of an envelope: its events are named by its producer's sequence."""

    __slots__ = ("_envelope", "_origin", "_reject", "is_checked", "logged_at_ms", "offset")

    def __init__(self, envelope: WireEnvelope, origin: RecordOrigin, reject: Reject) -> None:
        self._envelope = envelope
        self._origin = origin
        self._reject = reject
        self.is_checked = False
        self.logged_at_ms = origin.logged_at_ms
        self.offset = origin.offset

    def name(self, index: int) -> str:
        """See ``RecordContext``."""
        envelope = self._envelope
        place = f"{envelope.producer_epoch}-{self._origin.partition}-{envelope.sequence}"
        return f"{envelope.producer_id}-{place}-{index}"

    def refuse(self, index: int, reason: RejectReason, field: str | None, detail: str) -> None:
        """See ``RecordContext``."""
        event = self._envelope.events[index]
        if event.id is None:
            event.id = self.name(index)
        self._reject(self._origin, index, reason, field, detail, event, self._envelope.producer_id)


class SingleContext:
    """Of a record that holds one event, with an id of its own. ``logged_at_ms`` is the one that the event is held
    against, ``record`` (partition, offset, log time, value) where it stands."""

    __slots__ = ("_event", "_record", "_reject", "is_checked", "logged_at_ms", "offset")

    def __init__(
        self, event: WireEvent, logged_at_ms: int, record: tuple[int, int, int, bytes], reject: Reject
    ) -> None:
        self._event = event
        self._record = record
        self._reject = reject
        self.is_checked = True
        self.logged_at_ms = logged_at_ms
        self.offset = record[1]

    def name(self, index: int) -> str:
        """See ``RecordContext``."""
        return self._event.id or ""

    def refuse(self, index: int, reason: RejectReason, field: str | None, detail: str) -> None:
        """See ``RecordContext``."""
        origin = RecordOrigin(topics.USAGE.name, *self._record)
        self._reject(origin, index, reason, field, detail, self._event, None)
