"""The border for usage records: the bytes of one record become wire structs, or one ``Malformed``.

An envelope's own fields and all types are checked here, the content of its events by ``check_numbers`` and
``validate_event``, so that one bad event costs only itself; a single event and a forwarded one come out fully checked.
What JSON leaves open has one answer here: a repeated field, a byte order mark, NaN, a fraction where a whole number
is due, an unknown field are refused. A repeated name in a map of an envelope counts by its last value.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from . import bounds
from .bounds import parse_time
from .convert import from_wire, to_wire, wire_quantities
from .envelope import (
    DECODE_ENVELOPE,
    DECODE_FORWARD,
    DECODE_GAUGE,
    DECODE_LEASE_REQUEST,
    ENVELOPE_VERSION,
    FORWARD_VERSION,
    GAUGE_VERSION,
    LEASE_REQUEST_VERSION,
    WireCharge,
    WireEnvelope,
    WireEvent,
    WireForward,
    WireGauge,
    WireLeaseRequest,
    envelope_version,
)
from .gauge_checks import check_gauge
from .lease_checks import check_lease_request
from .usage import ResourceName
from .wire_checks import RESOURCE_DELTA_MAX, Malformed, check_numbers, from_validation, matching, validate_event

__all__ = ["Malformed", "check_numbers", "decode_usage", "from_wire", "to_wire", "validate_event"]


_OrganizationId = Annotated[str, matching(bounds.ORGANIZATION_ID_PATTERN)]
_ApiKeyId = Annotated[str, matching(bounds.API_KEY_ID_PATTERN)]
_EventId = Annotated[str, matching(bounds.EVENT_ID_PATTERN)]
_Operation = Annotated[str, matching(bounds.OPERATION_PATTERN)]
_Name = Annotated[str, matching(bounds.NAME_PATTERN)]
_LabelName = Annotated[str, matching(bounds.LABEL_NAME_PATTERN)]
_Text = Annotated[str, Meta(max_length=256, pattern=r"^[\x21-\x7e]+\Z")]
_Quantity = Annotated[int, Meta(ge=0, le=bounds.QUANTITY_MAX)]
_Delta = Annotated[int, Meta(ge=-RESOURCE_DELTA_MAX, le=RESOURCE_DELTA_MAX)]


class _Quantities(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    requests: _Quantity | UnsetType = UNSET
    tokens: _Quantity | UnsetType | None = UNSET
    bytes: _Quantity | UnsetType | None = UNSET
    seconds: Annotated[int, Meta(ge=0, le=bounds.QUANTITY_MAX // 1000)] | UnsetType | None = UNSET
    milliseconds: _Quantity | UnsetType | None = UNSET
    documents: _Quantity | UnsetType | None = UNSET
    dataset_size: _Quantity | UnsetType | None = UNSET


class _Charge(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    operation: _Operation
    quantities: _Quantities | UnsetType = UNSET
    model: _Name | UnsetType | None = UNSET
    cached: bool | UnsetType = UNSET


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """``usage.UsageEvent``; ``id`` and ``ts`` may be left to a CloudEvent around it."""

    id: _EventId | UnsetType = UNSET
    started_at: str
    ts: str | UnsetType = UNSET
    duration_ms: Annotated[int, Meta(ge=0, le=bounds.DURATION_MS_MAX)]
    org_id: _OrganizationId
    account_id: _OrganizationId | UnsetType | None = UNSET
    api_key_id: _ApiKeyId | UnsetType | None = UNSET
    operation: _Operation
    status: Annotated[int, Meta(ge=100, le=599)]
    quantities: _Quantities | UnsetType = UNSET
    charges: Annotated[list[_Charge], Meta(max_length=bounds.CHARGES_MAX)] | UnsetType = UNSET
    model: _Name | UnsetType | None = UNSET
    cached: bool | UnsetType = UNSET
    labels: Annotated[dict[_LabelName, _Name], Meta(max_length=bounds.LABELS_MAX)] | UnsetType = UNSET
    resource_delta: dict[ResourceName, _Delta] | UnsetType = UNSET
    subject: _EventId | UnsetType | None = UNSET
    node: _Name | UnsetType | None = UNSET


class _CloudEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """``usage.CloudEvent``."""

    specversion: Literal["1.0"]
    id: _EventId
    source: _Text
    type: Literal["sluicegate.usage.v1"]
    datacontenttype: Literal["application/json"] | UnsetType = UNSET
    dataschema: _Text | UnsetType | None = UNSET
    subject: _Text | UnsetType | None = UNSET
    time: str | UnsetType | None = UNSET
    data: _Event


class _Probe(msgspec.Struct, gc=False):
    specversion: msgspec.Raw | UnsetType = UNSET


_DECODE_EVENT: Final = msgspec.json.Decoder(_Event)
_DECODE_CLOUD_EVENT: Final = msgspec.json.Decoder(_CloudEvent)
_DECODE_PROBE: Final = msgspec.json.Decoder(_Probe)
_ENCODE: Final = msgspec.json.Encoder().encode
_NAME_MATCH: Final = bounds.full_match(bounds.NAME_PATTERN).match
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}\Z").match
_ARRAY_HEAD_BYTES: Final = {**dict.fromkeys(range(0x90, 0xA0), 1), 0xDC: 3, 0xDD: 5}
_COUNT_MAX: Final = 2**63 - 1
_T = TypeVar("_T")

UsageContent = WireEnvelope | WireForward | WireEvent | WireGauge | WireLeaseRequest
"""What one record of the usage topic may hold, besides a tick."""


def decode_usage(value: bytes | None) -> UsageContent:
    """The content of one record of the usage topic. Raises Malformed and nothing else."""
    if not value:
        raise Malformed("empty", None, "The record has no value.")
    if value[0] in _ARRAY_HEAD_BYTES:
        return _decode_array(value)
    if len(value) > bounds.EVENT_BYTES_MAX:
        raise Malformed("too_large", None, f"An event has {bounds.EVENT_BYTES_MAX} bytes at most.")
    if value.isspace():
        raise Malformed("empty", None, "The record holds only white space.")
    if (b"specversion" in value or b"\\" in value) and read_json(_DECODE_PROBE, value).specversion is not UNSET:
        return _from_cloud_event(value)
    event = read_json(_DECODE_EVENT, value)
    _refuse_duplicates(value, event)
    if event.id is UNSET:
        raise Malformed("invalid", "id", "is missing")
    if event.ts is UNSET:
        raise Malformed("invalid", "ts", "is missing")
    return _to_wire(event, event.id, read_time(event.ts, "ts"), "")


def _from_cloud_event(value: bytes) -> WireEvent:
    cloud = read_json(_DECODE_CLOUD_EVENT, value)
    _refuse_duplicates(value, cloud)
    event = cloud.data
    if event.id is not UNSET and event.id != cloud.id:
        raise Malformed("invalid", "data.id", "must be the same as id, or be left out")
    times = [
        read_time(text, field) for text, field in ((cloud.time, "time"), (event.ts, "data.ts")) if isinstance(text, str)
    ]
    if not times:
        raise Malformed("invalid", "time", "is missing: time or data.ts is needed")
    if times[0] != times[-1]:
        raise Malformed("invalid", "data.ts", "must be the same as time, or be left out")
    return _to_wire(event, cloud.id, times[0], "data.")


def _to_wire(event: _Event, event_id: str, ts_ms: int, prefix: str) -> WireEvent:
    started_at_ms = read_time(event.started_at, f"{prefix}started_at")
    if started_at_ms > ts_ms:
        raise Malformed("invalid", f"{prefix}started_at", "must not lie after ts")
    api_key_id = event.api_key_id or None
    if api_key_id is None and event.operation != "storage":
        raise Malformed("invalid", f"{prefix}api_key_id", "is required for all operations but storage")
    charges = None
    if event.charges:
        charges = [
            WireCharge(
                charge.operation,
                _quantities(charge.quantities, f"{prefix}charges[{index}].quantities"),
                charge.model or None,
                charge.cached is True,
            )
            for index, charge in enumerate(event.charges)
        ]
    return WireEvent(
        event_id,
        event.org_id,
        api_key_id,
        event.operation,
        started_at_ms,
        ts_ms,
        event.duration_ms,
        event.status,
        _quantities(event.quantities, f"{prefix}quantities"),
        event.model or None,
        event.cached is True,
        charges,
        event.labels or None,
        {str(name): delta for name, delta in event.resource_delta.items()} if event.resource_delta else None,
        event.subject or None,
        event.account_id if event.account_id and event.account_id != event.org_id else None,
        event.node or None,
    )


def _quantities(given: _Quantities | UnsetType, field: str) -> dict[str, int] | None:
    if given is UNSET:
        return None
    if isinstance(given.seconds, int) and isinstance(given.milliseconds, int):
        raise Malformed("invalid", field, "seconds and milliseconds exclude each other")
    values: dict[str, int | None] = msgspec.to_builtins(given)
    return wire_quantities(values)


def read_time(text: str, field: str) -> int:
    """Epoch milliseconds of an RFC 3339 time. Raises Malformed, naming ``field``."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise Malformed("invalid", field, str(error)) from None


def read_json(decoder: msgspec.json.Decoder[_T], value: bytes) -> _T:
    """One JSON object. Raises Malformed and nothing else."""
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        failure = from_validation(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        failure = _not_json(value)
    raise failure


def _not_json(value: bytes) -> Malformed:
    try:
        value.decode()
    except UnicodeDecodeError:
        return Malformed("not_utf8", None, "The record is neither an envelope nor UTF-8.")
    mark = " It begins with a byte order mark." if value.startswith(b"\xef\xbb\xbf") else ""
    return Malformed("not_json", None, f"The record is not one JSON object.{mark}")


def _refuse_duplicates(value: bytes, decoded: msgspec.Struct) -> None:
    """A repeated field leaves fewer quotes in what was decoded than there are in the source. Only an escape can hide
    quotes, so a source with a backslash is read again, slowly."""
    if b"\\" not in value:
        if value.count(b'"') != _ENCODE(decoded).count(b'"'):
            raise Malformed("duplicate_field", None, "A field is given twice.")
        return
    json.loads(value, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Malformed("duplicate_field", None, "A field is given twice.")
    return fields


def _decode_array(value: bytes) -> UsageContent:
    if len(value) > bounds.ENVELOPE_BYTES_MAX:
        raise Malformed("too_large", None, f"An envelope has {bounds.ENVELOPE_BYTES_MAX} bytes at most.")
    version = envelope_version(value)
    if version == ENVELOPE_VERSION:
        envelope = _read_array(DECODE_ENVELOPE, value, WireEnvelope)
        _check_envelope(envelope)
        return envelope
    if version == FORWARD_VERSION:
        forward = _read_array(DECODE_FORWARD, value, WireForward)
        _check_forward(forward)
        return forward
    if version == GAUGE_VERSION:
        gauge = _read_array(DECODE_GAUGE, value, WireGauge)
        check_gauge(gauge)
        return gauge
    if version == LEASE_REQUEST_VERSION:
        request = _read_array(DECODE_LEASE_REQUEST, value, WireLeaseRequest)
        check_lease_request(request)
        return request
    if value[0] != 0x90 and len(value) <= _ARRAY_HEAD_BYTES[value[0]]:
        raise Malformed("truncated_envelope", None, "The envelope ends within its first bytes.")
    raise Malformed("unknown_envelope_version", "version", f"knows {ENVELOPE_VERSION} and {FORWARD_VERSION}")


def _read_array(decode: Callable[[bytes], _T], value: bytes, shape: type[msgspec.Struct]) -> _T:
    failure: Malformed
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        failure = from_validation(error, shape)
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            failure = Malformed("truncated_envelope", None, "The envelope ends before its last field.")
        else:
            failure = Malformed("invalid", None, "The envelope is not valid MessagePack, or something follows it.")
    except UnicodeDecodeError:
        failure = Malformed("not_utf8", None, "A text in the envelope is not UTF-8.")
    except RecursionError:
        failure = Malformed("invalid", None, "The envelope is nested too deep.")
    raise failure


def _check_envelope(envelope: WireEnvelope) -> None:
    if _NAME_MATCH(envelope.producer_id) is None:
        raise Malformed("invalid", "producer_id", "must be 1 to 64 letters, digits or ._:/@-")
    if not 0 <= envelope.producer_epoch <= _COUNT_MAX:
        raise Malformed("invalid", "producer_epoch", f"must lie between 0 and {_COUNT_MAX}")
    if not 1 <= envelope.sequence <= _COUNT_MAX:
        raise Malformed("invalid", "sequence", f"must lie between 1 and {_COUNT_MAX}")
    if not 0 <= envelope.sent_at_ms < bounds.EPOCH_MS_MAX:
        raise Malformed("invalid", "sent_at_ms", f"must lie between 0 and {bounds.EPOCH_MS_MAX}")
    if envelope.node is not None and _NAME_MATCH(envelope.node) is None:
        raise Malformed("invalid", "node", "must be 1 to 64 letters, digits or ._:/@-")
    if not 1 <= len(envelope.events) <= bounds.ENVELOPE_EVENTS_MAX:
        raise Malformed("invalid", "events", f"must be 1 to {bounds.ENVELOPE_EVENTS_MAX}")


def _check_forward(forward: WireForward) -> None:
    if _TOPIC(forward.topic) is None:
        raise Malformed("invalid", "topic", "must be the name of a topic")
    for field, value, most in (
        ("partition", forward.partition, 2**31 - 1),
        ("offset", forward.offset, _COUNT_MAX),
        ("index", forward.index, 2**31 - 1),
        ("logged_at_ms", forward.logged_at_ms, bounds.EPOCH_MS_MAX),
    ):
        if not 0 <= value <= most:
            raise Malformed("invalid", field, f"must lie between 0 and {most}")
    validate_event(forward.event)
    if forward.event.id is None:
        raise Malformed("invalid", "event.id", "is missing: the partition that forwards an event names it")
