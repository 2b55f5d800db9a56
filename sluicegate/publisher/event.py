"""One event, checked and encoded where it happens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Required, TypedDict

import msgspec

from sluicegate_schemas import bounds
from sluicegate_schemas.envelope import ENCODE, WireCharge, WireEvent
from sluicegate_schemas.wire_checks import Malformed, from_validation, validate_event

Charge = WireCharge
"""One priced operation inside a request: ``Charge(operation, quantities, model, cached)``."""

_ABSENT: Final = {"id": None, "api_key_id": None}
DECODE_EVENT: Final = msgspec.msgpack.Decoder(WireEvent).decode


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why ``publish`` turned an event away, and the fields that it was called with."""

    reason: str
    """In words, with the field's name."""
    fields: dict[str, Any]


OnRefused = Callable[[Refusal], None]


class EventFields(TypedDict, total=False):
    """The fields of a usage event (requirements, section 2); times are UTC epoch milliseconds."""

    org_id: Required[str]
    operation: Required[str]
    started_at_ms: Required[int]
    ts_ms: Required[int]
    """When the request ended."""
    duration_ms: Required[int]
    status: Required[int]
    api_key_id: str | None
    """Required for every operation but "storage"."""
    quantities: dict[str, int] | None
    """None for one request and nothing else."""
    charges: Sequence[Charge] | None
    model: str | None
    cached: bool
    labels: dict[str, str] | None
    resource_delta: dict[str, int] | None
    subject: str | None
    leases: list[str] | None
    """The leases that the cost was admitted out of (hard limits)."""
    account_id: str | None
    """The account that pays, where it is not the organization. It decides the partition."""
    id: str | None
    """Not needed: the event's place in its envelope names it."""


def encode_event(fields: EventFields) -> tuple[str, bytes]:
    """The account, and the event as MessagePack: a copy that later changes to its dictionaries do not reach.

    Raises Malformed, naming the field, where no worker would accept it; TypeError where a field is missing or unknown.
    """
    try:
        data = ENCODE(WireEvent(**_ABSENT | fields))  # type: ignore[arg-type]  # decoding checks the types
        event = DECODE_EVENT(data)
    except msgspec.ValidationError as error:
        raise from_validation(error, WireEvent) from None
    except (OverflowError, UnicodeError, RecursionError) as error:
        raise Malformed("invalid", None, f"A value cannot be encoded: {error}") from None
    validate_event(event)
    if len(data) > bounds.EVENT_BYTES_MAX:
        raise Malformed("too_large", None, f"The event has {len(data)} bytes, more than {bounds.EVENT_BYTES_MAX}.")
    return event.account_id or event.org_id, data
