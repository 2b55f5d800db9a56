"""Intake: one usage record on its way through admit, dedup and meter."""

from collections.abc import Callable

from sluicegate_schemas import topics
from sluicegate_schemas.decode import Malformed, decode_usage
from sluicegate_schemas.envelope import TICK, WireEnvelope, WireEvent, WireForward, WireGauge, WireLeaseRequest
from sluicegate_schemas.outputs import RejectReason

from .admit import Admission, Admitter
from .dedup import EventIds, Producers, event_digest, id_key
from .meter import Meter
from .outputs import Outbox, RecordOrigin
from .period import LogTime
from .record_context import EnvelopeContext, RecordContext, SingleContext
from .routes import Route
from .settings import DomainSettings
from .tables import TotalsRow

InputTuple = tuple[int, int, bytes | None, bytes | None]
"""(offset, log_time_ms, key, value)."""


class Intake:
    """Decides a record's fate before anything changes, then carries it out.

    ``advance_to`` moves the log time on and says whether routes that were looked up before are void.
    """

    def __init__(
        self,
        partition: int,
        settings: DomainSettings,
        time: LogTime,
        admitter: Admitter,
        producers: Producers,
        event_ids: EventIds,
        meter: Meter,
        outbox: Outbox,
        advance_to: Callable[[int], bool],
        hear: Callable[[WireGauge | WireLeaseRequest, RecordOrigin], None],
    ) -> None:
        self._partition = partition
        self._settings = settings
        self._time = time
        self._admitter = admitter
        self._producers = producers
        self._event_ids = event_ids
        self._meter = meter
        self._outbox = outbox
        self._advance_to = advance_to
        self._hear = hear
        self.totals = TotalsRow()

    def apply(self, record: InputTuple, *, accounts_current: bool) -> bool:
        """Applies a record, or changes nothing and returns False: it needs accounts that are not known yet."""
        offset, log_time_ms, _, value = record
        if value == TICK:
            self._advance_to(log_time_ms)
            return True
        try:
            content = decode_usage(value)
        except Malformed as malformed:
            self._advance_to(log_time_ms)
            origin = RecordOrigin(topics.USAGE.name, self._partition, offset, log_time_ms, value or b"")
            self._reject(origin, 0, malformed.reason, malformed.field, malformed.detail, None, None)
            return True
        if type(content) is WireEvent:
            route = self._admitter.known(content)
            if route is not None and not self._advance_to(log_time_ms):
                place = self._partition, offset, log_time_ms, value or b""
                self._count_once(content, route, SingleContext(content, log_time_ms, place, self._reject), 0)
                self._meter.judge_debts()
                return True
        origin = RecordOrigin(topics.USAGE.name, self._partition, offset, log_time_ms, value or b"")
        if isinstance(content, WireGauge | WireLeaseRequest):
            if not accounts_current and self._admitter.is_early(content):
                return False
            self._advance_to(log_time_ms)
            self._hear(content, origin)
            return True
        if isinstance(content, WireEnvelope):
            if self._producers.is_repeated(content.producer_id, content.producer_epoch, content.sequence):
                self._advance_to(log_time_ms)
                self.totals.duplicate += len(content.events)
                return True
            events, is_forward = content.events, False
        else:
            is_forward = isinstance(content, WireForward)
            events = [content.event if isinstance(content, WireForward) else content]
        admission = self._admitter.admit(events, is_forward=is_forward)
        if admission.is_unknown and not accounts_current:
            return False
        if self._advance_to(log_time_ms):
            admission = self._admitter.admit(events, is_forward=is_forward)
        if isinstance(content, WireEnvelope):
            self._count_envelope(content, admission, origin)
        else:
            logged_at_ms = min(content.logged_at_ms, log_time_ms) if isinstance(content, WireForward) else log_time_ms
            self._count_single(events, admission, origin, logged_at_ms)
        self._meter.judge_debts()
        return True

    def _count_envelope(self, envelope: WireEnvelope, admission: Admission, origin: RecordOrigin) -> None:
        producer_id, events, routes = envelope.producer_id, envelope.events, admission.routes
        has_own_ids = any(event.id is not None for event in events)
        record = EnvelopeContext(envelope, origin, self._reject)
        heard_from_ms = self._producers.heard_from_ms(producer_id)
        forwarded = admission.forwarded
        if heard_from_ms:
            for index, event in enumerate(events):
                if event.ts_ms < heard_from_ms and (
                    routes[index] is not None or any(index == one[0] for one in forwarded)
                ):
                    routes[index] = None
                    record.refuse(index, "older_than_dedup_horizon", "ts", "its producer may have been forgotten since")
            forwarded = [one for one in forwarded if events[one[0]].ts_ms >= heard_from_ms]
        for index, account_id, home in forwarded:
            event = events[index]
            if event.id is None:
                event.id = record.name(index)
            self._forward(origin, index, event, account_id, home)
        for refused in admission.refused:
            record.refuse(*refused)
        if has_own_ids:
            for index, (event, route) in enumerate(zip(events, routes, strict=True)):
                if event.id is not None:
                    self._count_once(event, route, record, index)
                else:
                    self.totals.counted += self._meter.count([event], [route], record, index)
        else:
            self.totals.counted += self._meter.count(events, routes, record)
        ts_ms_max = min(max(event.ts_ms for event in events), origin.logged_at_ms + self._settings.clock_ahead_ms)
        self._producers.mark(producer_id, envelope.producer_epoch, envelope.sequence, self._time.now_ms, ts_ms_max)

    def _count_single(
        self, events: list[WireEvent], admission: Admission, origin: RecordOrigin, logged_at_ms: int
    ) -> None:
        """Counts a foreign client's event, or a forwarded one.

        A forward's origin position names the same event each time it is sent, so its id tells repeats of it too.
        """
        event = events[0]
        record = SingleContext(event, logged_at_ms, origin[1:], self._reject)
        for index, account_id, home in admission.forwarded:
            self._forward(origin, index, event, account_id, home)
        for refused in admission.refused:
            record.refuse(*refused)
        self._count_once(event, admission.routes[0], record, 0)

    def _count_once(self, event: WireEvent, route: Route | None, record: RecordContext, index: int) -> None:
        """Counts an event with an id of its own, unless that id was counted before or could have been."""
        if route is None:
            return
        key = id_key(event)
        known = self._event_ids.find(key)
        if known is not None:
            if known.digest == event_digest(event):
                self.totals.duplicate += 1
            else:
                record.refuse(index, "id_conflict", "id", "was the id of another event before")
            return
        is_in_time = event.started_at_ms >= record.logged_at_ms - self._settings.clock_behind_ms
        if is_in_time and self._event_ids.is_past_horizon(event.ts_ms, self._time.now_ms):
            detail = "lies before the horizon within which repeats are known"
            record.refuse(index, "older_than_dedup_horizon", "ts", detail)
            return
        if self._meter.count([event], [route], record, index):
            self.totals.counted += 1
            self._event_ids.mark(key, event)

    def refuse(self, origin: RecordOrigin, index: int, reason: RejectReason, field: str | None, detail: str,
               organization_id: str | None = None) -> None:  # fmt: skip
        """Rejects the part ``index`` of a record that holds no events; it was to be of ``organization_id``."""
        self._reject(origin, index, reason, field, detail, None, None, organization_id)

    def _reject(
        self,
        origin: RecordOrigin,
        index: int,
        reason: RejectReason,
        field: str | None,
        detail: str,
        event: WireEvent | None,
        producer_id: str | None,
        organization_id: str | None = None,
    ) -> None:
        self.totals.rejected += 1
        self._outbox.reject(
            origin,
            index,
            reason,
            detail,
            self._time.now_ms,
            field=field,
            event_id=None if event is None else event.id,
            organization_id=organization_id if event is None else event.org_id,
            producer_id=producer_id,
        )

    def _forward(self, origin: RecordOrigin, index: int, event: WireEvent, account_id: str, home: int) -> None:
        self.totals.forwarded += 1
        self._outbox.forward(origin, index, event, account_id, home)
