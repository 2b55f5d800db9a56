"""What a record of the usage topic holds, read with the schemas alone (no code of the workers)."""

from __future__ import annotations

from sluicegate_schemas.decode import Malformed, UsageContent, decode_usage
from sluicegate_schemas.envelope import TICK, WireEnvelope, WireEvent, WireForward

Usage = UsageContent | Malformed


def parse_usage(value: bytes | None) -> Usage | None:
    """The content of a usage record, or what is wrong with it; None for a tick."""
    if value == TICK:
        return None
    try:
        return decode_usage(value)
    except Malformed as error:
        return error


def events_in(usage: Usage | None) -> tuple[WireEvent, ...]:
    """The events of a parsed record."""
    match usage:
        case WireEnvelope():
            return tuple(usage.events)
        case WireForward():
            return (usage.event,)
        case WireEvent():
            return (usage,)
        case _:
            return ()
