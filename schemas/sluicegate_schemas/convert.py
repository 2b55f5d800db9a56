"""One usage event in its two forms: the JSON record and the wire struct. Each conversion happens here, once."""

from collections.abc import Mapping

from .bounds import from_epoch_ms, to_epoch_ms
from .envelope import WireCharge, WireEvent
from .usage import Charge, Quantities, UsageEvent


def wire_quantities(given: Mapping[str, int | None]) -> dict[str, int] | None:
    """Quantities by name as they travel: seconds as milliseconds, one request left out, None if nothing is left."""
    quantities: dict[str, int] = {}
    for name, value in given.items():
        if value is None or (name == "requests" and value == 1):
            continue
        if name == "seconds":
            quantities["milliseconds"] = value * 1000
        else:
            quantities[name] = value
    return quantities or None


def to_wire(event: UsageEvent) -> WireEvent:
    """``event`` as it travels; an ``account_id`` that says what is so without it is left out."""
    return WireEvent(
        id=event.id,
        org_id=event.org_id,
        api_key_id=event.api_key_id,
        operation=event.operation,
        started_at_ms=to_epoch_ms(event.started_at),
        ts_ms=to_epoch_ms(event.ts),
        duration_ms=event.duration_ms,
        status=event.status,
        quantities=wire_quantities(dict(event.quantities)),
        model=event.model,
        cached=event.cached,
        charges=[
            WireCharge(charge.operation, wire_quantities(dict(charge.quantities)), charge.model, charge.cached)
            for charge in event.charges
        ]
        or None,
        labels=dict(event.labels) or None,
        resource_delta={str(name): delta for name, delta in event.resource_delta.items()} or None,
        subject=event.subject,
        account_id=None if event.account_id == event.org_id else event.account_id,
        node=event.node,
    )


def from_wire(event: WireEvent) -> UsageEvent:
    """``event`` as a record. Raises ValueError if it breaks a bound, or has no id: the worker names those."""
    return UsageEvent.model_validate(
        {
            "id": event.id,
            "org_id": event.org_id,
            "api_key_id": event.api_key_id,
            "operation": event.operation,
            "started_at": from_epoch_ms(event.started_at_ms),
            "ts": from_epoch_ms(event.ts_ms),
            "duration_ms": event.duration_ms,
            "status": event.status,
            "quantities": Quantities.model_validate(event.quantities or {}),
            "model": event.model,
            "cached": event.cached,
            "charges": tuple(_charge(charge) for charge in event.charges or ()),
            "labels": event.labels or {},
            "resource_delta": event.resource_delta or {},
            "subject": event.subject,
            "account_id": event.account_id,
            "node": event.node,
        }
    )


def _charge(charge: WireCharge) -> Charge:
    return Charge(
        operation=charge.operation,
        quantities=Quantities.model_validate(charge.quantities or {}),
        model=charge.model,
        cached=charge.cached,
    )
