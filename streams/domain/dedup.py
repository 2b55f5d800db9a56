"""Dedup: envelopes by (producer, epoch, sequence), events with an id of their own by (organization, id) in a horizon.

Both memories are bounded, and neither bound can make anything count twice: what is forgotten raises a horizon, and what
lies before the horizon is rejected by name (requirements, sections 8 and 9).
"""

import hashlib
import heapq
from collections import defaultdict
from typing import Final

import msgspec

from sluicegate_schemas.envelope import WireEvent

from .settings import DomainSettings
from .tables import COUNT_MAX, ChangedRows, EventIdRow, HorizonRow, ProducerRow, row_key

_PRODUCER_SLACK_MS: Final = 3_600_000
_EXPIRED_AT_ONCE: Final = 2_000
_EVENT_FIELDS_MIN: Final = 17
"""The fields that events had when their digests were first kept."""
_HORIZON_KEY: Final = row_key("z", "horizon")
_ENCODE: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def digest_of(value: object) -> int:
    """64 bits of ``value``'s content: the same for equal content, whatever the order of its fields."""
    return int.from_bytes(hashlib.blake2b(_ENCODE(value), digest_size=8).digest(), "big")


def event_digest(event: WireEvent) -> int:
    """``digest_of`` the event's fields. Those at its end that came later and are not given don't count: an event is the
    same to workers that do not know them yet."""
    fields = list(msgspec.structs.astuple(event))
    while len(fields) > _EVENT_FIELDS_MIN and fields[-1] is None:
        fields.pop()
    return digest_of(fields)


class Horizon:
    """The two horizons that full memories raised, in one row."""

    def __init__(self, changed: ChangedRows) -> None:
        self._changed = changed.rows
        self.row = HorizonRow(0, 0)

    def restore(self, key: bytes, row: HorizonRow) -> None:
        """Takes in a recovered row."""
        self.row = row

    def raise_ids(self, time_ms: int) -> None:
        """Ids of events before ``time_ms`` may be forgotten."""
        if time_ms > self.row.ids_from_ms:
            self.row.ids_from_ms = time_ms
            self._changed[_HORIZON_KEY] = self.row

    def raise_producers(self, time_ms: int) -> None:
        """Producers whose newest event lies before ``time_ms`` may be forgotten."""
        if time_ms > self.row.producers_from_ms:
            self.row.producers_from_ms = time_ms
            self._changed[_HORIZON_KEY] = self.row


class Producers:
    """The highest (epoch, sequence) seen of each producer.

    A producer is kept longer than an event may lag behind the log, so the repeat of a forgotten one's envelope is too
    far behind. Above ``producers_max`` those silent longest go; an unknown producer is then heard only from the newest
    event time of the forgotten ones on.
    """

    def __init__(self, settings: DomainSettings, changed: ChangedRows, horizon: Horizon) -> None:
        self._settings = settings
        self._changed = changed.rows
        self._horizon = horizon
        self._rows: dict[str, ProducerRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, producer_id: str) -> int:
        """How many of the producer's envelopes never came."""
        row = self._rows.get(producer_id)
        return 0 if row is None else row.missing

    def is_repeated(self, producer_id: str, epoch: int, sequence: int) -> bool:
        """Whether this envelope, or a later one, was seen before."""
        row = self._rows.get(producer_id)
        return row is not None and (epoch < row.epoch or (epoch == row.epoch and sequence <= row.sequence))

    def heard_from_ms(self, producer_id: str) -> int:
        """Events of this producer before this time can't be told from repeated ones; 0 where all can."""
        return 0 if producer_id in self._rows else self._horizon.row.producers_from_ms

    def mark(self, producer_id: str, epoch: int, sequence: int, now_ms: int, ts_ms_max: int) -> None:
        """Remembers an envelope that was not repeated, and counts the ones that its sequence skipped."""
        row = self._rows.get(producer_id)
        if row is None:
            row = self._rows[producer_id] = ProducerRow(epoch, 0, 0, now_ms, ts_ms_max)
        elif epoch != row.epoch:
            row.epoch, row.sequence = epoch, 0
        row.missing = min(row.missing + sequence - row.sequence - 1, COUNT_MAX)
        row.sequence = sequence
        row.seen_at_ms = now_ms
        row.ts_ms_max = max(row.ts_ms_max, ts_ms_max)
        self._changed[row_key("p", producer_id)] = row
        if len(self._rows) > self._settings.producers_max:
            self._overflow(producer_id)

    def _overflow(self, newest: str) -> None:
        oldest = sorted((row.seen_at_ms, name) for name, row in self._rows.items() if name != newest)
        for _, name in oldest[: max(1, self._settings.producers_max // 100)]:
            self._horizon.raise_producers(self._rows[name].ts_ms_max + 1)
            self._forget(name)

    def _forget(self, name: str) -> None:
        del self._rows[name]
        self._changed[row_key("p", name)] = None

    def expire(self, now_ms: int) -> None:
        """Forgets producers whose repeats are too far behind by now."""
        kept_ms = self._settings.clock_behind_ms + self._settings.clock_ahead_ms + _PRODUCER_SLACK_MS
        for name in [name for name, row in self._rows.items() if row.seen_at_ms < now_ms - kept_ms]:
            self._forget(name)

    def restore(self, producer_id: str, row: ProducerRow) -> None:
        """Takes in a recovered row."""
        self._rows[producer_id] = row


class EventIds:
    """The own ids of events that were counted, by second of their ``ts``, each second's as a heap.

    Above ``dedup_ids_max`` the horizon passes the oldest second, and each further id takes one of it away.
    """

    def __init__(self, settings: DomainSettings, changed: ChangedRows, horizon: Horizon) -> None:
        self._settings = settings
        self._changed = changed.rows
        self._horizon = horizon
        self._rows: dict[bytes, EventIdRow] = {}
        self._keys_by_second: dict[int, list[bytes]] = defaultdict(list)
        self._seconds: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def is_past_horizon(self, ts_ms: int, now_ms: int) -> bool:
        """Whether an event of this time could have been counted and forgotten."""
        return ts_ms < self.reach_ms(now_ms)

    def reach_ms(self, now_ms: int) -> int:
        """Events before this time could have been counted and forgotten."""
        return max(self._horizon.row.ids_from_ms, (now_ms - self._settings.dedup_horizon_ms) // 1000 * 1000)

    @property
    def oldest_ms(self) -> int | None:
        """The second of the oldest id that is remembered; None without any."""
        seconds = self._seconds[:1]
        return seconds[0] * 1000 if seconds else None

    def find(self, key: bytes) -> EventIdRow | None:
        """What is remembered of an event with this ``id_key``."""
        return self._rows.get(key)

    def mark(self, key: bytes, event: WireEvent) -> None:
        """Remembers a counted event under its ``id_key``."""
        row = EventIdRow(event.ts_ms // 1000, event_digest(event))
        self._changed[key] = row
        self._insert(key, row)
        if len(self._rows) > self._settings.dedup_ids_max:
            # a second may hold all ids (a backfill's stamp): the horizon passes it at once, its rows go one by one
            self._horizon.raise_ids((self._seconds[0] + 1) * 1000)
            self._forget(1)

    def _insert(self, key: bytes, row: EventIdRow) -> None:
        self._rows[key] = row
        if row.second not in self._keys_by_second:
            heapq.heappush(self._seconds, row.second)
        heapq.heappush(self._keys_by_second[row.second], key)

    def _forget(self, at_most: int) -> int:
        """Forgets up to ``at_most`` ids of the oldest second, in their order (each owner the same); returns how
        many."""
        keys = self._keys_by_second[self._seconds[0]]
        count = min(at_most, len(keys))
        for _ in range(count):
            key = heapq.heappop(keys)
            del self._rows[key]
            self._changed[key] = None
        if not keys:
            del self._keys_by_second[heapq.heappop(self._seconds)]
        return count

    def expire(self, now_ms: int) -> None:
        """Forgets ids that lie before the horizon, some at a time."""
        horizon_second = self.reach_ms(now_ms) // 1000
        left = _EXPIRED_AT_ONCE
        while left > 0 and self._seconds and self._seconds[0] < horizon_second:
            left -= self._forget(left)

    def restore(self, key: bytes, row: EventIdRow) -> None:
        """Takes in a recovered row."""
        self._insert(key, row)


def id_key(event: WireEvent) -> bytes:
    """The row key of an event with an id of its own."""
    return f"f|{event.org_id}|{event.id}".encode()
