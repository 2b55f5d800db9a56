"""A small machine for the engine's tests: counters, a ledger and a dedup that must agree at every cut.

An envelope is ``{"producer", "sequence", "account", "events": [[key, quantity], …]}`` as JSON. It counts once for each
(producer, sequence); one of an unknown account is rejected. An operator command is ``{"account"}``. Rows (JSON):
``d|producer`` the last sequence, ``k|key`` [events, quantity], ``a|account``, ``ledger`` [envelopes, events, quantity,
duplicates, rejects].
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.state import OutboxRecord
from streams.engine.machine import InputRecord, Outputs

TICK = b"\x91\x03"
LEDGER = b"ledger"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class CountingMachine:
    """See the module; ``rows_max`` stops ``apply_usage`` early."""

    def __init__(self, partition: int = 0, rows_max: int = 200) -> None:
        self.partition = partition
        self.rows: dict[bytes, Any] = {}
        self.log_time_ms = 0
        self.catalogue_version = 0
        self.needs_accounts = False
        self.advanced_to: list[int] = []
        self.epoch = 0
        self._rows_max = rows_max
        self._changed: set[bytes] = set()
        self._outputs = Outputs([], [])
        self._balance: list[OutboxRecord] = []
        self._decisions = 0

    @property
    def changed_rows(self) -> int:
        return len(self._changed)

    def use_catalogues(self, versions: Sequence[Catalogue]) -> None:
        self.catalogue_version = versions[-1].version

    def restore(self, key: bytes, payload: bytes) -> None:
        if key[:2] not in (b"d|", b"k|", b"a|") and key != LEDGER:
            raise ValueError("unknown table")
        self.rows[key] = _decode(payload)

    def resume(self, epoch: int, flush: int, log_time_ms: int) -> None:
        self.epoch = epoch
        self.log_time_ms = log_time_ms

    def apply_usage(self, records: Sequence[InputRecord], *, accounts_current: bool = False) -> int:
        self.needs_accounts = False
        for count, record in enumerate(records):
            if len(self._changed) >= self._rows_max:
                return count
            if record.value != TICK:
                envelope = _decode(record.value or b"")
                if b"a|" + envelope["account"].encode() not in self.rows and not accounts_current:
                    self.needs_accounts = True
                    return count
                self._count(record, envelope)
            self.log_time_ms = max(self.log_time_ms, record.log_time_ms)
        return len(records)

    def _count(self, record: InputRecord, envelope: dict[str, Any]) -> None:
        ledger = self._row(LEDGER, [0, 0, 0, 0, 0])
        last = self._row(b"d|" + envelope["producer"].encode(), [0])
        if envelope["sequence"] <= last[0]:
            ledger[3] += 1
            return
        last[0] = envelope["sequence"]
        if b"a|" + envelope["account"].encode() not in self.rows:
            ledger[4] += 1
            reject = {"id": f"{self.partition}/{record.offset}"}
            self._outputs.durable.append(OutboxRecord("rejects", -1, None, _encode(reject)))
            return
        ledger[0] += 1
        for key, quantity in envelope["events"]:
            row = self._row(b"k|" + key.encode(), [0, 0])
            row[0] += 1
            row[1] += quantity
            ledger[1] += 1
            ledger[2] += quantity
        self._decisions += 1
        decision = {"epoch": self.epoch, "counter": self._decisions, "offset": record.offset}
        self._outputs.early.append(
            OutboxRecord("decisions", self.partition, envelope["account"].encode(), _encode(decision))
        )
        balance = {"epoch": self.epoch, "offset": record.offset, "quantity": ledger[2]}
        self._balance = [OutboxRecord("balances", self.partition, LEDGER, _encode(balance))]

    def _row(self, key: bytes, empty: list[int]) -> Any:
        self._changed.add(key)
        return self.rows.setdefault(key, empty)

    def apply_accounts(self, records: Sequence[InputRecord]) -> None:
        for record in records:
            self._row(b"a|" + _decode(record.value or b"")["account"].encode(), [1])

    def advance(self, log_time_ms: int) -> None:
        self.advanced_to.append(log_time_ms)

    def cells_durable_until(self, state_offset: int) -> None:
        pass

    def flushed(self, flush: int, state_offset_end: int) -> None:
        pass

    def say_again(self, records: Sequence[tuple[str, bytes, bytes]]) -> None:
        pass

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        changed, self._changed = self._changed, set()
        return [(key, _encode(self.rows[key])) for key in sorted(changed)]

    def take_outputs(self) -> Outputs:
        outputs, self._outputs = self._outputs, Outputs([], [])
        return outputs

    def take_current(self, at_most: int, clock_ms: int) -> list[OutboxRecord]:
        balance, self._balance = self._balance, []
        return balance
