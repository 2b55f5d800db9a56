"""What is on its way to whom: the state of the dispatcher, folded from the topic ``deliveries``. Pure: times are given.

Every change is a row of that topic, gathered in ``changes`` until it is taken to be written. A start restores the same
book from the rows, whatever happened in between.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.deliveries import (
    DELIVERY_RECORD,
    AlertsPosition,
    Delivery,
    Failure,
    delivery_key,
    position_key,
    replay_key,
)

from .schedule import WINDOW_MS, next_attempt_ms

log = logging.getLogger(__name__)

State = Literal["pending", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one endpoint. Beyond them the oldest pending delivery becomes a dead letter (``overflow``), the oldest dead
    letter is forgotten and counted, and the oldest delivered id is forgotten: its alert would be sent again if the
    alerts topic repeated it."""

    pending_max: int = 1_000
    pending_bytes_max: int = 4 * 1024 * 1024
    dead_max: int = 1_000
    delivered_max: int = 5_000
    removed_endpoints_max: int = 100
    """Endpoints that are configured no more and still have dead letters; beyond it the first one's are forgotten."""


@dataclass(slots=True)
class Pending:
    """A delivery that is still to be made. Times are epoch milliseconds."""

    endpoint: str
    webhook_id: str
    alert: str
    taken_at_ms: int
    next_attempt_ms: int
    attempts: int = 0
    failure: Failure | None = None
    status: int | None = None


@dataclass(slots=True)
class Shelf:
    """One endpoint's deliveries by webhook id, the oldest first."""

    pending: dict[str, Pending] = field(default_factory=dict)
    pending_bytes: int = 0
    delivered: dict[str, None] = field(default_factory=dict)
    dead: dict[str, None] = field(default_factory=dict)

    def __contains__(self, webhook_id: str) -> bool:
        return webhook_id in self.pending or webhook_id in self.delivered or webhook_id in self.dead

    def put(self, delivery: Pending) -> None:
        """As the newest of the pending ones."""
        self.remove(delivery.webhook_id)
        self.pending[delivery.webhook_id] = delivery
        self.pending_bytes += len(delivery.alert.encode())

    def remove(self, webhook_id: str) -> Pending | None:
        """From wherever it is; what was pending."""
        self.delivered.pop(webhook_id, None)
        self.dead.pop(webhook_id, None)
        pending = self.pending.pop(webhook_id, None)
        if pending is not None:
            self.pending_bytes -= len(pending.alert.encode())
        return pending


def in_order(changes: Mapping[str, bytes | None]) -> list[tuple[str, bytes | None]]:
    """Rows in the order in which they have to be written: deliveries first. A crash in between takes an alert, or a
    request for a replay, in again, which the deliveries then show to be known."""
    return sorted(changes.items(), key=lambda row: not row[0].startswith("delivery|"))


class Book:
    """All endpoints' deliveries, and how far the alerts topic was taken in."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.positions: dict[int, int] = {}
        """The next offset of each partition of the alerts topic."""
        self.changes: dict[str, bytes | None] = {}
        """Rows to be written by key; None removes one."""
        self.repeated = 0
        """Deliveries that were asked for again, and were made or on their way already."""
        self.deaths: Counter[Failure] = Counter()
        self.forgotten = 0
        """Dead letters that had to make room."""
        self._limits = limits or Limits()
        self._asked: dict[str, Delivery] = {}
        self._configured: frozenset[str] = frozenset()

    def shelf(self, endpoint: str) -> Shelf:
        """One endpoint's."""
        return self.shelves.setdefault(endpoint, Shelf())

    def restore(self, key: str, value: bytes | None) -> None:
        """Folds one row. What cannot be read is passed over, and logged."""
        kind, _, rest = key.partition("|")
        if value is None:
            self._asked.pop(key, None)
            if kind == "delivery":
                endpoint, _, webhook_id = rest.partition("|")
                self.shelf(endpoint).remove(webhook_id)
            return
        try:
            record = DELIVERY_RECORD.validate_json(value)
        except ValidationError:
            log.error("a row of the deliveries topic cannot be read and is passed over (%r)", key[:200])
            return
        if isinstance(record, AlertsPosition):
            self.positions[record.partition] = record.next_offset
        elif isinstance(record, Delivery) and key == replay_key(record.endpoint, record.webhook_id):
            self._asked[key] = record
        elif isinstance(record, Delivery):
            self._place(record)

    def _place(self, record: Delivery) -> None:
        shelf = self.shelf(record.endpoint)
        if record.state == "pending" and record.alert is not None and record.next_attempt_at is not None:
            pending = Pending(
                record.endpoint,
                record.webhook_id,
                record.alert,
                to_epoch_ms(record.taken_at),
                to_epoch_ms(record.next_attempt_at),
                record.attempts,
                record.failure,
                record.status,
            )
            shelf.put(pending)
            return
        shelf.remove(record.webhook_id)
        (shelf.delivered if record.state == "delivered" else shelf.dead)[record.webhook_id] = None

    def restored(self, configured: Collection[str], now_ms: int) -> None:
        """All rows are folded. Where an endpoint is not ``configured`` any more, what is pending becomes dead
        letters."""
        self._configured = frozenset(configured)
        for shelf in self.shelves.values():  # rows stand in the order of their last attempts
            shelf.pending = dict(sorted(shelf.pending.items(), key=lambda item: item[1].taken_at_ms))
        removed = [name for name in self.shelves if name not in configured]
        for name in removed:
            shelf = self.shelves[name]
            for delivery in list(shelf.pending.values()):
                self._die(delivery, "endpoint_removed", now_ms)
            for webhook_id in list(shelf.delivered):
                self._forget(shelf, name, webhook_id)
            if not shelf.dead:
                del self.shelves[name]
        for name in self.shelves:  # a crash may have come between what was added and what made room for it
            self._bound(name, now_ms)
        kept = [name for name in removed if name in self.shelves]
        for name in kept[: max(0, len(kept) - self._limits.removed_endpoints_max)]:
            shelf = self.shelves.pop(name)
            self.forgotten += len(shelf.dead)
            for webhook_id in list(shelf.dead):
                self._forget(shelf, name, webhook_id)

    def took(self, partition: int, next_offset: int) -> None:
        """The alerts of ``partition`` are taken in up to ``next_offset``."""
        self.positions[partition] = next_offset
        record = AlertsPosition(partition=partition, next_offset=next_offset)
        self.changes[position_key(partition)] = record.model_dump_json().encode()

    def take(self, endpoint: str, webhook_id: str, alert: str, *, alert_at_ms: int, now_ms: int) -> None:
        """An alert for ``endpoint``: pending at once, unless it is known already or too old."""
        shelf = self.shelf(endpoint)
        if webhook_id in shelf:
            self.repeated += 1
            return
        delivery = Pending(endpoint, webhook_id, alert, now_ms, now_ms)
        shelf.put(delivery)
        if now_ms - alert_at_ms >= WINDOW_MS:
            self._die(delivery, "too_old", now_ms)
        else:
            self._write(delivery, now_ms)
        self._bound(endpoint, now_ms)

    def replay_asked(self, now_ms: int) -> None:
        """Tries again what replays were asked for of, as if it had just been taken in, and removes the requests."""
        asked, self._asked = self._asked, {}
        for key, record in asked.items():
            if record.alert is not None:
                delivery = Pending(record.endpoint, record.webhook_id, record.alert, now_ms, now_ms)
                shelf = self.shelf(record.endpoint)
                shelf.put(delivery)
                if record.endpoint in self._configured:
                    self._write(delivery, now_ms)
                else:
                    self._die(delivery, "endpoint_removed", now_ms)
                self._bound(record.endpoint, now_ms)
            self.changes[key] = None

    def delivered(self, delivery: Pending, status: int | None, now_ms: int) -> None:
        """The receiver has it."""
        shelf = self.shelf(delivery.endpoint)
        shelf.remove(delivery.webhook_id)
        shelf.delivered[delivery.webhook_id] = None
        delivery.attempts += 1
        delivery.failure, delivery.status = None, status
        self._write(delivery, now_ms, "delivered")
        self._bound(delivery.endpoint, now_ms)

    def failed(
        self,
        delivery: Pending,
        failure: Failure,
        *,
        status: int | None,
        retry_after_s: float,
        delays_s: tuple[int, ...],
        chance: float,
        now_ms: int,
    ) -> None:
        """An attempt failed: it is tried again by the schedule, or becomes a dead letter."""
        if self.shelf(delivery.endpoint).pending.get(delivery.webhook_id) is not delivery:
            return  # it had to make room, or is being replayed, while the attempt was under way
        delivery.attempts += 1
        delivery.failure, delivery.status = failure, status
        at_ms = None
        if failure != "gone":
            at_ms = next_attempt_ms(
                taken_at_ms=delivery.taken_at_ms,
                now_ms=now_ms,
                attempts=delivery.attempts,
                delays_s=delays_s,
                retry_after_s=retry_after_s,
                chance=chance,
            )
        if at_ms is None:
            self._die(delivery, failure, now_ms)
            self._bound(delivery.endpoint, now_ms)
        else:
            delivery.next_attempt_ms = at_ms
            self._write(delivery, now_ms)

    def pending(self) -> Iterator[Pending]:
        """All that is still to be made."""
        for shelf in self.shelves.values():
            yield from shelf.pending.values()

    def _bound(self, endpoint: str, now_ms: int) -> None:
        """Holds one endpoint's shelf within the limits."""
        shelf, limits = self.shelf(endpoint), self._limits
        while len(shelf.pending) > limits.pending_max or shelf.pending_bytes > limits.pending_bytes_max:
            self._die(next(iter(shelf.pending.values())), "overflow", now_ms)
        while len(shelf.dead) > limits.dead_max:
            self.forgotten += 1
            self._forget(shelf, endpoint, next(iter(shelf.dead)))
        while len(shelf.delivered) > limits.delivered_max:
            self._forget(shelf, endpoint, next(iter(shelf.delivered)))

    def _die(self, delivery: Pending, failure: Failure, now_ms: int) -> None:
        shelf = self.shelf(delivery.endpoint)
        shelf.remove(delivery.webhook_id)
        shelf.dead[delivery.webhook_id] = None
        delivery.failure = failure
        self.deaths[failure] += 1
        self._write(delivery, now_ms, "dead")

    def _forget(self, shelf: Shelf, endpoint: str, webhook_id: str) -> None:
        shelf.remove(webhook_id)
        self.changes[delivery_key(endpoint, webhook_id)] = None

    def _write(self, delivery: Pending, now_ms: int, state: State = "pending") -> None:
        record = Delivery(
            endpoint=delivery.endpoint,
            webhook_id=delivery.webhook_id,
            state=state,
            alert=None if state == "delivered" else delivery.alert,
            taken_at=from_epoch_ms(delivery.taken_at_ms),
            attempts=delivery.attempts,
            next_attempt_at=from_epoch_ms(delivery.next_attempt_ms) if state == "pending" else None,
            failure=delivery.failure,
            status=delivery.status,
            at=from_epoch_ms(now_ms),
        )
        self.changes[delivery_key(delivery.endpoint, delivery.webhook_id)] = record.model_dump_json().encode()
