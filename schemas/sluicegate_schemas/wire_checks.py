"""The bounds of one event as it travels in envelopes: the same that ``usage.UsageEvent`` sets for JSON."""

import re
from typing import Final, NoReturn, get_args

import msgspec
from msgspec import Meta

from . import bounds
from .bounds import full_match
from .envelope import WireCharge, WireEvent
from .limits import QuantityName
from .outputs import RejectReason
from .usage import ResourceName

QUANTITY_NAMES: Final = frozenset(get_args(QuantityName))
RESOURCE_NAMES: Final = frozenset(get_args(ResourceName))
RESOURCE_DELTA_MAX: Final = 10**12

_EVENT_ID: Final = full_match(bounds.EVENT_ID_PATTERN).match
_NAME: Final = full_match(bounds.NAME_PATTERN).match
_LABEL_NAME: Final = full_match(bounds.LABEL_NAME_PATTERN).match
_ORGANIZATION_ID: Final = full_match(bounds.ORGANIZATION_ID_PATTERN).match
_API_KEY_ID: Final = full_match(bounds.API_KEY_ID_PATTERN).match
_OPERATION: Final = full_match(bounds.OPERATION_PATTERN).match

_PLACE: Final = re.compile(r"`\$(\S*?)`\Z")
_STEP: Final = re.compile(r"\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"Object missing required field `([a-z_]+)`\Z")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
HARMLESS_NAME: Final = re.compile(r"(?!sk_)[a-z][a-z_]{0,31}\Z").match
"""Matches a field name that may be repeated where a record is refused; any other may hold anything."""
_HARMLESS: Final = ("Expected ", "Number out of range", "Integer value out of range")
_ELEMENTS: Final[dict[str, type[msgspec.Struct]]] = {"events": WireEvent, "event": WireEvent, "charges": WireCharge}
"""What the fields of the wire structs hold that are structs themselves."""


def matching(pattern: str) -> Meta:
    """The constraint that all of a text matches ``pattern``."""
    return Meta(pattern=full_match(pattern).pattern)


def is_name(text: object) -> bool:
    """Whether ``text`` may be a model, or the value of a label."""
    return isinstance(text, str) and _NAME(text) is not None


def is_label(name: object, value: object) -> bool:
    """Whether an event may carry the label."""
    return isinstance(name, str) and _LABEL_NAME(name) is not None and is_name(value)


def is_operation(text: object) -> bool:
    """Whether ``text`` may be the name of an operation."""
    return isinstance(text, str) and _OPERATION(text) is not None


def is_subject(text: object) -> bool:
    """Whether an event may be about ``text``."""
    return isinstance(text, str) and _EVENT_ID(text) is not None


class Malformed(ValueError):  # noqa: N818 - a verdict on a record, raised to unwind; the name is in every signature
    """A usage record that cannot be used: why, and which field, as ``outputs.Reject`` says it.

    ``detail`` is one sentence that repeats nothing of the record but harmless field names.
    """

    def __init__(self, reason: RejectReason, field: str | None, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.reason: Final = reason
        self.field: Final = field
        self.detail: Final = detail


def from_validation(error: msgspec.ValidationError, shape: type[msgspec.Struct] | None = None) -> Malformed:
    """``error`` as Malformed, without what msgspec repeats of the record. ``shape`` names the positions of arrays."""
    message, _, place = str(error).partition(" - at ")
    path = match[1] if (match := _PLACE.search(place)) else ""
    field = (_named(path, shape) if shape is not None else path.removeprefix("."))[:128]
    if match := _MISSING.match(message):
        return Malformed("invalid", f"{field}.{match[1]}".removeprefix("."), "is missing")
    if match := _UNKNOWN.match(message):
        name = match[1]
        detail = f"has an unknown field: {name}" if HARMLESS_NAME(name) else "has an unknown field"
        return Malformed("invalid", field or None, detail)
    if not message.startswith(_HARMLESS):
        message = "is not one of the values allowed"
    return Malformed("invalid", field or None, message.replace("`", ""))


def _named(path: str, shape: type[msgspec.Struct]) -> str:
    """``[6][0][7]`` of an envelope as ``events[0].status``."""
    here: type[msgspec.Struct] | None = shape
    inside: type[msgspec.Struct] | None = None
    words = ""
    for step in _STEP.findall(path):
        if here is not None and step.isdigit():
            name = here.__struct_fields__[int(step)]
            words += f".{name}"
            inside = _ELEMENTS.get(name)
            here = inside if name == "event" else None
        else:
            words += f"[{step}]"
            here = inside
    return words.removeprefix(".")


def check_numbers(event: WireEvent) -> None:
    """Raises Malformed unless all of ``event`` keeps its bounds but the names that a worker looks up anyway:
    ``org_id``, ``account_id``, ``api_key_id`` and the operations. A name that was found in the worker's own tables is
    valid; one that was not found needs ``validate_event``."""
    if not (
        bounds.EPOCH_MS_MIN <= event.started_at_ms <= event.ts_ms < bounds.EPOCH_MS_MAX
        and 0 <= event.duration_ms <= bounds.DURATION_MS_MAX
        and 100 <= event.status <= 599
    ):
        _name_number(event)
    if event.quantities is not None:
        _check_quantities(event.quantities, "quantities")
    if event.id is not None and _EVENT_ID(event.id) is None:
        _invalid("id", "must be 1 to 128 letters, digits or ._:/+=@#~-")
    if event.subject is not None and _EVENT_ID(event.subject) is None:
        _invalid("subject", "must be 1 to 128 letters, digits or ._:/+=@#~-")
    if event.model is not None and _NAME(event.model) is None:
        _invalid("model", "must be 1 to 64 letters, digits or ._:/@-")
    if event.node is not None and _NAME(event.node) is None:
        _invalid("node", "must be 1 to 64 letters, digits or ._:/@-")
    if event.charges:
        _check_charges(event.charges)
    if event.labels:
        _check_labels(event.labels)
    if event.resource_delta:
        _check_resource_delta(event.resource_delta)
    if event.leases is not None:
        _check_leases(event.leases)


def validate_event(event: WireEvent) -> None:
    """Raises Malformed, naming the field, unless ``event`` keeps every bound and pattern of ``usage.UsageEvent``."""
    check_numbers(event)
    if _ORGANIZATION_ID(event.org_id) is None:
        _invalid("org_id", "must be org_ and 1 to 60 letters, digits, _ or -")
    if event.account_id is not None and _ORGANIZATION_ID(event.account_id) is None:
        _invalid("account_id", "must be org_ and 1 to 60 letters, digits, _ or -")
    if _OPERATION(event.operation) is None:
        _invalid("operation", "must be up to three lower-case words joined by points")
    if event.api_key_id is None:
        if event.operation != "storage":
            _invalid("api_key_id", "is required for all operations but storage")
    elif _API_KEY_ID(event.api_key_id) is None:
        _invalid("api_key_id", "must be key_ and 1 to 60 letters, digits, _ or -")
    for index, charge in enumerate(event.charges or ()):
        if _OPERATION(charge.operation) is None:
            _invalid(f"charges[{index}].operation", "must be up to three lower-case words joined by points")


def _invalid(field: str, detail: str) -> NoReturn:
    raise Malformed("invalid", field, detail)


def _name_number(event: WireEvent) -> NoReturn:
    for field in ("started_at_ms", "ts_ms"):
        if not bounds.EPOCH_MS_MIN <= getattr(event, field) < bounds.EPOCH_MS_MAX:
            _invalid(field, "must lie between 2020-01-01 and 2100-01-01")
    if event.started_at_ms > event.ts_ms:
        _invalid("started_at_ms", "must not lie after ts_ms")
    if not 0 <= event.duration_ms <= bounds.DURATION_MS_MAX:
        _invalid("duration_ms", f"must lie between 0 and {bounds.DURATION_MS_MAX}")
    _invalid("status", "must lie between 100 and 599")


def _check_quantities(quantities: dict[str, int], field: str) -> None:
    for name, value in quantities.items():
        if name not in QUANTITY_NAMES:
            _invalid(field, f"knows only {', '.join(sorted(QUANTITY_NAMES))}")
        if not 0 <= value <= bounds.QUANTITY_MAX:
            _invalid(f"{field}.{name}", f"must lie between 0 and {bounds.QUANTITY_MAX}")


def _check_charges(charges: list[WireCharge]) -> None:
    if len(charges) > bounds.CHARGES_MAX:
        _invalid("charges", f"must not be more than {bounds.CHARGES_MAX}")
    for index, charge in enumerate(charges):
        if charge.quantities is not None:
            _check_quantities(charge.quantities, f"charges[{index}].quantities")
        if charge.model is not None and _NAME(charge.model) is None:
            _invalid(f"charges[{index}].model", "must be 1 to 64 letters, digits or ._:/@-")


def _check_labels(labels: dict[str, str]) -> None:
    if len(labels) > bounds.LABELS_MAX:
        _invalid("labels", f"must not be more than {bounds.LABELS_MAX}")
    for name, value in labels.items():
        if _LABEL_NAME(name) is None:
            _invalid("labels", "a name must be 1 to 32 lower-case letters, digits or _")
        if _NAME(value) is None:
            _invalid("labels[...]", "must be 1 to 64 letters, digits or ._:/@-")


def _check_resource_delta(resource_delta: dict[str, int]) -> None:
    for name, value in resource_delta.items():
        if name not in RESOURCE_NAMES:
            _invalid("resource_delta", f"knows only {', '.join(sorted(RESOURCE_NAMES))}")
        if not -RESOURCE_DELTA_MAX <= value <= RESOURCE_DELTA_MAX:
            _invalid(f"resource_delta.{name}", f"must lie between -{RESOURCE_DELTA_MAX} and {RESOURCE_DELTA_MAX}")


def _check_leases(leases: list[str]) -> None:
    if len(leases) > bounds.LEASES_MAX:
        _invalid("leases", f"must not be more than {bounds.LEASES_MAX}")
    if len(set(leases)) != len(leases):
        _invalid("leases", "must not name one twice")
    for lease in leases:
        if _EVENT_ID(lease) is None:
            _invalid("leases[...]", "must be 1 to 128 letters, digits or ._:/+=@#~-")
