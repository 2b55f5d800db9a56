"""The records of the state topic (design: a flush is one batch; claims; void records).

A value is 8 bytes of the writer's epoch, big-endian, then a MessagePack array; a tombstone has a null value and the
epoch in the record header ``e``. An epoch is ``number << 32 | nonce``: numbers rise with each claim, nonces break ties.
A record is void if a record before it in its partition has a higher epoch. One flush is one record batch whose last
record is the header (key ``_head``). Arrays only ever grow at the end.
"""

from typing import Annotated, Final

import msgspec

from .bounds import EPOCH_MS_MAX, MONTH_PATTERN, full_match

EPOCH_BYTES: Final = 8
TOMBSTONE_EPOCH_HEADER: Final = "e"
TOMBSTONE_REPAIR_HEADER: Final = "v"
"""Present on a tombstone that undoes a void record; absent where a row was evicted on purpose."""
HEADER_KEY: Final = b"_head"
CLAIM_KEY: Final = b"_claim"
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_MINUTE_MAX: Final = EPOCH_MS_MAX // 60_000
_MONTH: Final = full_match(MONTH_PATTERN).match


class OutboxRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record to be sent after the flush is acknowledged, and again after a recovery: ``topic`` without prefix,
    ``partition`` -1 where the key decides."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class Header(msgspec.Struct, array_like=True, frozen=True):
    """The consistent cut that a flush is: all inputs up to these positions are in the state, nothing after them is.

    ``usage_offset`` and ``accounts_offset`` are the last applied (-1: none); ``log_time_ms`` is the running maximum of
    the inputs' log time; ``key_count`` and ``key_crc_xor`` (XOR of ``crc32(payload, crc32(key))`` over all live rows)
    let a recovery notice a damaged state.
    """

    flush: int
    usage_offset: int
    accounts_offset: int
    log_time_ms: Annotated[int, msgspec.Meta(ge=0, lt=EPOCH_MS_MAX)]
    catalogue_version: int
    key_count: int
    key_crc_xor: int
    outbox: list[OutboxRecord]
    outputs_next: list[int] = []
    """Of the decisions' and the entitlements' partition the offset before which nothing is left that the state does not
    know: what lies behind it, the next owner compares with its state. Empty: from their ends on."""


class Claim(msgspec.Struct, array_like=True, frozen=True):
    """A new owner's first record: who, in which group generation, when (its own clock, for people)."""

    owner: str
    generation: int
    claimed_at_ms: int


class RollupCell(msgspec.Struct, array_like=True, gc=False):
    """One minute of one organization, key and operation; row key ``c|org|key|operation|minute|chunk``.

    ``minute`` is in minutes since the epoch; ``chunk`` is the source offset that made this cell, so a cell that was
    evicted and made anew is another row. ``category`` is empty for storage and ``unrated`` for an unknown operation.
    """

    category: str
    requests: _Count = 0
    errors: _Count = 0
    throttled: _Count = 0
    units: _Count = 0
    credits_micro: _Count = 0
    events: _Count = 0
    rated_version: _Count = 0
    """The catalogue version that rated the newest event of the cell."""


ROLLUP_TABLE: Final = b"c"


def rollup_key(org_id: str, api_key_id: str, operation: str, minute: int, chunk: int) -> bytes:
    """The row key of a rollup cell; none of its parts can hold ``|``. ``api_key_id`` is empty for storage samples."""
    return f"c|{org_id}|{api_key_id}|{operation}|{minute}|{chunk}".encode()


def parse_rollup_key(key: bytes) -> tuple[str, str, str, int, int]:
    """(org_id, api_key_id, operation, minute, chunk) of a rollup cell's row key.

    Raises ValueError for a key that ``rollup_key`` does not write, so that no two keys mean the same cell.
    """
    _, org_id, api_key_id, operation, minute_text, chunk_text = key.decode().split("|")
    minute, chunk = int(minute_text), int(chunk_text)
    if f"{minute}|{chunk}" != f"{minute_text}|{chunk_text}" or not 0 <= minute <= _MINUTE_MAX or not 0 <= chunk < 2**63:
        raise ValueError("a rollup cell's minute or chunk is none")
    return org_id, api_key_id, operation, minute, chunk


class LabelLedger(msgspec.Struct, array_like=True, gc=False):
    """As much as others read of the ledger of a label; row key ``l|label|org:name=value|2026-03``."""

    account_id: str
    organization_id: str | None
    total_micro: int | None
    used_micro: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    breakdown_micro: list[int]
    requests: _Count


LABEL_LEDGER_PREFIX: Final = b"l|label|"


def parse_label_key(key: bytes) -> tuple[str, str, int]:
    """(org_id, label, month as 202603) of the row key of a label's ledger. Raises ValueError for another key."""
    _, _, identifier, month = key.decode().split("|")
    org_id, _, label = identifier.partition(":")
    if not (org_id and label) or _MONTH(month) is None:
        raise ValueError("the ledger of a label has an organization, a label and a month in its key")
    return org_id, label, int(month[:4] + month[5:])


ENCODE: Final = msgspec.msgpack.Encoder().encode
DECODE_HEADER: Final = msgspec.msgpack.Decoder(Header).decode
DECODE_CLAIM: Final = msgspec.msgpack.Decoder(Claim).decode
DECODE_ROLLUP_CELL: Final = msgspec.msgpack.Decoder(RollupCell).decode
DECODE_LABEL_LEDGER: Final = msgspec.msgpack.Decoder(LabelLedger).decode


def rollup_version(epoch: int, offset: int) -> int:
    """The version of a rollup row in ClickHouse: (epoch number, offset of the state record), 128 bits.

    Never decreases for a row, and is the same however often and in whatever runs the log is read, also after compaction
    has removed the flush's header.
    """
    return (epoch >> 32) << 64 | offset
