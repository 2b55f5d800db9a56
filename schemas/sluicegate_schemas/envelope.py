"""The SDK's envelope: up to 500 events of one partition in one record, as MessagePack arrays.

Fields are positional and only ever appended, so an older worker reads a newer record and the other way round. The
first byte tells an envelope (a MessagePack array) from a JSON record (``{`` or white space).
"""

from typing import Any, Final

import msgspec

ENVELOPE_VERSION: Final = 1
FORWARD_VERSION: Final = 2
TICK: Final = b"\x91\x03"
"""A usage record that only carries its log time, the MessagePack array ``[3]``: an owner appends it so that time goes
on where nothing else comes in."""


class WireCharge(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One charge of an event; see ``usage.Charge``."""

    operation: str
    quantities: dict[str, int] | None = None
    model: str | None = None
    cached: bool = False


class WireEvent(msgspec.Struct, array_like=True, gc=False):
    """One usage event; see ``usage.UsageEvent``. Times are epoch milliseconds.

    ``id`` is None where the SDK chose none: the worker then names it
    ``<producer>-<epoch>-<partition>-<sequence>-<index>``, since sequences count for each partition.
    ``quantities`` is None for one request and nothing else; ``account_id`` is None where it is the organization.
    """

    id: str | None
    org_id: str
    api_key_id: str | None
    operation: str
    started_at_ms: int
    ts_ms: int
    duration_ms: int
    status: int
    quantities: dict[str, int] | None = None
    model: str | None = None
    cached: bool = False
    charges: list[WireCharge] | None = None
    labels: dict[str, str] | None = None
    resource_delta: dict[str, int] | None = None
    subject: str | None = None
    account_id: str | None = None
    node: str | None = None


class WireEnvelope(msgspec.Struct, array_like=True, gc=False):
    """What one producer sends to one partition. ``sequence`` counts its envelopes there from 1 without a gap.

    ``producer_id`` is new for each process (and fork); ``producer_epoch`` rises when a producer starts its sequences
    anew. An envelope counts once: (producer, epoch, sequence) is higher than all seen of that producer.
    """

    version: int
    producer_id: str
    producer_epoch: int
    sequence: int
    sent_at_ms: int
    node: str | None
    events: list[WireEvent]


class WireForward(msgspec.Struct, array_like=True, gc=False):
    """A foreign client's event moved from the wrong partition to its home, once for each origin position."""

    version: int
    topic: str
    partition: int
    offset: int
    index: int
    logged_at_ms: int
    """When the broker appended the original: the time that its own times are held against."""
    event: WireEvent


ENCODE: Final = msgspec.msgpack.Encoder().encode
DECODE_ENVELOPE: Final = msgspec.msgpack.Decoder(WireEnvelope).decode
DECODE_FORWARD: Final = msgspec.msgpack.Decoder(WireForward).decode


def envelope_version(value: bytes) -> int | None:
    """The version of an envelope or forward by its first bytes; None if it is not a MessagePack array of ours."""
    if len(value) < 2:
        return None
    first = value[0]
    if 0x90 <= first <= 0x9F:
        at = 1
    elif first == 0xDC:
        at = 3
    elif first == 0xDD:
        at = 5
    else:
        return None
    return value[at] if at < len(value) and value[at] < 0x80 else None


def to_plain(value: Any) -> Any:
    """``value`` as lists, dicts and scalars, for tests and tools."""
    return msgspec.to_builtins(value)
