"""The meaning of a state log: which records count, and which rows stand at its end.

A state partition may hold records of an owner that had lost it: they stand behind a record with a higher epoch and are
void. Whoever reads the log (recovery, the sink, a verifier) judges it with the code of this file, else it would take
void values for true ones until the owner has repaired them. The record format is ``sluicegate_schemas.state``.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import xor
from typing import Final, NamedTuple, Protocol
from zlib import crc32

import msgspec

from sluicegate_schemas.state import (
    CLAIM_KEY,
    DECODE_HEADER,
    EPOCH_BYTES,
    HEADER_KEY,
    TOMBSTONE_EPOCH_HEADER,
    TOMBSTONE_REPAIR_HEADER,
    Header,
)

Headers = Iterable[tuple[str, bytes]]
"""The headers of a Kafka record, as aiokafka gives them."""

_NO_HEADERS: Final[Headers] = ()
_NO_ROWS: Final = frozenset({None, HEADER_KEY, CLAIM_KEY})


class LogRecord(Protocol):
    """A record of a state log, as a reader of Kafka hands it over."""

    @property
    def key(self) -> bytes | None:
        """The row's key, ``HEADER_KEY`` or ``CLAIM_KEY``."""

    @property
    def value(self) -> bytes | None:
        """Epoch and payload; None removes the row."""

    @property
    def headers(self) -> Headers:
        """A tombstone has its epoch there."""


class StateFormatError(ValueError):
    """A record on a state topic that no worker can have written, so nothing of that partition can be trusted."""


class Verdict(NamedTuple):
    """What a state record is worth: ``valid`` unless a record before it has a higher epoch."""

    valid: bool
    epoch: int
    repair: bool = False
    """A tombstone that only undoes a void record: no row was removed."""


def row_crc(key: bytes, payload: bytes) -> int:
    """A row's part in ``Header.key_crc_xor``."""
    return crc32(payload, crc32(key))


def record_epoch(key: bytes | None, value: bytes | None, headers: Headers = _NO_HEADERS) -> int:
    """The epoch of the worker that wrote a state record. Raises StateFormatError if it carries none."""
    if value is not None and len(value) > EPOCH_BYTES:
        return int.from_bytes(value[:EPOCH_BYTES], "big")
    if value is None:
        for name, content in headers:
            if name == TOMBSTONE_EPOCH_HEADER and len(content) == EPOCH_BYTES:
                return int.from_bytes(content, "big")
    raise StateFormatError(f"the state record with key {key!r} carries no epoch: something else than a worker wrote it")


class Epochs:
    """Judges the records of one state partition in log order, in constant memory.

    ``top_epoch`` is the highest epoch seen; a reader that goes on from a stored position hands in the one that it
    stored with it.
    """

    __slots__ = ("top_epoch",)

    def __init__(self, top_epoch: int = 0) -> None:
        self.top_epoch = top_epoch

    def feed(self, key: bytes | None, value: bytes | None, headers: Headers = _NO_HEADERS) -> Verdict:
        """The verdict on the partition's next record. Raises StateFormatError."""
        epoch = record_epoch(key, value, headers)
        repair = value is None and any(name == TOMBSTONE_REPAIR_HEADER for name, _ in headers)
        if epoch < self.top_epoch:
            return Verdict(False, epoch, repair)
        self.top_epoch = epoch
        return Verdict(True, epoch, repair)


class Fold:
    """Folds one state partition, in log order, to the state at its end.

    ``header`` is the newest valid header (None before the first flush), ``void_keys`` the keys whose newest record is
    void: their rows must be written again before compaction removes the valid record for the void one.
    """

    __slots__ = ("_epochs", "_values", "header", "void_keys", "void_records")

    def __init__(self) -> None:
        self._epochs = Epochs()
        self._values: dict[bytes, bytes] = {}
        """The value of each live row: a payload is cut out of it once it is asked for, not each time it is written."""
        self.header: Header | None = None
        self.void_keys: set[bytes] = set()
        self.void_records = 0

    @property
    def top_epoch(self) -> int:
        """The highest epoch seen, 0 on an empty log."""
        return self._epochs.top_epoch

    @property
    def row_count(self) -> int:
        """How many rows are live."""
        return len(self._values)

    @property
    def rows(self) -> dict[bytes, bytes]:
        """The payload of each live row."""
        return dict(self.items())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, payload) of each live row."""
        return ((key, value[EPOCH_BYTES:]) for key, value in self._values.items())

    def payload(self, key: bytes) -> bytes | None:
        """The payload of a row; None where it is not live."""
        value = self._values.get(key)
        return None if value is None else value[EPOCH_BYTES:]

    def feed_all(self, records: Iterable[LogRecord]) -> None:
        """Takes in the partition's next records. Raises StateFormatError.

        Nearly all of a log are rows of the epoch at its top, which this loop keeps without a call.
        """
        values, void_keys = self._values, self.void_keys
        top = self._epochs.top_epoch.to_bytes(EPOCH_BYTES, "big")
        for record in records:
            key, value = record.key, record.value
            if value is None or value[:EPOCH_BYTES] != top or len(value) == EPOCH_BYTES or key in _NO_ROWS:
                self.feed(key, value, record.headers)
                top = self._epochs.top_epoch.to_bytes(EPOCH_BYTES, "big")
            else:
                values[key] = value  # type: ignore[index]  # None is one of the keys of no row
                if void_keys:
                    void_keys.discard(key)

    def feed(self, key: bytes | None, value: bytes | None, headers: Headers = _NO_HEADERS) -> Verdict:
        """Takes in the partition's next record. Raises StateFormatError."""
        if key is None:
            raise StateFormatError("a state record has no key: something else than a worker wrote it")
        verdict = self._epochs.feed(key, value, headers)
        if not verdict.valid:
            self.void_records += 1
            self.void_keys.add(key)
            return verdict
        self.void_keys.discard(key)
        if value is None:
            self._values.pop(key, None)
        elif key == HEADER_KEY:
            try:
                self.header = DECODE_HEADER(value[EPOCH_BYTES:])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise StateFormatError(f"a flush header cannot be read: {error}") from error
        elif key != CLAIM_KEY:
            self._values[key] = value
        return verdict

    def checksums(self) -> dict[bytes, int]:
        """``row_crc`` of each live row."""
        return {key: row_crc(key, payload) for key, payload in self.items()}

    def check(self, checksums: Mapping[bytes, int] | None = None) -> str | None:
        """None where the rows are the ones that the header counted; else what differs, as a sentence.

        Holds at the end of any flush, so at the end of the log: a flush is one record batch, which is there or not.
        ``checksums`` are those of now, where they are at hand.
        """
        count = len(self._values)
        if self.header is None:
            return f"{count} rows, but no flush header" if count else None
        if count != self.header.key_count:
            return f"{count} rows, but the newest header counted {self.header.key_count}"
        crc_xor = reduce(xor, (self.checksums() if checksums is None else checksums).values(), 0)
        if crc_xor != self.header.key_crc_xor:
            return f"checksum {crc_xor:#010x}, but the newest header says {self.header.key_crc_xor:#010x}"
        return None
