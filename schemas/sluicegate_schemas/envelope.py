"""The SDK's envelope: up to 500 events of one partition in one record, as MessagePack arrays.

Fields are positional and only ever appended, so an older worker reads a newer record and the other way round. The
first byte tells an envelope (a MessagePack array) from a JSON record (``{`` or white space).
"""

from typing import Any, Final

import msgspec

ENVELOPE_VERSION: Final = 1
FORWARD_VERSION: Final = 2
GAUGE_VERSION: Final = 4
LEASE_REQUEST_VERSION: Final = 5
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
    leases: list[str] | None = None
    """The leases that this request's cost was admitted out of (hard limits)."""


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


class WireInFlight(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """How many requests of an organization a node serves at the moment: all of them, and those of operations with a
    subject (a cluster) as (operation, subject, count)."""

    org_id: str
    in_flight: int
    subjects: list[tuple[str, str, int]]


class WireGauge(msgspec.Struct, array_like=True, gc=False):
    """What a node serves, per organization of one account. It counts until ``ttl_ms`` after the log time, or until the
    node's next gauge of the account, whose ``sequence`` is higher; ``boot_id`` is new for each process."""

    version: int
    node: str
    boot_id: str
    sequence: int
    ttl_ms: int
    account_id: str
    organizations: list[WireInFlight]


class WireLeaseRequest(msgspec.Struct, array_like=True, gc=False):
    """A node asks for credits of a hard limit, and gives back leases that it has settled.

    ``limit_name`` and the scope are those of ``outputs.Lease``; ``wanted_micro`` 0 only gives back. ``returned`` are
    (lease id, micro-credits that were used of it): all events that name the lease stand before this record.
    ``needed_micro`` of what is wanted is for requests that wait; less than ``least_micro`` helps none of them.
    """

    version: int
    request_id: str
    node: str
    boot_id: str
    account_id: str
    org_id: str
    limit_name: str
    scope: str
    """The scope's text."""
    wanted_micro: int
    returned: list[tuple[str, int]]
    needed_micro: int = 0
    least_micro: int = 0


ENCODE: Final = msgspec.msgpack.Encoder().encode
DECODE_GAUGE: Final = msgspec.msgpack.Decoder(WireGauge).decode
DECODE_LEASE_REQUEST: Final = msgspec.msgpack.Decoder(WireLeaseRequest).decode
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
