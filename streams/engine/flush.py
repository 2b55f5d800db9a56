"""One flush: the changed rows of a partition, and the header that makes them a consistent cut."""

from functools import reduce
from operator import xor
from typing import Final

from sluicegate_schemas.state import (
    CLAIM_KEY,
    ENCODE,
    EPOCH_BYTES,
    HEADER_KEY,
    TOMBSTONE_EPOCH_HEADER,
    TOMBSTONE_REPAIR_HEADER,
    Header,
    OutboxRecord,
)

from .actions import StateRecord
from .fold import row_crc

RECORD_OVERHEAD_BYTES: Final = 40
"""Above what Kafka adds to a record of a batch: lengths, deltas and the name of a header."""


class FlushWriter:
    """Builds the flushes of one owner of a partition.

    It knows each live row's checksum, so that every header can carry the count and the checksum of all rows. Rows that
    a former owner's void records stand on (``repairs``: the row's true payload, None where it has none) are written
    again with the next flush, so that compaction can't keep a void record and drop the true one.
    """

    def __init__(self, epoch: int, claim: bytes, checksums: dict[bytes, int]) -> None:
        """``checksums`` are the ``row_crc`` of all live rows; the writer keeps them, and keeps them current."""
        self.epoch = epoch
        self.repairs: dict[bytes, bytes | None] = {}
        self._prefix = epoch.to_bytes(EPOCH_BYTES, "big")
        self._claim = claim
        self._crcs = checksums
        self._crc_xor = reduce(xor, checksums.values(), 0)

    @property
    def row_count(self) -> int:
        """How many rows are live."""
        return len(self._crcs)

    @property
    def claim_record(self) -> StateRecord:
        """The claim of this owner."""
        return StateRecord(CLAIM_KEY, self._prefix + self._claim)

    def build(
        self,
        changes: list[tuple[bytes, bytes | None]],
        *,
        flush: int,
        usage_offset: int,
        accounts_offset: int,
        log_time_ms: int,
        catalogue_version: int,
        outbox: list[OutboxRecord],
        outputs_next: list[int],
    ) -> list[StateRecord]:
        """The records of one flush, the header last. Empties ``repairs``."""
        records = []
        repairs, self.repairs = self.repairs, {}
        if repairs.pop(CLAIM_KEY, b"") is None:
            records.append(self.claim_record)
        repairs.pop(HEADER_KEY, None)
        for key, payload in changes:
            repairs.pop(key, None)
            self._crc_xor ^= self._crcs.pop(key, 0)
            if payload is None:
                records.append(self._tombstone(key))
            else:
                crc = self._crcs[key] = row_crc(key, payload)
                self._crc_xor ^= crc
                records.append(StateRecord(key, self._prefix + payload))
        for key, payload in repairs.items():
            row_is_live = payload is not None
            if row_is_live != (key in self._crcs):
                raise AssertionError(f"the row {key!r} was changed outside a flush")
            records.append(self._tombstone(key, repair=True) if payload is None else self._record(key, payload))
        header = Header(
            flush,
            usage_offset,
            accounts_offset,
            log_time_ms,
            catalogue_version,
            len(self._crcs),
            self._crc_xor,
            outbox,
            outputs_next,
        )
        records.append(StateRecord(HEADER_KEY, self._prefix + ENCODE(header)))
        return records

    def _record(self, key: bytes, payload: bytes) -> StateRecord:
        return StateRecord(key, self._prefix + payload)

    def _tombstone(self, key: bytes, *, repair: bool = False) -> StateRecord:
        headers = ((TOMBSTONE_EPOCH_HEADER, self._prefix),)
        return StateRecord(key, None, (*headers, (TOMBSTONE_REPAIR_HEADER, b"")) if repair else headers)


def batch_bytes(records: list[StateRecord]) -> int:
    """An upper bound of the size of the record batch that holds ``records``, in bytes."""
    return 100 + sum(
        len(record.key) + len(record.value or b"") + RECORD_OVERHEAD_BYTES + 20 * len(record.headers)
        for record in records
    )
