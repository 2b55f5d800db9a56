"""How the cost of an event grows with the keys and with the organizations that are live: processor time of the state
machines of one worker's partitions, for envelopes of 200 events, decoding and flushes included.

The events come from all keys in turn, neighbours in time far apart: the least that envelopes and caches can help. A key
is live once it had an event: it has buckets, a ledger, a route and a cell.
"""

import gc
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from sluicegate_schemas.envelope import ENCODE, WireEnvelope, WireEvent
from sluicegate_schemas.partitioning import partition_of
from streams.domain.partition import Partition
from streams.domain.tables import KeyRow, OrganizationRow, row_key
from tests.bench import workload
from tests.bench.rows import KEYS, ORGANIZATIONS
from tests.bench.session import Session
from tests.domain_world import EPOCH, NOW_MS, default_catalogue, usage

_KEYS_BESIDE: Final = 100_000
"""Where organizations are varied, there are so many keys."""
_KEYS_OF_ORGANIZATION: Final = 100
_EVENTS: Final = 100_000
_ENVELOPE_EVENTS: Final = 200
_RECORDS_AT_ONCE: Final = 20
_EVENTS_PER_MS: Final = 20
_FLUSH_EVERY_MS: Final = 200
_FAR: Final = 7_919
"""A prime: so far apart are the keys of neighbouring events."""
_WARM_EVENTS: Final = 50_000
_RATES: Final = (1_000_000, 10_000_000, 60_000_000)

InputRecord = tuple[int, int, None, bytes]


class _Owned:
    """One partition: its machine, and what of its log is not applied yet."""

    def __init__(self, number: int) -> None:
        self.machine = Partition(number, workload.PARTITIONS)
        self.machine.use_catalogues([default_catalogue()])
        self.records: list[InputRecord] = []
        self._waiting: list[WireEvent] = []
        self._offset = self._state_end = self._flush_at_ms = 0

    def put(self, event: WireEvent) -> None:
        """Appends an event to the log."""
        self._waiting.append(event)
        if len(self._waiting) == _ENVELOPE_EVENTS:
            self.seal()

    def seal(self) -> None:
        """Appends what is not a whole envelope yet."""
        if events := self._waiting:
            number, self._waiting = self._offset, []
            self._offset += 1
            value = ENCODE(WireEnvelope(1, "p1", 1, number + 1, 0, None, events))
            self.records.append((number, events[-1].ts_ms + 50, None, value))

    def apply(self) -> None:
        """Takes in the log, and flushes as a worker would."""
        machine, position, records = self.machine, 0, self.records
        while position < len(records):
            consumed = machine.apply_usage(records[position : position + _RECORDS_AT_ONCE])
            assert consumed, "an event names nobody that is known"
            position += consumed
            machine.take_outputs()
            if machine.log_time_ms >= self._flush_at_ms or machine.changed_rows >= machine.settings.changed_rows_max:
                self._flush_at_ms = machine.log_time_ms + _FLUSH_EVERY_MS
                self._state_end += len(machine.take_changes())
                machine.flushed(1, self._state_end)
        records.clear()


def _accounts(keys: int, organizations: int) -> Iterator[tuple[str, bytes, bytes]]:
    """(organization, row key, payload)."""
    for number in range(organizations):
        name = f"org_{number}"
        yield name, row_key("o", name), OrganizationRow(name, "enterprise", None, _RATES).encode()
    for number in range(keys):
        name = f"org_{number % organizations}"
        yield name, row_key("k", f"key_{number}"), KeyRow(name, f"{number:064x}", "live", revoked=False).encode()


def _send(owned: list[_Owned], numbers: Iterable[int], keys: int, organizations: int) -> None:
    for number in numbers:
        key = number * _FAR % keys
        name = f"org_{key % organizations}"
        event = usage("search.knn", org=name, key=f"key_{key}", ts=NOW_MS + number // _EVENTS_PER_MS)
        owned[partition_of(name, workload.PARTITIONS)].put(event)
    for one in owned:
        one.seal()


def cost_us(keys: int, organizations: int, events: int) -> float:
    """Microseconds of processor time for an event, where so many keys and organizations are live."""
    owned = [_Owned(number) for number in range(workload.PARTITIONS)]
    gc.disable()  # the state is no garbage, as in a worker, where it is set aside
    try:
        _make_live(owned, keys, organizations)
        _send(owned, range(keys, keys + events), keys, organizations)
        gc.collect()
        gc.freeze()
    finally:
        gc.enable()
    began = time.process_time()
    for one in owned:
        one.apply()
    spent_s = time.process_time() - began
    gc.unfreeze()
    counted = sum(one.machine.totals.counted for one in owned)
    assert counted == keys + events, f"{counted} of {keys + events} events were counted"
    return spent_s / events * 1e6


def _make_live(owned: list[_Owned], keys: int, organizations: int) -> None:
    for name, key, payload in _accounts(keys, organizations):
        owned[partition_of(name, workload.PARTITIONS)].machine.restore(key, payload)
    for one in owned:
        one.machine.resume(EPOCH, 0, NOW_MS)
    for start in range(0, keys, _WARM_EVENTS):
        _send(owned, range(start, min(keys, start + _WARM_EVENTS)), keys, organizations)
        for one in owned:
            one.apply()


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    events = session.count(_EVENTS)
    figures = {}
    for name, keys in KEYS.items():
        if (row := f"event_cost_keys_{name}_us") in wanted:
            figures[row] = cost_us(session.count(keys), max(1, session.count(keys) // _KEYS_OF_ORGANIZATION), events)
    for name, organizations in ORGANIZATIONS.items():
        if (row := f"event_cost_organizations_{name}_us") in wanted:
            keys = session.count(_KEYS_BESIDE)
            figures[row] = cost_us(keys, min(keys, organizations), events)
    return figures
